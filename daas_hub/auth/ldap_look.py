"""A page of people at once, by the service bind: what the sweep asks a directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daas_hub.auth.common import identity_in, site_groups
from daas_hub.auth.looks import Look, Person, still_allowed
from daas_hub.clients.directory import Directory, Known, Verdict
from daas_hub.core.access import Answer
from daas_hub.core.directory import ACTIVE
from daas_hub.core.errors import DirectoryUnavailable, LedgerBusy

GONE = "the site's directory no longer has your account"
NOT_OPEN = "this service is no longer open to you"
CLOSED = {
    Verdict.LOCKED: "your account is locked in the site's directory",
    Verdict.DISABLED: "your account is disabled in the site's directory",
    Verdict.EXPIRED: "your account has expired in the site's directory",
}


class LooksByDirectory:
    """A mixin of ``DaasLDAPAuthenticator``."""

    directory: Directory
    auth_model: Any

    async def look_at(self, people: Sequence[Person]) -> Sequence[Look]:
        """One conversation for all of them. Whoever came by another directory cannot be judged by this one."""
        hers = [identity_in(person.state) for person in people]
        issuer = self.directory.issuer
        asked = [identity.subject for identity in hers if identity is not None and identity.issuer == issuer]
        try:
            found = await self.directory.lookup_subjects(asked)
        except DirectoryUnavailable as error:
            return [Look(Answer.UNREACHABLE, why=error.log_message) for _ in people]
        looks = []
        for person, identity in zip(people, hers, strict=True):
            if identity is None or identity.issuer != issuer:
                said = "another directory, which is not asked any more" if identity is not None else "no sign-in"
                looks.append(Look(Answer.UNREACHABLE, why=f"she came by {said}"))
            else:
                looks.append(await self._look(person, found[identity.subject]))
        return looks

    async def _look(self, person: Person, known: Known | DirectoryUnavailable) -> Look:
        if isinstance(known, DirectoryUnavailable):
            return Look(Answer.UNCLEAR, why=known.log_message)
        if known is None:
            return Look(Answer.REVOKED, why=GONE)
        fresh, verdict = known
        if verdict not in ACTIVE:
            return Look(Answer.REVOKED, why=CLOSED.get(verdict, "your account is not in use"))
        try:
            model = await site_groups.united(self, fresh, lambda known: self.auth_model(known, person.user.name))
        except LedgerBusy as error:
            return Look(Answer.UNREACHABLE, why=error.log_message)
        if not await still_allowed(self, person.user.name, model):
            return Look(Answer.REVOKED, why=NOT_OPEN)
        return Look(Answer.VALID, model)
