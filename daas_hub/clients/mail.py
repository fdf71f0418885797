"""Mail that tells people what was done: one server, one message at a time, and nobody waits for it.

A mail is never the only word: the ledger has what was done, and the home page tells it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from daas_hub.core.errors import ConfigError
from daas_hub.core.letters import Letter, address

TLS = ("starttls", "implicit", "none")
MAX_WAITING = 100
Write = Callable[[], Awaitable[Letter | None]]
"""Makes a letter when its turn comes (whose address it needs is asked for then); None: nobody to send it to."""


@dataclass(frozen=True)
class MailSettings:
    """The mail server. Times are in seconds."""

    host: str
    port: int
    tls: str
    sender: str
    within_s: float
    ca_file: str | None = None
    user: str = ""
    password: str = ""


class Mail:
    """Sends one message. Raises ConfigError where it cannot work at all."""

    def __init__(self, settings: MailSettings) -> None:
        try:
            import aiosmtplib
        except ImportError as error:
            raise ConfigError("mail_host is set, but aiosmtplib is not installed: install daas-hub[mail].") from error
        if not address(settings.sender):
            raise ConfigError(f"mail_sender is {settings.sender!r}; it must be one plain mail address.")
        if settings.user and settings.tls == "none":
            raise ConfigError("mail_user needs mail_tls 'starttls' or 'implicit': its password would be readable.")
        self._settings, self._smtp = settings, aiosmtplib

    async def send(self, letter: Letter) -> None:
        """Within ``within_s``. Raises aiosmtplib's SMTPException, OSError, TimeoutError, ValueError."""
        if not address(letter.to):
            raise ValueError(f"{letter.to[:80]!r} is no plain mail address")
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._settings.sender, letter.to, letter.subject
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=self._settings.sender.split("@")[1])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text, cte="quoted-printable")
        to = self._settings
        async with asyncio.timeout(to.within_s):
            await self._smtp.send(
                message,
                sender=to.sender,
                recipients=[letter.to],
                hostname=to.host,
                port=to.port,
                use_tls=to.tls == "implicit",
                # False: never, also where the server offers it; True: refuse to go on without.
                start_tls=to.tls == "starttls",
                cert_bundle=to.ca_file,
                username=to.user or None,
                password=to.password or None,
                timeout=to.within_s,
            )


class Letters:
    """A bounded queue before the mail server. ``mail`` None: nothing is sent."""

    def __init__(self, mail: Mail | None, log: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> None:
        self._mail, self._log = mail, log
        self._waiting: asyncio.Queue[Write] = asyncio.Queue(MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    @property
    def sends(self) -> bool:
        """Whether there is a mail server."""
        return self._mail is not None

    def post(self, write: Write) -> None:
        """Take a letter for sending; never waits and never fails. More than can wait are logged and dropped."""
        if self._mail is None:
            return
        try:
            self._waiting.put_nowait(write)
        except asyncio.QueueFull:
            self._log.error("A mail is not sent: %d wait already", MAX_WAITING)
            return
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send_all(self._mail))

    async def _send_all(self, mail: Mail) -> None:
        while not self._waiting.empty():
            write = self._waiting.get_nowait()
            letter: Letter | None = None
            try:
                letter = await write()
                if letter is not None:
                    await mail.send(letter)
            except Exception as error:
                # A server may answer anything, and so may the directory that knows the address.
                self._log.error("A mail to %s is not sent: %r", letter.to if letter else "somebody", error)

    async def sent(self) -> None:
        """Wait until what was taken so far is sent or given up."""
        if self._task is not None:
            await self._task
