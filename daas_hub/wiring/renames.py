"""A user who is renamed or deleted in the hub takes the name out of the ledger, too.

The ledger knows which hub user has an account by name, from the last start on. Between a rename and the next start
that name would be somebody else's, who would then be shown another one's servers and notices.

A server that runs meanwhile goes on. It was told at its start whom to let in, by name (JupyterHub has no other key for
this). So its owner does not get in under the new name: she is told to start it again. And whoever else got the old
name would get in: until it has ended, nobody else is given that name, nor signs in with it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from jupyterhub import orm
from jupyterhub.utils import maybe_future
from sqlalchemy import event
from tornado import web

from daas_hub.core.errors import DaasError
from daas_hub.core.models import ACTIVE
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.people import identity_in
from daas_hub.spawners.runtime import DaasHub, utcnow


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
        """Raise 409 where a server of another account lets in whoever has this name."""
        if self._before is not None:
            model = await maybe_future(self._before(authenticator, handler, model))
        site = DaasHub.instance()
        identity = identity_in(model.get("auth_state"))
        if identity is not None:
            try:
                rows = await site.run(site.ledger.begun_as, model["name"])
                own = await site.run(site.ledger.accounts.by_identity, identity.issuer, identity.subject)
            except DaasError as error:
                raise web.HTTPError(error.status, error.message) from error
            _require_own(site, model["name"], rows, own.id if own is not None else "")
        return model


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
            owner = site.ledger.accounts.by_user_name(old)
            rows = site.ledger.begun_as(new)
        except DaasError as error:
            raise web.HTTPError(error.status, error.message) from error
        _require_own(site, new, rows, owner.id if owner is not None else "")
        _changed(old, new)


def _deleted(_mapper: Any, _connection: Any, user: orm.User) -> None:
    _changed(user.name, None)


def _changed(old: str, new: str | None) -> None:
    site = DaasHub.instance()
    try:
        if new is None:
            _retain(site, old)
        # Blocking, like the hub's own commit right after it: nothing may come in between. It is rare.
        site.ledger.accounts.rename_user(old, new)
    except DaasError as error:
        site.log.error("The ledger keeps the name %s until its next start: %s", old, error.log_message)
        return
    if new is not None:
        try:
            _tell(site, new)
        except DaasError as error:
            site.log.error("%s is not told about the servers started as %s: %s", new, old, error.log_message)


def _retain(site: DaasHub, user_name: str) -> None:
    """A user who is deleted takes no data along: her volumes wait, and are in use again where she comes back."""
    now, days = utcnow(), site.retention_days
    kept = site.ledger.volumes.retain(user_name, now=now, expires_at=now + timedelta(days=days) if days else None)
    if kept:
        until = f"for {days} days" if days else "for ever"
        site.log.info("%s is deleted; %d volumes are retained %s: %s", user_name, len(kept), until, ", ".join(kept))


def _tell(site: DaasHub, user_name: str) -> None:
    """A notice for each server that she cannot use under her new name; a line in the log for the administrator."""
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
            site.ledger.notices.add(owner.id, row.server_name, text, now=utcnow())
            site.log.warning(
                "Launch %s of %s goes on with the name %s: she gets in after starting it again, and nobody else is "
                "given that name before",
                row.id,
                user_name,
                row.user_name,
            )
