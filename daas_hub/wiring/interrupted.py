"""Starts that an earlier boot of the hub was interrupted in: the token made for such a server works no more.

JupyterHub deletes a server's token when it stops the server; a hub that was killed in mid-start has no server to stop.
Where the server is found after all (a pod), it is adopted with its token, and that registers the token again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jupyterhub import orm
from jupyterhub.crypto import EncryptionUnavailable, InvalidToken, decrypt

from daas_hub.core.models import ACTIVE
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.runtime import DaasHub

ALL = 1_000_000


def revoke(app: Any, site: DaasHub) -> None:
    """Begin to delete the tokens of all launches that have no handle. Called once, before the hub starts any."""
    rows = site.ledger.launches(states=ACTIVE, limit=ALL)
    lost = [row for row in rows if row.handle is None and row.api_token_encrypted is not None]
    if lost:
        site.keep(_delete(app, lost))


async def _delete(app: Any, rows: Sequence[LaunchRow]) -> None:
    for row in rows:
        try:
            token = (await decrypt(row.api_token_encrypted))["token"]
        except (ValueError, KeyError, InvalidToken, EncryptionUnavailable) as error:
            app.log.error("The token of launch %s cannot be read, so it stays: %s", row.id, type(error).__name__)
            continue
        known = orm.APIToken.find(app.db, token)
        if known is not None:
            app.db.delete(known)
            app.db.commit()
            app.log.info("The token of launch %s of %s works no more", row.id, row.user_name)
