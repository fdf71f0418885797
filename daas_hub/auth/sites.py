"""Where a site has directories: a provider's identity opens the account that it is linked to, and no other."""

from __future__ import annotations

import logging
from typing import Any

from jupyterhub.utils import url_path_join

from daas_hub.auth.linked import AccountGone, NotLinked, Unlinked
from daas_hub.auth.unlink_pages import unlinked
from daas_hub.core.errors import DirectoryUnavailable, LedgerBusy, NotFound
from daas_hub.core.linking import UNLINK, Proof
from daas_hub.core.models import Identity
from daas_hub.core.oidc_claims import ENTRY

log = logging.getLogger("daas_hub.linking")


class LinkedSites:
    """The seam of one provider (``auth/linked.py``); ``hub``: the authenticator that holds all ways."""

    independent = True

    def __init__(self, hub: Any, way_name: str) -> None:
        self._hub, self._way_name = hub, way_name

    async def site_identity(self, came_by: Identity, proof: Proof | None = None) -> Identity | None:
        """Her entry in the directory, as it is now."""
        linking, directories = self._hub.linking, self._hub.directories
        try:
            if proof is not None and proof.how == UNLINK:
                user_name, what = await linking.unlink(came_by, proof)
                raise Unlinked(user_name, what)
            if proof is not None:
                await linking.link(came_by, proof)
            key = await linking.opens(came_by, list(directories))
        except LedgerBusy as error:
            raise DirectoryUnavailable(error.message, reason=error.reason, log_message=error.log_message) from error
        except NotFound as error:
            raise AccountGone(error.message) from error
        if key is None:
            return None
        site: Identity | None = await directories[key[0]].active(key[1])
        if site is None:
            raise AccountGone(f"{came_by.issuer} {came_by.subject}: {key[0]} has no active entry {key[1]}")
        linking.used(came_by)
        return site

    async def vouched(self, handler: Any, came_by: Identity, /) -> Identity | None:
        """Where her issuer is authoritative: the one entry that it names, which must be let in as by its password."""
        rule, entry = self._hub.providers[self._way_name].authenticator.link_rule, came_by.attributes.get(ENTRY)
        if rule is None or not entry:
            return None
        site: Identity | None
        site = await self._hub.directory_ways[rule.directory].authenticator.active_with(rule.attribute, entry)
        if site is None:
            log.warning("%s says %s = %r of somebody: no such entry is active", came_by.issuer, rule.attribute, entry)
            return None
        try:
            await self._hub.require_open(handler, site)
            return site if await self._hub.linking.vouched(came_by, site) else None
        except LedgerBusy as error:
            raise DirectoryUnavailable(error.message, reason=error.reason, log_message=error.log_message) from error

    async def user_of(self, issuer: str, subject: str, /) -> str:
        """As the ledger has the link."""
        name: str = await self._hub.linking.user_of((issuer, subject))
        return name

    def rules(self, site: Identity) -> Any | None:
        """Those of her directory."""
        return self._hub.directories.get(site.issuer)

    async def fresh_identity(self, identity: Identity, *, alone: bool = False) -> Identity | None:
        """As her directory has it now."""
        found: Identity | None = await self._hub.fresh_identity(identity, alone=alone)
        return found

    async def unlinked(self, handler: Any, done: Unlinked, /) -> None:
        """All her sign-ins end."""
        await unlinked(handler, done)

    async def not_linked(self, handler: Any, who: NotLinked, next_url: str, /) -> None:
        """On to the page where she links an account or asks for one."""
        self._hub.waiting.remember(handler, self._way_name, who.came_by, next_url)
        handler.redirect(url_path_join(handler.hub.base_url, "daas/link"))
