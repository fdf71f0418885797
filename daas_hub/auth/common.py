"""What every way of signing in has in common: who is let in, what the hub stores, settings, one refresh for many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

from tornado import web

from daas_hub.core.errors import ConfigError, DirectoryBusy, DirectoryUnavailable, LedgerBusy, ProviderUnavailable
from daas_hub.core.groups import SiteGroups, union
from daas_hub.core.models import Identity

NOT_OPEN = "Your password is right, but this service is not open to you. Ask its administrator."


LISTS = ("allow_all", "allow_existing_users", "allowed_users", "allowed_groups", "admin_users", "admin_groups")
"""Settings that let somebody in."""


def lets_somebody_in(authenticator: Any) -> bool:
    """Whether the lists of an authenticator name anybody at all."""
    return any(getattr(authenticator, setting, None) for setting in LISTS)


def identity_in(auth_state: dict[str, Any] | None, key: str = "identity") -> Identity | None:
    """The identity that a sign-in left in auth_state; ``came_by`` is the provider's where there is one."""
    stored = ((auth_state or {}).get("daas") or {}).get(key)
    return Identity(**{**stored, "groups": tuple(stored["groups"])}) if stored else None


def model_of(authenticator: Any, identity: Identity, user_name: str = "", **more: Any) -> dict[str, Any]:
    """What the hub stores. ``admin`` is always said, so that who leaves the group is none any more.

    ``user_name``: the hub user who she is already, whatever she is called elsewhere now.
    """
    groups, name = set(identity.groups), user_name or identity.name
    # The hub maps a name after this; its administrators are those of the names that it then knows.
    hers = user_name or authenticator.normalize_username(identity.name)
    return {
        "name": name,
        "admin": hers in authenticator.admin_users or bool(groups & authenticator.admin_groups),
        "groups": sorted(groups),
        # When this was true: how long it counts without a new answer is the site's to say (core/access.py).
        "auth_state": {"daas": {"version": 1, "confirmed_at": int(time.time()), "identity": asdict(identity), **more}},
    }


class GroupsOfTheSite:
    """Where the local groups and projects of somebody are asked for; nowhere until the wiring says it."""

    def __init__(self) -> None:
        self.ask: Callable[[Identity], Awaitable[SiteGroups]] | None = None
        self._warned: set[str] = set()

    async def united(
        self, authenticator: Any, identity: Identity, make: Callable[[Identity], dict[str, Any]]
    ) -> dict[str, Any]:
        """The model that ``make`` gives for somebody in all her groups: the directory's, local ones, projects'.

        The identity in it stays what the directory says. Raises LedgerBusy.
        """
        if self.ask is None:
            return make(identity)
        found = union(identity.groups, await self.ask(identity))
        for name in sorted({*found.left_out} - self._warned):
            self._warned.add(name)
            authenticator.log.warning(
                "group_name_taken: the directory has a group %s, which is a local group of this hub. The directory's "
                "counts for nobody here until the local one is deleted.",
                name,
            )
        model = make(replace(identity, groups=found.names))
        model["auth_state"]["daas"]["identity"]["groups"] = identity.groups
        return model


site_groups = GroupsOfTheSite()
"""Those of the hub of this process."""


def try_again(error: DirectoryUnavailable | LedgerBusy) -> web.HTTPError:
    """The page for a directory that is away, or for too many at once: 503, with when to come back."""
    reason = "Directory unavailable"
    if isinstance(error, LedgerBusy):
        reason = "Ledger busy"
    elif isinstance(error, DirectoryBusy):
        reason = "Too many sign-ins at once"
    elif isinstance(error, ProviderUnavailable):
        reason = "Identity provider unavailable"
    exception = web.HTTPError(503, error.message, reason=reason)
    # What JupyterHub's pages copy into their answer (handlers/base.py, write_error).
    vars(exception)["headers"] = {"Retry-After": str(round(error.retry_after_s or 30))}
    return exception


async def maybe(value: Any) -> Any:
    """What JupyterHub's hooks give, awaited where it must be."""
    return await value if hasattr(value, "__await__") else value


def refuse_unknown_settings(
    authenticator: Any, page: str, *, replaced: Iterable[str] = (), also: Iterable[str] = ()
) -> None:
    """A renamed setting that is ignored let everybody in once (oauthenticator CVE-2020-26250). Raises ConfigError.

    ``replaced``: settings of a parent class that have no effect here. ``also``: sections of parent classes that are
    looked at as well; the authenticator's own always is.
    """
    known = set(authenticator.class_trait_names(config=True)) - set(replaced)
    sections = [type(authenticator).__name__, *also]
    wrong = [f"c.{s}.{name}" for s in sections for name in sorted(set(authenticator.config.get(s, {})) - known)]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)}: no such setting. {page} lists them all.")


class OneAtATime:
    """Many requests at once for the same person do the work once and share what comes of it, errors too."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def do(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Begin, or join whoever has begun. Who gives up waiting does not end it for the others."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(work())
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)
