"""Local groups and projects joined to the hub's sign-ins and refreshes: the authenticator asks, the ledger tells.

What is changed in the console counts from the member's next refresh on (``auth_refresh_age``), at the latest when she
starts a server. These groups give rights in the hub only: a process gets the gids of its account, never one of a name.
"""

from __future__ import annotations

from daas_hub.auth.common import site_groups
from daas_hub.core.errors import LedgerBusy
from daas_hub.core.groups import SiteGroups
from daas_hub.core.models import Identity
from daas_hub.spawners.runtime import DaasHub, utcnow


def follow(site: DaasHub) -> None:
    """Let every authenticator of this process ask this site's ledger."""

    async def ask(identity: Identity) -> SiteGroups:
        return await site.run(_groups, site, identity)

    site_groups.ask = ask


def _groups(site: DaasHub, identity: Identity) -> SiteGroups:
    """What the ledger says about somebody, and what it then knows of the directory's groups. Blocks."""
    groups, now = site.ledger.local_groups, utcnow()
    found = groups.of_identity(identity.issuer, identity.subject, identity.groups, now)
    try:
        groups.note_directory(identity.issuer, identity.groups, now)
    except LedgerBusy as error:
        # Her next refresh notes them; nobody waits for that.
        site.log.warning("New groups of the directory are noted later: %s", error.log_message)
    return found
