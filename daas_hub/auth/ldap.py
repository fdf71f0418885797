"""Sign-in with the site's directory: the service finds the person, a bind as her proves the password."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tornado import web
from traitlets import Bool, Float, Int, Set, Unicode, default

from daas_hub.auth.attempts import Attempts
from daas_hub.auth.common import (
    NOT_OPEN,
    OneAtATime,
    identity_in,
    maybe,
    model_of,
    refuse_unknown_settings,
    site_groups,
    try_again,
)
from daas_hub.auth.ldap_flavour import LDAPFlavour
from daas_hub.auth.ldap_look import LooksByDirectory
from daas_hub.auth.ldap_servers import LDAPServers
from daas_hub.auth.ldap_told import GUESSED, TOLD
from daas_hub.auth.names import OneName
from daas_hub.clients.directory import Address, Directory, DirectorySettings, Verdict
from daas_hub.core.allocation import Kind
from daas_hub.core.directory import ACTIVE
from daas_hub.core.errors import ConfigError, DirectoryBusy, DirectoryUnavailable, LedgerBusy
from daas_hub.core.models import Identity

JUST_NOW_S = 2.0
"""A start begins with a refresh; what that one found counts for the start itself for so long, once."""
NOT_STARTED = "The site's directory cannot be reached just now: the server was not started. Try again in a minute."
NOT_STARTED_BUSY = "Many people sign in and start servers just now: yours was not started. Try again in a moment."


class DaasLDAPAuthenticator(LooksByDirectory, LDAPFlavour, LDAPServers, Attempts, OneName):
    """Entry point ``daas-ldap``. Groups of the directory become JupyterHub's groups at each sign-in and refresh."""

    directory_name = Unicode(
        "ldap",
        help="The directory's name in identities and logs. Together with the entry's lasting id it is the key of an "
        "account, so changing it makes everybody a new person.",
    ).tag(config=True)

    tls_ca_file = Unicode(
        None,
        allow_none=True,
        help="File with the CA certificates (PEM) that may sign the server's. None: the machine's own.",
    ).tag(config=True)

    bind_dn = Unicode(
        help="DN of the service account that finds people. Empty: anonymous, where the directory allows it."
    ).tag(config=True)

    bind_password_file = Unicode(
        help="File with the service account's password, one line, readable by the hub only. Never in the config file."
    ).tag(config=True)

    user_search_base = Unicode(help="DN below which people are, for example `ou=people,dc=site`.").tag(config=True)

    group_search_base = Unicode(help="DN below which groups are. Empty: no groups are read.").tag(config=True)

    allowed_groups = Set(
        Unicode(), help="Groups of the directory whose members may sign in. Empty: groups let nobody in."
    ).tag(config=True)

    admin_groups = Set(
        Unicode(),
        help="Groups of the directory whose members are administrators, and may sign in. Who leaves them is none any "
        "more at the next sign-in or refresh.",
    ).tag(config=True)

    connect_within_s = Float(3.0, min=0.1, help="Seconds to connect. sssd waits 6; a login page is shorter.").tag(
        config=True
    )
    answer_within_s = Float(6.0, min=0.1, help="Seconds that the directory may take for one answer.").tag(config=True)
    login_within_s = Float(
        10.0,
        min=0.1,
        help="Seconds for the whole login, over all servers; after that the person is asked to try again.",
    ).tag(config=True)
    wait_within_s = Float(
        20.0,
        min=0.1,
        help="Seconds that a login or a start waits for its turn, before those of the login itself, where many come at "
        "once. 20 lets a full lecture hall in; more would be given up by the browser's owner.",
    ).tag(config=True)
    threads = Int(
        16,
        min=1,
        help="Threads for sign-ins, and as many again for starts and refreshes, so that neither waits for the other. "
        "Each question holds one, and a connection, while the directory answers; 32 for each thread may wait or be on "
        "their way. 16, because most of a sign-in is waiting: a lecture of 100 is in after a second at 10 ms.",
    ).tag(config=True)

    tell_locked = Bool(
        True,
        help="Tell a person that her account was locked by an administrator even where the server refuses a locked "
        "account without looking at the password (OpenLDAP). True, because she would go on trying; False, where it "
        "must not be learned that a locked name exists. A lock-out after failed attempts is never told.",
    ).tag(config=True)

    @default("manage_groups")
    def _groups_are_the_directorys(self) -> bool:
        return True

    @default("enable_auth_state")
    def _identity_travels_in_it(self) -> bool:
        return True

    @default("allow_existing_users")
    def _the_directory_decides(self) -> bool:
        # JupyterHub's default lets in whoever was ever let in as soon as `allowed_users` names somebody.
        return False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        refuse_unknown_settings(self, "docs/reference/ldap.md")
        self.directory = Directory(self.directory_settings())
        self._refreshing = OneAtATime()
        self._just_asked: dict[str, tuple[float, Identity]] = {}

    def directory_settings(self) -> DirectorySettings:
        """The settings in the form of the client. Raises ConfigError for what cannot work."""
        servers = self.listed_servers()
        if not self.user_search_base:
            raise ConfigError("DaasLDAPAuthenticator.user_search_base is empty; give the DN below which people are.")
        if self.tls_ca_file is not None and not Path(self.tls_ca_file).is_file():
            raise ConfigError(f"DaasLDAPAuthenticator.tls_ca_file {self.tls_ca_file!r} is not a file.")
        return DirectorySettings(
            name=self.directory_name,
            address=Address(
                uri=servers[0].uri if servers else f"ldap://{self.srv_domain}",
                allow_plaintext=self.allow_plaintext,
                ca_file=self.tls_ca_file,
                connect_within_s=self.connect_within_s,
                answer_within_s=self.answer_within_s,
                referral_hosts=frozenset(self.referral_hosts),
            ),
            servers=servers,
            srv_domain=self.srv_domain,
            bind_dn=self.bind_dn,
            bind_password=self._bind_password(),
            user_search_base=self.user_search_base,
            group_search_base=self.group_search_base,
            **self.flavour_settings(),
            login_within_s=self.login_within_s,
            hold_down_s=self.hold_down_s,
            wait_within_s=self.wait_within_s,
            threads=self.threads,
            tell_locked=self.tell_locked,
        )

    def _bind_password(self) -> str:
        if not self.bind_dn:
            return ""
        try:
            return Path(self.bind_password_file).read_text().rstrip("\r\n")
        except OSError as error:
            name = f"DaasLDAPAuthenticator.bind_password_file {self.bind_password_file!r}"
            raise ConfigError(f"{name} cannot be read: {error.strerror}.") from error

    # ------------------------------------------------------------ sign in

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """None for a wrong password and for somebody unknown; 403 with the reason where the account itself is refused;
        429 after too many wrong ones; 503 without a directory."""
        if "username" not in data or "password" not in data:
            raise web.HTTPError(400, "The login form has the fields username and password.")
        try:
            async with self.attempt(handler) as attempt:
                outcome = await self.directory.authenticate(data["username"], data["password"], attempt.admit)
                attempt.failed = outcome.verdict in GUESSED
        except DirectoryBusy as error:
            self.log.warning("More people sign in than can wait: %s", error.log_message)
            raise try_again(error) from error
        except DirectoryUnavailable as error:
            self.log.error("Nobody can sign in: %s", error.log_message)
            raise try_again(error) from error
        if outcome.verdict in TOLD:
            self.log.warning("A sign-in is refused: %s", outcome.verdict.value)
            raise web.HTTPError(403, TOLD[outcome.verdict])
        if outcome.verdict is Verdict.LOCKED_OUT:
            self.log.warning("A sign-in is refused by a lock-out after failed attempts")
        if outcome.identity is None:
            return None
        try:
            return await site_groups.united(self, outcome.identity, self.auth_model)
        except LedgerBusy as error:
            self.log.error("Nobody can sign in: %s", error.log_message)
            raise try_again(error) from error

    def auth_model(self, identity: Identity, user_name: str = "") -> dict[str, Any]:
        """What the hub stores. ``user_name``: the hub user who she is already, whatever the directory calls her now."""
        return model_of(self, identity, user_name)

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Allowed by name, by group, or as an administrator; else 403 with a sentence (not "wrong password")."""
        if await maybe(super().check_allowed(username, auth_model)) or auth_model is None:
            return True
        if auth_model["admin"] or set(auth_model["groups"]) & self.allowed_groups:
            return True
        raise web.HTTPError(403, NOT_OPEN)

    async def check_blocked_users(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Blocked people are told so: their password was right."""
        if await maybe(super().check_blocked_users(username, auth_model)):
            return True
        raise web.HTTPError(403, NOT_OPEN)

    # ------------------------------------------------------------ later

    async def refresh_user(self, user: Any, _handler: Any = None, **_more: Any) -> bool | dict[str, Any]:
        """Look again, without the password. Gone, locked or no longer allowed: False. Unreachable: nothing changes."""
        identity = identity_in(await user.get_auth_state())
        if identity is None:
            # No sign-in of ours is on record (another authenticator's, or a crypt key that is gone): sign in again.
            return False
        try:
            fresh = await self._refresh(identity)
            if fresh is None:
                self.log.warning("%s has no active account in the directory any more", user.name)
                return False
            # A hub user keeps her name; what runs as her goes by the identity, which has the new one.
            model = await site_groups.united(self, fresh, lambda identity: self.auth_model(identity, user.name))
        except (DirectoryUnavailable, LedgerBusy) as error:
            self.log.warning("%s stays signed in: %s", user.name, error.log_message)
            return True
        try:
            await self.check_blocked_users(user.name, model)
            await self.check_allowed(user.name, model)
        except web.HTTPError:
            self.log.warning("%s is not allowed any more", user.name)
            return False
        return model

    async def _refresh(self, identity: Identity) -> Identity | None:
        """Many requests at once ask the directory once."""
        fresh: Identity | None = await self._refreshing.do(identity.subject, lambda: self._ask_anew(identity))
        return fresh

    async def _ask_anew(self, identity: Identity) -> Identity | None:
        asked_at = time.monotonic()
        fresh = await self.fresh_identity(identity)
        if fresh is not None:
            self._remember(asked_at, fresh)
        return fresh

    def _remember(self, asked_at: float, fresh: Identity) -> None:
        """For the start that this refresh is a part of; the oldest come first, and go when they are of no use."""
        self._just_asked.pop(fresh.subject, None)
        self._just_asked[fresh.subject] = (asked_at, fresh)
        for subject, (at, _) in list(self._just_asked.items()):
            if asked_at - at <= JUST_NOW_S:
                break
            del self._just_asked[subject]

    async def _now_known(self, identity: Identity, alone: bool) -> Identity | None:
        at, just_asked = self._just_asked.pop(identity.subject, (0.0, None)) if alone else (0.0, None)
        if just_asked is not None and time.monotonic() - at <= JUST_NOW_S:
            await self.directory.require_alone(just_asked)
            return just_asked
        return _active(await self.directory.lookup_subject(identity.subject, alone=alone))

    async def fresh_identity(self, identity: Identity, *, alone: bool = False) -> Identity | None:
        """The identity as the directory has it now; None where she is gone or locked. For starts, too.

        ``alone``: raises AccountRefused where another entry has her uid (one more search). Raises
        DirectoryUnavailable, also for an identity of another directory: nothing can be said about it.
        """
        if identity.issuer != self.directory.issuer:
            raise DirectoryUnavailable(
                "You signed in with another directory. Sign in again.",
                reason="other_directory",
                log_message=f"{identity.issuer} is not asked any more; this hub asks {self.directory.issuer}",
            )
        try:
            return await self._now_known(identity, alone)
        except DirectoryBusy as error:
            raise DirectoryBusy(
                NOT_STARTED_BUSY, log_message=error.log_message, retry_after_s=error.retry_after_s
            ) from error
        except DirectoryUnavailable as error:
            raise DirectoryUnavailable(
                NOT_STARTED, reason=error.reason, log_message=error.log_message, retry_after_s=error.retry_after_s
            ) from error

    async def active(self, subject: str) -> Identity | None:
        """Who has this lasting id now; None: gone or locked. For sign-ins by a link. Raises DirectoryUnavailable."""
        return _active(await self.directory.lookup_subject(subject))

    async def active_with(self, attribute: str, value: str) -> Identity | None:
        """The one who has exactly this value and could sign in; None: nobody, or a locked account.

        Raises DirectoryUnavailable, also where several have it.
        """
        return _active(await self.directory.lookup_value(attribute, value))

    async def has_number(self, kind: Kind, number: int) -> bool:
        """Whether the directory has given this uid or gid to anybody. Raises DirectoryUnavailable."""
        return await self.directory.has_number(kind, number)

    async def identity_named(self, name: str) -> Identity | None:
        """Who has this login name in the directory now; None: nobody, or a locked account. Nobody has signed in.

        For administrators who name somebody before her first sign-in. Raises DirectoryUnavailable.
        """
        return _active(await self.directory.lookup(name))


def _active(found: tuple[Identity, Verdict] | None) -> Identity | None:
    return found[0] if found is not None and found[1] in ACTIVE else None
