"""A user who is renamed or deleted in the hub takes the name out of the ledger, too.

The ledger knows which hub user has an account by name, from the last start on. Between a rename and the next start
that name would be somebody else's, who would then be shown another one's servers and notices.
"""

from __future__ import annotations

from typing import Any

from jupyterhub import orm
from sqlalchemy import event

from daas_hub.core.errors import DaasError
from daas_hub.spawners.runtime import DaasHub


def follow() -> None:
    """Hear of every change of a user's name in this process, before it is answered; once, however often called."""
    if not event.contains(orm.User, "after_delete", _deleted):
        event.listen(orm.User.name, "set", _renamed, active_history=True)
        event.listen(orm.User, "after_delete", _deleted)


def _renamed(_user: orm.User, new: str, old: object, _initiator: Any) -> None:
    if isinstance(old, str) and old != new:
        _changed(old, new)


def _deleted(_mapper: Any, _connection: Any, user: orm.User) -> None:
    _changed(user.name, None)


def _changed(old: str, new: str | None) -> None:
    site = DaasHub.instance()
    try:
        # Blocking, like the hub's own commit right after it: nothing may come in between. It is rare.
        site.ledger.accounts.rename_user(old, new)
    except DaasError as error:
        site.log.error("The ledger keeps the name %s until its next start: %s", old, error.log_message)
