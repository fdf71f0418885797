"""A user who is renamed or deleted in the hub takes the name out of the ledger, too.

The ledger knows which hub user has an account by name, from the last start on. Between a rename and the next start
that name would be somebody else's, who would then be shown another one's servers and notices.

A server that runs meanwhile goes on. It was told at its start whom to let in, by name (JupyterHub has no other key for
this). So its owner does not get in under the new name: she is told to start it again. And whoever else got the old
name would get in: until it has ended, nobody else is given that name, nor signs in with it.

The ledger is written off the event loop, in the order of the changes. Until that is done nobody gets a name that was
given up: neither by another rename nor by a sign-in, which waits for it. A hub that is killed before that forgets the
change; the next one gives the owners of servers that run the names that the hub has (``spawners/begun.py``), and a
sign-in takes a name from whoever has it wrongly.
"""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import Any

from jupyterhub import orm
from jupyterhub.utils import maybe_future
from sqlalchemy import event
from tornado import web

from daas_hub.core.errors import DaasError, LedgerBusy
from daas_hub.core.models import ACTIVE
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.people import identity_in
from daas_hub.spawners.runtime import DaasHub, utcnow

from .same_person import as_before, require_same
from .sweep import signed_in

LOOK_WITHIN_S = 0.5
"""How long a rename may keep the loop for its question to the ledger; what reads waits for no writer."""
WRITTEN_WITHIN_S = 8.0
"""How long a sign-in waits for changes of names that are still being written."""


class Changes:
    """Changes of names that the ledger does not have yet, oldest first; they are written one after the other."""

    def __init__(self) -> None:
        self._coming: list[tuple[str, str | None]] = []
        self._written: asyncio.Task[None] | None = None

    def add(self, site: DaasHub, old: str, new: str | None) -> None:
        """Write it as soon as the ledger can be written."""
        self._coming.append((old, new))
        if self._written is None or self._written.done():
            self._written = site.keep(self._write(site))

    def freed(self, name: str, by: str) -> bool:
        """Whether the ledger still gives this name to somebody who has given it up: another one than ``by``."""
        for old, new in reversed(self._coming):
            if new == by:
                by = old
            elif old == name:
                return True
        return False

    def in_ledger(self, name: str) -> str | None:
        """What the ledger calls the user of this name; None: nobody there is this user."""
        for old, new in reversed(self._coming):
            if name == new:
                name = old
            elif name == old:
                return None
        return name

    async def written(self) -> None:
        """Wait until all is written. Raises LedgerBusy where that takes too long."""
        if self._written is not None and not self._written.done():
            await asyncio.wait({self._written}, timeout=WRITTEN_WITHIN_S)
            if not self._written.done():
                raise LedgerBusy("Names of users are being changed just now. Try again in a moment.", retry_after_s=5)

    async def _write(self, site: DaasHub) -> None:
        while self._coming:
            old, new = self._coming[0]
            try:
                await _changed(site, old, new)
            except DaasError as error:
                site.log.error("The ledger keeps the name %s until its next start: %s", old, error.log_message)
            finally:
                self._coming.pop(0)


changes = Changes()
"""Those of the hub of this process."""


def follow(authenticator: Any) -> None:
    """Hear of every change of a user's name in this process, before it is answered; once, however often called."""
    if not event.contains(orm.User, "after_delete", _deleted):
        event.listen(orm.User.name, "set", _renamed, active_history=True)
        event.listen(orm.User, "after_delete", _deleted)
    if not isinstance(authenticator.post_auth_hook, SignIn):
        authenticator.post_auth_hook = SignIn(authenticator.post_auth_hook)


class SignIn:
    """The hub's hook after the password was right: the operator's own, if there is one, then ours."""

    def __init__(self, before: Any) -> None:
        self._before = before

    async def __call__(self, authenticator: Any, handler: Any, model: dict[str, Any]) -> dict[str, Any]:
        """The model of the hub user whom she is. Raise 409 where another account's server lets in whoever has her name,
        or where the hub user of that name is somebody else."""
        if self._before is not None:
            model = await maybe_future(self._before(authenticator, handler, model))
        site = DaasHub.instance()
        identity = identity_in(model.get("auth_state"))
        if identity is not None:
            try:
                await changes.written()
                own = await site.run(site.ledger.accounts.by_identity, identity.issuer, identity.subject)
                own_id = own.id if own is not None else ""
                model = await as_before(authenticator, model, own.user_name if own is not None else "")
                rows = await site.run(site.ledger.begun_as, model["name"])
                _require_own(site, model["name"], rows, own_id)
                await require_same(authenticator, handler, model["name"], identity)
                await _take_back(site, model["name"], own_id)
                signed_in(_user_of(handler, model["name"]))
            except DaasError as error:
                raise web.HTTPError(error.status, error.message) from error
        return model


def _user_of(handler: Any, name: str) -> Any | None:
    find = getattr(handler, "find_user", None)
    return find(name) if find is not None else None


async def _take_back(site: DaasHub, name: str, account_id: str) -> None:
    """Whoever else has this name in the ledger was renamed or deleted by a hub that was killed before it wrote it."""
    holder = await site.run(site.ledger.accounts.by_user_name, name)
    if holder is not None and holder.id != account_id:
        site.log.warning(
            "The name %s is taken from account %s: whoever signs in with it is another one", name, holder.id
        )
        await site.run(site.ledger.accounts.rename_user, name, None)


def _require_own(site: DaasHub, name: str, rows: list[LaunchRow], account_id: str) -> None:
    for row in rows:
        if row.account_id != account_id:
            site.log.warning("Nobody else is called %s while launch %s runs, which was begun under it", name, row.id)
            raise web.HTTPError(
                409,
                f"The name {name} is still taken: a server that somebody else started under it runs, and would let in "
                "whoever has the name now. Its owner or an administrator must stop it first.",
            )


def _renamed(_user: orm.User, new: str, old: object, _initiator: Any) -> None:
    if isinstance(old, str) and old != new:
        site = DaasHub.instance()
        try:
            owner_id, rows = site.look(LOOK_WITHIN_S, _begun, site, changes.in_ledger(old), new)
        except DaasError as error:
            raise web.HTTPError(error.status, error.message) from error
        _require_own(site, new, rows, owner_id)
        if changes.freed(new, old):
            raise web.HTTPError(503, f"The name {new} was given up a moment ago. Try again in a moment.")
        changes.add(site, old, new)


def _begun(site: DaasHub, old: str | None, new: str) -> tuple[str, list[LaunchRow]]:
    """The account of whoever is called ``old`` in the ledger, and what was begun under the name ``new``. Blocks."""
    owner = site.ledger.accounts.by_user_name(old) if old is not None else None
    return owner.id if owner is not None else "", site.ledger.begun_as(new)


def _deleted(_mapper: Any, _connection: Any, user: orm.User) -> None:
    changes.add(DaasHub.instance(), user.name, None)


async def _changed(site: DaasHub, old: str, new: str | None) -> None:
    """Write one change, however long the ledger is busy."""
    if new is None:
        await site.run_patiently(math.inf, _retain, site, old)
    await site.run_patiently(math.inf, site.ledger.accounts.rename_user, old, new)
    if new is not None:
        await site.run_patiently(math.inf, _tell, site, new)


def _retain(site: DaasHub, user_name: str) -> None:
    """A user who is deleted takes no data along: her volumes wait, and are in use again where she comes back."""
    now, days = utcnow(), site.retention_days
    kept = site.ledger.volumes.retain(user_name, now=now, expires_at=now + timedelta(days=days) if days else None)
    if kept:
        until = f"for {days} days" if days else "for ever"
        site.log.info("%s is deleted; %d volumes are retained %s: %s", user_name, len(kept), until, ", ".join(kept))


def _tell(site: DaasHub, user_name: str) -> None:
    """A notice for each server that she cannot use under her new name; a line in the log for the administrator.

    Blocks. Tried again it tells nobody twice.
    """
    owner = site.ledger.accounts.by_user_name(user_name)
    if owner is None:
        return
    for row in site.ledger.launches(states=ACTIVE, account_id=owner.id):
        if row.user_name != user_name:
            which = f"Your server {row.server_name}" if row.server_name else "Your server"
            text = (
                f"{which} goes on, but it was started while you were called {row.user_name} and lets nobody in as "
                f"{user_name}. To use it, stop it and start it again. Files in your home are kept."
            )
            if text not in (
                notice.text for notice in site.ledger.notices.list(owner.id, row.server_name, dismissed=True)
            ):
                site.ledger.notices.add(owner.id, row.server_name, text, now=utcnow())
            site.log.warning(
                "Launch %s of %s goes on with the name %s: she gets in after starting it again, and nobody else is "
                "given that name before",
                row.id,
                user_name,
                row.user_name,
            )
