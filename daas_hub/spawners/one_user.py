"""One person, two users of the hub: where the ledger did not know her user when she signed in with another name.

A sign-in gives everybody the user that has her account (``wiring/same_person.py``), as far as the ledger knows it.
Both users have the same account, and a server of it can be served by one of them only. Nor may the second one touch
the OAuth client with which the first one's server lets people in: the hub names clients after users, as they were
called when it met them.
"""

from __future__ import annotations

from typing import Any

from jupyterhub import orm

from daas_hub.core.errors import LaunchConflict


def client_id(spawner: Any) -> str:
    """The name of the OAuth client for a start: the hub's own, or another one where somebody's server has that."""
    wanted: str = spawner.oauth_client_id
    mine = spawner.orm_spawner
    # Their numbers only: whole objects would be read anew at each start.
    others = spawner.user.db.query(orm.Spawner.id).filter(orm.Spawner.oauth_client_id == wanted)
    if all(number == mine.id for (number,) in others):
        return wanted
    # The hub quotes names, so none of its own has this sign.
    return f"{wanted}!{mine.id}"


def require(spawner: Any, user_name: str, launch_id: str) -> None:
    """Raise LaunchConflict where the running launch is that of another user of the hub, who has the same account."""
    me = spawner.user.name
    if not user_name or user_name == me or orm.User.find(spawner.user.db, user_name) is None:
        return
    which = f"server {spawner.name}" if spawner.name else "server"
    raise LaunchConflict(
        f"Your {which} runs already, as the hub's user {user_name}: you were renamed here, while the directory still "
        f"calls you {me}. An administrator of this hub can stop it as {user_name}; then start it here, with the same "
        f"account and files. Or, to keep it running: delete the user {me} and rename {user_name} to {me}.",
        launch_id=launch_id,
    )
