"""What can be set about mail: which server, how it is spoken to, whose mail it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from traitlets import Enum, Float, HasTraits, Int, Unicode

from daas_hub.clients.mail import TLS, Letters, Mail, MailSettings
from daas_hub.core.errors import ConfigError


class MailTraits(HasTraits):
    """A part of DaasAuthenticator."""

    log: Any

    mail_host = Unicode(
        "",
        help="The mail server. People are then told by mail when a way into their account is linked or unlinked, and "
        "when their request for access is decided. Empty: nothing is mailed; home pages tell it in any case.",
    ).tag(config=True)

    mail_port = Int(587, min=1, max=65535, help="Port of the mail server; 465 with `mail_tls` `implicit`.").tag(
        config=True
    )

    mail_tls = Enum(
        list(TLS),
        "starttls",
        help="`starttls`: TLS after the greeting, and nothing without it; `implicit`: TLS from the first byte (port "
        "465); `none`: for a server on the same machine.",
    ).tag(config=True)

    mail_ca_file = Unicode(
        None, allow_none=True, help="File with the CA certificates (PEM) for it. None: the machine's own."
    ).tag(config=True)

    mail_user = Unicode("", help="Name to sign in with at the mail server. Empty: without.").tag(config=True)

    mail_password_file = Unicode("", help="File with the password for it, one line, readable by the hub only.").tag(
        config=True
    )

    mail_sender = Unicode("", help="The address that mail comes from; needed with `mail_host`.").tag(config=True)

    mail_within_s = Float(30.0, min=0.1, help="Seconds for one mail; then it is given up and logged.").tag(config=True)

    def mail_queue(self) -> Letters:
        """The queue before the mail server. Raises ConfigError."""
        if not self.mail_host:
            return Letters(None, self.log)
        password = ""
        if self.mail_password_file:
            try:
                password = Path(self.mail_password_file).read_text().rstrip("\r\n")
            except OSError as error:
                raise ConfigError(
                    f"mail_password_file {self.mail_password_file!r} cannot be read: {error.strerror}."
                ) from error
        settings = MailSettings(
            self.mail_host,
            self.mail_port,
            self.mail_tls,
            self.mail_sender,
            self.mail_within_s,
            self.mail_ca_file,
            self.mail_user,
            password,
        )
        return Letters(Mail(settings), self.log)
