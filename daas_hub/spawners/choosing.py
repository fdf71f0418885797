"""What a start asks of a cluster beyond resources: is it hers to ask, and which SLURM account pays for it.

The decision is ``core/slurm_choices.py``; REST, the form and stored options all pass here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from daas_hub.core.errors import DaasError, InvalidOptions, LedgerBusy, NotAllowed
from daas_hub.core.models import Account, LaunchRequest
from daas_hub.core.placement import candidates
from daas_hub.core.places import place
from daas_hub.core.profiles import PROJECT, Profile, find
from daas_hub.core.slurm_choices import ACCOUNT, FIELDS, May, check, refuse_project
from daas_hub.core.slurm_offers import Offer, offers
from daas_hub.db.projects import Project

from . import people
from .placing import Within
from .runtime import utcnow

if TYPE_CHECKING:
    from .admission import Admission

KEPT_FOR_S = 60.0
"""How old what somebody may use can be. Who is refused is asked about anew."""
Cards = dict[str, tuple[Offer, ...]]
"""Slug → the fields of a card."""


class Choosing:
    """For one start, or one form, of one spawner."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._site = admission.site

    # ------------------------------------------------------------ a start

    async def judged(self, request: LaunchRequest, profiles: Sequence[Profile]) -> tuple[LaunchRequest, Within]:
        """The request with who pays for it, and where it can be. Raises InvalidOptions, NotAllowed, and what an
        account that cannot be resolved raises."""
        request, pays = await self._charged(request)
        profile = find(profiles, request.profile)
        keys = profile.slurm_choices if profile is not None else ()
        asked = {name: request.choices[name] for name in keys if name in request.choices}
        if pays and asked.get(ACCOUNT, pays) != pays:
            raise InvalidOptions(
                f'{ACCOUNT}: "{asked[ACCOUNT]}" cannot be chosen for project "{request.project}", which is charged to '
                f'"{pays}". Leave out one of the two.',
                field=ACCOUNT,
            )
        if not keys and not pays:
            return request, {}
        try:
            return request, await self._within(request, asked, pays, await self._account())
        except InvalidOptions:
            # She may have been given a group, or an association, since she was last here.
            account = await self._admission.resolve()
            return request, await self._within(request, asked, pays, account, max_age_s=0)

    async def within_of(self, profiles: Sequence[Profile], requests: Mapping[str, LaunchRequest]) -> dict[str, Within]:
        """Slug → where its default choices can be, of profiles that leave choices to people. Never raises."""
        found: dict[str, Within] = {}
        for profile in profiles:
            if profile.slurm_choices and profile.slug in requests:
                with contextlib.suppress(DaasError):
                    found[profile.slug] = await self._within(requests[profile.slug], {}, "", await self._known())
        return found

    async def _known(self) -> Account | None:
        """Her account for a page: as it was when last seen, else looked up; a page changes nothing."""
        with contextlib.suppress(DaasError):
            stored, identity = await self._admission.stored(), self._admission.identity()
            if stored is not None or identity is None:
                return stored
            return await people.looked_up(self._site, self._admission.spawner, identity)
        return None

    async def _within(
        self,
        request: LaunchRequest,
        asked: Mapping[str, str],
        pays: str,
        account: Account | None,
        *,
        max_age_s: float = KEPT_FOR_S,
    ) -> Within:
        found: dict[str, frozenset[str]] = {}
        fixed = {name: text for name, text in fixed_of(request.override).items() if name not in asked}
        for name in self._backends(request):
            may = await self._may(name, account, max_age_s)
            if may is None:
                continue
            groups = _groups(account)
            if pays:
                refuse_project(may, groups, request.project or "", pays)
            fits = check(may, groups, asked, fixed, partitions_of(request.backends, name))
            if fits is not None:
                found[name] = fits
        return found

    def _backends(self, request: LaunchRequest) -> list[str]:
        """Those to which it may go."""
        wanted = candidates(request.backends, tuple(self._site.backends))
        names = list(dict.fromkeys(place(each).backend for each in wanted))
        chosen = place(request.placement).backend
        return [name for name in names if name == chosen] or names

    async def _may(self, name: str, account: Account | None, max_age_s: float = KEPT_FOR_S) -> May | None:
        # Without an account nobody can be asked about her, but there is something to choose all the same.
        who = account.name if account is not None else ""
        return await self._site.backend(name).may_use(who, max_age_s=max_age_s)

    async def _account(self) -> Account | None:
        """Her account as it was when last seen, else as it is."""
        return await self._admission.stored() or await self._admission.resolve()

    # ------------------------------------------------------------ a project

    async def _charged(self, request: LaunchRequest) -> tuple[LaunchRequest, str]:
        """The request with the SLURM account of its project, and that account; empty where it has none."""
        if not request.project:
            return request, ""
        mine = {project.slug for project in await self.projects()}
        if request.project not in mine:
            listed = ", ".join(sorted(mine)[:20]) or "none"
            raise NotAllowed(
                f'{PROJECT}: "{request.project}" is not a project that you are a member of now. Yours: {listed}. Ask '
                "an administrator if you need it.",
                reason="project",
            )
        pays = self._admission.spawner.project_slurm_accounts.get(request.project, "")
        if not pays:
            return request, ""
        inner = {**(request.override.get("slurm") or {}), FIELDS[ACCOUNT]: pays}
        return replace(request, override={**request.override, "slurm": inner}), pays

    async def projects(self) -> list[Project]:
        """Her projects that run now, by slug."""
        account_id = await self._admission.account_id()
        if account_id is None:
            return []
        now = utcnow()
        listed = await self._site.run(self._admission.ledger.projects.list, account_id=account_id)
        return [
            each
            for each in listed
            if (each.starts_at is None or each.starts_at <= now) and (each.ends_at is None or now < each.ends_at)
        ]

    async def listed_projects(self) -> list[tuple[str, str]]:
        """The same for a form: (slug, words). Nothing where the ledger is busy: the form is shown all the same."""
        with contextlib.suppress(LedgerBusy):
            mine = await self.projects()
            return [(each.slug, f"{each.title} ({each.slug})" if each.title else each.slug) for each in mine]
        return []

    # ------------------------------------------------------------ a form

    async def fields(self, profiles: Mapping[str, Profile], requests: Mapping[str, LaunchRequest]) -> Cards:
        """The fields of each profile that leaves choices to people. Whatever is away, something is shown."""
        if not any(profile.slurm_choices for profile in profiles.values()):
            return {}
        account = await self._known()
        found: Cards = {}
        for slug, request in requests.items():
            if keys := profiles[slug].slurm_choices:
                found[slug] = await self._card(keys, request, account)
        return found

    async def _card(self, keys: tuple[str, ...], request: LaunchRequest, account: Account | None) -> tuple[Offer, ...]:
        for name in self._backends(request):
            may = await self._may(name, account)
            if may is not None:
                only = partitions_of(request.backends, name)
                return offers(may, _groups(account), keys, fixed_of(request.override), only, utcnow())
        return ()


def _groups(account: Account | None) -> tuple[str, ...] | None:
    return None if account is None else tuple(group.name for group in account.groups)


def fixed_of(override: Mapping[str, object]) -> dict[str, str]:
    """What settings for SLURM say already, by the field in which it could be chosen."""
    slurm = override.get("slurm")
    inner = slurm if isinstance(slurm, Mapping) else {}
    return {name: str(inner[key]) for name, key in FIELDS.items() if inner.get(key)}


def partitions_of(backends: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The partitions to which a profile is bound; none: to no single one."""
    named = [place(each) for each in backends]
    here = [each.partition for each in named if each.backend == name]
    return () if "" in here else tuple(here)
