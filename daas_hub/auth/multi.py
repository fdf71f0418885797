"""Any number of ways to sign in, on one page: directories, OpenID providers, and a key behind glass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tornado import web
from traitlets import Dict, List, Unicode, default

from daas_hub.auth import break_glass, ways
from daas_hub.auth.attempts import Attempts
from daas_hub.auth.common import identity_in, lets_somebody_in, maybe, refuse_unknown_settings, site_groups, try_again
from daas_hub.auth.link_cookie import WaitingPeople
from daas_hub.auth.looks import Look, Person, look
from daas_hub.auth.mail_settings import MailTraits
from daas_hub.auth.names import OneName
from daas_hub.auth.oidc_site_tokens import SiteTokensOfWays
from daas_hub.auth.oidc_states import Pending
from daas_hub.auth.own_name import OwnNames
from daas_hub.auth.pages import AskHandler, CodeHandler, LinkHandler, LogoutOfWayHandler
from daas_hub.auth.sites import LinkedSites
from daas_hub.auth.unlink_pages import UnlinkHandler
from daas_hub.auth.ways import Way
from daas_hub.core.access import Answer
from daas_hub.core.allocation import Kind
from daas_hub.core.errors import AccountRefused, ConfigError, DirectoryUnavailable, LedgerBusy
from daas_hub.core.models import Identity

RESERVED = "This name is kept for the administrator of this machine. Ask whoever administers this service."


class DaasAuthenticator(SiteTokensOfWays, MailTraits, Attempts, OneName):
    """Entry point ``daas``. With a directory among the ways, providers are ways into its accounts, by links."""

    ways = List(
        Dict(),
        help="The ways to sign in, in the order of the page; providers stand first in any case. Each is a dict with "
        "`kind` (`ldap` or `oidc`), `name` (in addresses and logs; lasting), `label` (what the page calls it) and "
        "`settings` (those of DaasLDAPAuthenticator or DaasOIDCAuthenticator).",
    ).tag(config=True)

    break_glass_file = Unicode(
        "",
        help="File with the name and the hashed password of a local administrator, made by `daas-hub break-glass`, "
        "readable by the hub only. She can sign in when all directories and providers are away; each try is logged "
        "and audited, and she has no servers. Empty: there is none.",
    ).tag(config=True)

    @default("manage_groups")
    def _groups_are_the_sites(self) -> bool:
        return True

    @default("enable_auth_state")
    def _identity_travels_in_it(self) -> bool:
        return True

    @default("allow_existing_users")
    def _the_ways_decide(self) -> bool:
        return False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        refuse_unknown_settings(self, "docs/reference/sign-in.md")
        made = ways.build(self.ways, self.config)
        if not made and not self.break_glass_file:
            raise ConfigError("DaasAuthenticator.ways is empty: nobody could sign in.")
        self.providers = {way.name: way for way in made if way.kind == "oidc"}
        self.directory_ways = {way.name: way for way in made if way.kind == "ldap"}
        self.directories = {ways.issuer_of(way): way.authenticator for way in self.directory_ways.values()}
        for way in self.providers.values():
            self._require_directory(way)
            if self.directories:
                way.authenticator.sites = LinkedSites(self, way.name)
        self.local = break_glass.read(self.break_glass_file).name if self.break_glass_file else ""
        self.waiting = WaitingPeople()
        self.linking: Any = None
        """``accounts.linking.Linking``, given by the wiring before the hub serves."""
        self._names = OwnNames()
        self.letters = self.mail_queue()

    def check_allow_config(self) -> None:
        """JupyterHub's own looks at the lists of this class; here those of the ways count, a directory's first."""
        for way in (self.directory_ways or self.providers).values():
            if not lets_somebody_in(way.authenticator):
                self.log.warning("%s, way %s: its lists let nobody in. Set allowed_groups.", ways.SETTING, way.name)

    # ------------------------------------------------------------ pages

    def get_handlers(self, _app: Any) -> list[Any]:
        """Those of every provider, and ours under ``/hub/daas/``."""
        pages = [
            (r"/daas/link", LinkHandler),
            (r"/daas/link/ask", AskHandler),
            (r"/daas/link/code", CodeHandler),
            (r"/logout", LogoutOfWayHandler),
        ]
        pages.append((r"/daas/unlink/([0-9]{1,15})", UnlinkHandler))
        return [page for way in self.providers.values() for page in way.authenticator.way_handlers()] + pages

    @property
    def has_form(self) -> bool:
        """Whether the page asks for a name and a password at all."""
        return bool(self.directory_ways or self.local)

    # ------------------------------------------------------------ sign in

    async def authenticate(self, handler: Any, data: Any = None, **_more: Any) -> dict[str, Any] | None:
        """By the way that the data come from. What a form sends can never be taken for a provider's answer."""
        if isinstance(data.get("pending"), Pending):
            provider = self.providers[data["way"]].authenticator
            model: dict[str, Any] | None = await provider.authenticate(handler, data)
        elif self.local and self.normalize_username(data.get("username", "")) == self.local:
            return await self._break_glass(handler, data)
        else:
            model = await self.by_password(handler, data)
        if model is None:
            return None
        identity = identity_in(model["auth_state"])
        if identity is None or self.normalize_username(model["name"]) == self.local:
            raise web.HTTPError(409, RESERVED)
        await self.require_own_name(handler, identity)
        return model

    def _require_directory(self, way: Way) -> None:
        rule = way.authenticator.link_rule
        if rule is not None and rule.directory not in self.directory_ways:
            known = ", ".join(self.directory_ways) or "none"
            raise ConfigError(
                f"{ways.SETTING}, way {way.name}: link_by names the directory {rule.directory!r}; this hub has {known}."
            )
        if rule is not None:
            settings = self.directory_ways[rule.directory].authenticator.directory.settings
            if rule.attribute.lower() in {n.lower() for n in (settings.name_attribute, *settings.login_attributes)}:
                raise ConfigError(
                    f"{ways.SETTING}, way {way.name}: link_by has {rule.attribute}, a name that people sign in with; "
                    "an equal name proves nothing."
                )

    async def require_open(self, handler: Any, identity: Identity, model: dict[str, Any] | None = None) -> None:
        """Raise HTTPError where this person of a directory is not let in here. ``model``: of her sign-in, if any.

        Raises LedgerBusy.
        """
        if model is None:
            model = await site_groups.united(self, identity, self.directories[identity.issuer].auth_model)
        name = self.normalize_username(model["name"])
        await self.check_blocked_users(name, model)
        await self.check_allowed(name, model)
        await self.require_own_name(handler, identity)

    async def require_own_name(self, handler: Any, identity: Identity) -> None:
        """Raise HTTPError 409 where her name here is another one's: that of the hub user she is, else the directory's.

        Raises HTTPError 503 for a ledger that is busy.
        """
        try:
            before = await self.linking.user_of((identity.issuer, identity.subject)) if self.linking else ""
        except LedgerBusy as error:
            raise try_again(error) from error
        await self._names.require(handler, self, replace(identity, name=before or identity.name))

    async def by_password(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """Judged by the directory that the form names, and by no other: a password is shown to one server only."""
        name = data.get("way", "") or next(iter(self.directory_ways), "")
        if name not in self.directory_ways:
            raise web.HTTPError(400, "The form names no directory of this service.")
        given = {field: data[field] for field in ("username", "password") if field in data}
        found: dict[str, Any] | None = await self.directory_ways[name].authenticator.authenticate(handler, given)
        return found

    async def _break_glass(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        where = getattr(getattr(handler, "request", None), "remote_ip", "") or "unknown"
        async with self.attempt(handler) as attempt:
            attempt.admit(self.local)
            # Read again each time: a file that is taken away or changed counts at once.
            proved = await asyncio.to_thread(self._proves, data.get("password", "")[:4096])
            attempt.failed = not proved
        self.log.critical("Break-glass sign-in as %s from %s: %s", self.local, where, "in" if proved else "refused")
        await self._audit("break_glass_in" if proved else "break_glass_refused", where)
        return self._local_model() if proved else None

    def _proves(self, password: str) -> bool:
        try:
            entry = break_glass.read(self.break_glass_file)
        except ConfigError as error:
            self.log.critical("The break-glass administrator cannot sign in: %s", error.log_message)
            return False
        return entry.proves(password) and entry.name == self.local

    async def _audit(self, action: str, where: str) -> None:
        """A ledger that is away as well keeps nobody out: the log has it."""
        try:
            async with asyncio.timeout(5):
                await self.linking.audit(f"local:{self.local}", action, where)
        except Exception as error:
            self.log.critical("Break-glass is not in the audit: %s", error)

    def _local_model(self) -> dict[str, Any]:
        identity = {"issuer": break_glass.ISSUER, "subject": self.local, "name": self.local, "groups": ()}
        state = {"daas": {"version": 1, "identity": identity}}
        return {"name": self.local, "admin": True, "groups": [], "auth_state": state}

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """By the lists of the way that she came by, or of the directory that knows her."""
        if auth_model is None:
            return bool(await maybe(super().check_allowed(username, auth_model)))
        way = self._rules(auth_model["auth_state"])
        return way is None or bool(await way.check_allowed(username, auth_model))

    async def check_blocked_users(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """The same for those who may not."""
        if not await maybe(super().check_blocked_users(username, auth_model)):
            return False
        way = self._rules(auth_model["auth_state"]) if auth_model is not None else None
        return way is None or bool(await way.check_blocked_users(username, auth_model))

    def lists_of(self, model: dict[str, Any]) -> Any:
        """The authenticator whose lists say what somebody may do: her directory's, else her provider's."""
        identity = identity_in(model["auth_state"])
        directory = self.directories.get(identity.issuer) if identity is not None else None
        return directory or self._way(model["auth_state"]) or self

    def _rules(self, state: dict[str, Any] | None) -> Any | None:
        """None for the local administrator only; whoever came by no way of today is nobody."""
        identity = identity_in(state)
        if identity is not None and identity.issuer == break_glass.ISSUER and identity.subject == self.local:
            return None
        way = self._way(state)
        if way is None:
            raise web.HTTPError(403, "You signed in by a way that this service has no more. Sign in again.")
        return way

    def _way(self, state: dict[str, Any] | None) -> Any | None:
        """The authenticator that a sign-in came by."""
        came_by, identity = identity_in(state, "came_by"), identity_in(state)
        if came_by is not None:
            name = ((state or {}).get("daas") or {}).get("way", "")
            way = self.providers.get(name)
            return way.authenticator if way is not None and way.authenticator.issuer == came_by.issuer else None
        return self.directories.get(identity.issuer) if identity is not None else None

    # ------------------------------------------------------------ later

    async def refresh_user(self, user: Any, handler: Any = None, **_more: Any) -> bool | dict[str, Any]:
        """By the way that she came by; a way that is gone ends its sign-ins."""
        state = await user.get_auth_state()
        identity = identity_in(state)
        if identity is not None and identity.issuer == break_glass.ISSUER:
            return await self._still_local(identity)
        way = self._way(state)
        if way is None:
            return False
        found: bool | dict[str, Any] = await way.refresh_user(user, handler)
        return found

    async def look_at(self, people: Sequence[Person]) -> Sequence[Look]:
        """Each by the way that she came by, a page of people at a time. A way that is gone ends only her browser's."""
        looks: list[Look | None] = [None] * len(people)
        by_way: dict[int, list[int]] = {}
        ways = [self._way(person.state) for person in people]
        for number, way in enumerate(ways):
            if way is not None:
                by_way.setdefault(id(way), []).append(number)
        for numbers in by_way.values():
            found = await look(ways[numbers[0]], [people[number] for number in numbers])
            for number, one in zip(numbers, found, strict=True):
                looks[number] = one
        return [one or self._without_way(person) for one, person in zip(looks, people, strict=True)]

    def _without_way(self, person: Person) -> Look:
        identity = identity_in(person.state)
        if identity is not None and identity.issuer == break_glass.ISSUER:
            # Her own requests ask the file; she has no servers.
            return Look(Answer.VALID)
        return Look(Answer.SIGN_IN_AGAIN, why="you signed in by a way that this service has no more")

    async def _still_local(self, identity: Identity) -> bool:
        try:
            entry = await asyncio.to_thread(break_glass.read, self.break_glass_file)
        except ConfigError as error:
            self.log.critical("The break-glass administrator is signed in no longer: %s", error.log_message)
            return False
        return bool(self.local) and entry.name == identity.subject == self.local

    async def fresh_identity(self, identity: Identity, *, alone: bool = False) -> Identity | None:
        """As its source has it now. Raises AccountRefused for the local administrator, DirectoryUnavailable."""
        if identity.issuer == break_glass.ISSUER:
            raise AccountRefused(
                "The local administrator has no account of the site, so no server runs as her.", reason="break_glass"
            )
        found: Identity | None
        if identity.issuer in self.directories:
            found = await self.directories[identity.issuer].fresh_identity(identity, alone=alone)
            return found
        for way in self.providers.values():
            if not self.directories and way.authenticator.issuer == identity.issuer:
                found = await way.authenticator.fresh_identity(identity, alone=alone)
                return found
        raise DirectoryUnavailable(
            "You signed in by a way that this service has no more. Sign in again.",
            reason="other_directory",
            log_message=f"{identity.issuer} is no way of this hub any more",
        )

    async def has_number(self, kind: Kind, number: int) -> bool:
        """Whether any directory has given this uid or gid away. Raises DirectoryUnavailable."""
        for directory in self.directories.values():
            if await directory.has_number(kind, number):
                return True
        return False

    async def identity_named(self, name: str) -> Identity | None:
        """Who has this login name in the first directory that knows it. Raises DirectoryUnavailable."""
        for directory in self.directories.values():
            found: Identity | None = await directory.identity_named(name)
            if found is not None:
                return found
        return None
