"""A mail server in the test's own loop that keeps what it gets, and refuses whom it is told to."""

from __future__ import annotations

import asyncio
import ssl
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers.ports import free_port

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session


class Mailbox:
    """``certificate``: a folder with server.pem and server.key; then nothing is taken without STARTTLS."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.port = free_port()
        self.got: list[tuple[list[str], EmailMessage]] = []
        """(recipients of the envelope, message)."""
        self.refused: set[str] = set()
        self.silent = False
        self.asked: list[str] = []
        """All recipients that somebody wanted to send to."""
        self._more: dict[str, Any] = {}
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "server.pem", certificate / "server.key")
            self._more = {"tls_context": context, "require_starttls": True}
        self._server: asyncio.Server

    async def start(self) -> Mailbox:
        """Listen on the loopback interface."""
        from aiosmtpd.smtp import SMTP  # of the extra ``test``: see ``needs("aiosmtpd")``

        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="mail.test", enable_SMTPUTF8=False, loop=loop, **self._more),
            "127.0.0.1",
            self.port,
        )
        return self

    async def stop(self) -> None:
        """End."""
        self._server.close()
        await self._server.wait_closed()

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked.append(address)
        if self.silent:
            await asyncio.Event().wait()
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.got.append((list(envelope.rcpt_tos), message))
        return "250 kept"

    def to(self, address: str) -> list[EmailMessage]:
        """What came for one address, oldest first."""
        return [message for recipients, message in self.got if recipients == [address]]
