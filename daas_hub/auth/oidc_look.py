"""What a provider, and the site's directory behind it, say of people: what the sweep asks an OIDC way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from traitlets import Bool, HasTraits

from daas_hub.auth.common import OneAtATime, identity_in, site_groups
from daas_hub.auth.linked import AccountGone, SiteIdentities
from daas_hub.auth.looks import Look, Person, each, still_allowed
from daas_hub.auth.oidc_tokens import tokens_of
from daas_hub.core.access import Answer
from daas_hub.core.errors import DirectoryUnavailable, LedgerBusy
from daas_hub.core.models import Identity

NOT_OPEN = "your account is no longer in use, no longer linked, or no longer open to this service"
ENDED = "your sign-in at the identity provider has ended"


class LooksByProvider(HasTraits):
    """A mixin of ``DaasOIDCAuthenticator``."""

    issuer: Any
    sites: SiteIdentities
    _refreshing: OneAtATime
    _refresh: Any
    auth_model: Any

    refused_renewal_ends = Bool(
        False,
        help="Where the site has no directory: when the provider refuses to renew a sign-in, end her tokens and "
        "servers, too. A provider does not tell an account that was disabled from a sign-in that has grown old (in "
        "Keycloak `SSO Session Max`, 10 hours, without the scope `offline_access`). False: only her browser must sign "
        "in again. True: whoever was disabled is out within minutes, and so is everybody whose sign-in is that old.",
    ).tag(config=True)

    async def look_at(self, people: Sequence[Person]) -> Sequence[Look]:
        """The provider tells about each person with her own tokens only; people of one page are asked side by side."""
        return await each(people, self._look)

    async def _look(self, person: Person) -> Look:
        came_by, user = identity_in(person.state, "came_by"), person.user
        if came_by is None or tokens_of(person.state) is None or came_by.issuer != self.issuer:
            return Look(Answer.UNREACHABLE, why="she did not come by this provider")
        found, over = await self._refreshing.do(user.name, lambda: self._refresh(user))
        if isinstance(found, dict):
            return Look(Answer.VALID, found)
        if found:
            return Look(Answer.UNREACHABLE, why="the provider gave no clear answer")
        if not over:
            return Look(Answer.REVOKED, why=NOT_OPEN)
        if self.sites.independent:
            return await self._without_provider(person, came_by)
        return Look(Answer.REVOKED if self.refused_renewal_ends else Answer.SIGN_IN_AGAIN, why=ENDED)

    async def _without_provider(self, person: Person, came_by: Identity) -> Look:
        """The provider ended her sign-in, and no model came of it: does her directory say no, or nothing?"""
        user, tokens = person.user, tokens_of(person.state)
        try:
            site = await self.sites.site_identity(came_by)
            if site is None:
                return Look(Answer.REVOKED, why=NOT_OPEN)
            model = await site_groups.united(
                self, site, lambda known: self.auth_model(known, came_by, tokens, user.name)
            )
        except AccountGone:
            return Look(Answer.REVOKED, why=NOT_OPEN)
        except (DirectoryUnavailable, LedgerBusy) as error:
            return Look(Answer.UNREACHABLE, why=error.log_message)
        if not await still_allowed(self, user.name, model):
            return Look(Answer.REVOKED, why=NOT_OPEN)
        return Look(Answer.VALID, model)
