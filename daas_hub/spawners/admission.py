"""From a click to a reserved launch: who she is here, what she chose, what the limits say.

Used by ``DaasSpawner`` only, one object per start. Nothing in here starts or stops a server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jupyterhub.crypto import encrypt

from daas_hub.core import quota
from daas_hub.core.errors import (
    AccountUnresolved,
    BackendUnavailable,
    DaasError,
    InvalidOptions,
    LaunchConflict,
    LedgerBusy,
    NotAllowed,
    QuotaExceeded,
)
from daas_hub.core.launch import Begin, decide_begin
from daas_hub.core.models import (
    Account,
    Charge,
    Identity,
    Json,
    LaunchRequest,
    LaunchSpec,
    LaunchState,
    Life,
    Memo,
    Mount,
    Observation,
)
from daas_hub.core.placement import Candidate, Placement, settings_at
from daas_hub.core.places import Place
from daas_hub.core.profiles import Profiles, visible
from daas_hub.core.turns import RESTARTED, outlives
from daas_hub.core.volumes import growth_said
from daas_hub.db.accounts import AccountRow
from daas_hub.db.ledger import LaunchRow, Reservation

from . import one_user, options, people, placing
from .choosing import Choosing
from .record import LaunchRecord
from .runtime import utcnow, versions
from .site_tokens import SiteTokens

if TYPE_CHECKING:
    from .spawner import DaasSpawner

SECRET_VARIABLES = ("JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN")
"""Variables of the hub that are handed over apart, never in a place that others can read (rule 8.7)."""


def over_limit(would: quota.Relief, *, others_fit: bool) -> str:
    """What stands on the card of a profile that would be refused now: only what really helps."""
    if not others_fit:
        return f"Over your limit just now. {quota.relief_said(would)}"
    if not would.servers:
        return "Over your limit just now. Choose a profile that fits."
    return f"Over your limit just now. {quota.relief_said(would)[:-1]}, or choose a profile that fits."


class Admission:
    """Steps 2, 3 and 5 of the flow for one start of one spawner."""

    def __init__(self, spawner: DaasSpawner) -> None:
        self.spawner = spawner
        self.site = spawner.site
        self.ledger = spawner.site.ledger
        self.request: LaunchRequest | None = None
        self.placement: Placement | None = None
        self.within: placing.Within = {}
        self.keeps: Json = {}
        """What else the launch's request says: her wishes, and those of a launch whose place in line it takes."""

    # ------------------------------------------------------------ who

    @property
    def groups(self) -> tuple[str, ...]:
        """The JupyterHub groups that count for profiles and limits."""
        return tuple(sorted(group.name for group in self.spawner.user.groups))

    def identity(self) -> Identity | None:
        """What the login asserted; None where this person never signed in here through one of our ways."""
        return people.identity_in(self.spawner.auth_state)

    async def stored(self) -> AccountRow | None:
        """Her account, if it ran here before."""
        accounts, identity = self.ledger.accounts, self.identity()
        if identity is None:
            return await self.site.run(accounts.by_user_name, self.spawner.user.name)
        return await self.site.run(accounts.by_identity, identity.issuer, identity.subject)

    async def account_id(self) -> str | None:
        """The id of her account, if it ran here before."""
        stored = await self.stored()
        return stored.id if stored is not None else None

    async def resolve(self) -> Account:
        """Her account, from all sources, now. Raises AccountRefused, AccountUnresolved, DirectoryUnavailable."""
        identity, user = self.identity(), self.spawner.user
        if identity is None:
            raise AccountUnresolved(
                f"{user.name} has not signed in here with a site account yet, so this hub does not know which "
                "POSIX account to use. Sign in once; then servers can be started, also by REST.",
                reason="no_identity",
            )
        alone = not self.site.shares_uid()
        authenticator = self.spawner.authenticator
        last = people.last_answer(self.site, self.spawner.auth_state, admin=user.admin)
        identity = await people.renewed(authenticator, identity, user.name, alone=alone, last=last)
        return await people.record(self.site, self.spawner, authenticator, identity, user.name)

    # ------------------------------------------------------------ what is there already

    async def find_launch(self) -> LaunchRow | None:
        """The active launch of this server to adopt, or None for a fresh start. Refuses while one is in between."""
        self.site.require_checks()
        stored, row = await self._there()
        if stored is None or row is None:
            return None
        one_user.require(self.spawner, stored.user_name, row.id)
        record = LaunchRecord(self.site, row.id, self.spawner.log)
        begin = await self._begin(record, row)
        if begin is Begin.SEARCH_FIRST:
            row = await self._search(record, row)
            begin = await self._begin(record, row) if row.state is not LaunchState.ENDED else Begin.FRESH
        match begin:
            case Begin.ADOPT:
                return row
            case Begin.REFUSE_STOPPING:
                since = row.stopping_since or row.observed_at or row.created_at
                raise LaunchConflict(
                    f"The previous server is still being stopped (since {since:%H:%M} UTC). Try again in a moment; "
                    "if it stays like this, an administrator can see why on the launches page.",
                    launch_id=row.id,
                )
            case Begin.REFUSE_STARTING:
                raise LaunchConflict("This server is being started already.", launch_id=row.id)
        return None

    async def _there(self) -> tuple[AccountRow | None, LaunchRow | None]:
        """Her account, if it ran here before, and its active launch of this server."""
        identity, name = self.identity(), self.spawner.name
        if identity is not None:
            return await self.site.run(self.ledger.server_of, identity.issuer, identity.subject, name)
        stored = await self.stored()
        return stored, None if stored is None else await self.site.run(self.ledger.active, stored.id, name)

    async def _begin(self, record: LaunchRecord, row: LaunchRow) -> Begin:
        seen = await record.look(row)
        return decide_begin(
            row.state,
            row.target,
            life=seen.life,
            has_handle=row.handle is not None,
            of_this_boot=row.hub_boot_id == self.site.boot_id,
        )

    async def _search(self, record: LaunchRecord, row: LaunchRow) -> LaunchRow:
        """Look for what a start left that crashed before it could save its handle; settle where nothing is."""
        if row.state is LaunchState.QUEUED:
            # Nothing of it was ever submitted. Who starts it again has the place in the line that it had.
            self.keeps |= outlives(row.request, row.created_at)
            seen = Observation(Life.ENDED, reason=RESTARTED)
            await record.settle(row, seen, evidence="it waited in this hub's own queue, so nothing was started")
            return await record.row() or row
        for found in await self.site.backend(row.backend).find():
            if found.launch_id == row.id:
                await self.site.run(self.ledger.save_handle, row.id, found.handle, now=utcnow())
                break
        else:
            nothing = Observation(Life.ENDED, reason="the hub was interrupted while starting it")
            await record.settle(row, nothing, evidence=f"{row.backend} has nothing of this launch")
        return await record.row() or row

    # ------------------------------------------------------------ 3 choose

    async def profiles(self) -> Profiles:
        """The site's profiles; a callable `profile_list` is asked anew."""
        return await self.site.catalogue.load(self.spawner.profile_list, self.spawner)

    async def choose(self, user_options: Any) -> LaunchRequest:
        """What the person chose, validated. Raises InvalidOptions, NotAllowed, and perhaps what ``resolve`` raises."""
        profiles = await self.profiles()
        request = options.parse(user_options, profiles, self.groups)
        self.request, self.within = await Choosing(self).judged(request, profiles)
        return self.request

    async def place(self) -> Placement:
        """Where it goes, by what every place has free. Raises InvalidOptions with what would run, NotAllowed."""
        policy = self.spawner.placement_rules()
        try:
            self.placement = await placing.placed(self.site, policy, self._request, self.within)
        except InvalidOptions as error:
            if error.field != "profile":
                raise
            others = [r for slug, r in (await self.defaults()).items() if slug != self._request.profile]
            fits = await placing.would_run(self.site, policy, others)
            would = f"These would run: {', '.join(fits)}." if fits else "No profile of yours would run."
            raise InvalidOptions(f"{error.message} {would}", field=error.field) from error
        return self.placement

    async def chose_other(self, user_options: Any, row: LaunchRow) -> bool:
        """Whether she chose something now that this launch does not have. A start without a choice chose nothing."""
        if not user_options:
            return False
        try:
            request = options.parse(user_options, await self.profiles(), self.groups)
        except DaasError:
            # It could not be taken in any case, and what was found is not to be lost because of it.
            return True
        return options.dump(request) != self.options_of(row)

    def options_of(self, row: LaunchRow) -> dict[str, Any]:
        """The accepted options of a launch."""
        stored = row.request.get("options")
        return dict(stored) if isinstance(stored, Mapping) else {}

    async def last_options(self) -> dict[str, Any]:
        """The options accepted last for this server, as far as they still can be; empty where there are none."""
        account_id = await self.account_id()
        row = None
        if account_id is not None:
            row = await self.site.run(self.ledger.last_ended, account_id, self.spawner.name)
        # Profiles and groups may have changed since; a choice that is gone would refuse every start without a body.
        good, _ = options.lenient(self.options_of(row) if row else {}, await self.profiles(), self.groups)
        return good

    # ------------------------------------------------------------ 5 admit

    async def admit(self, launch_id: str, account: Account, placement: Placement) -> LaunchRow:
        """Reserve for the first candidate. Raises QuotaExceeded with what would fit."""
        request, user = self._request, self.spawner.user
        token = await encrypt({"token": self.spawner.api_token})
        reservation = Reservation(
            launch_id=launch_id,
            hub_boot_id=self.site.boot_id,
            account_id=account.id,
            user_name=user.name,
            server_name=self.spawner.name,
            groups=self.groups,
            project=request.project,
            profile=request.profile,
            charge=request.resources.charge(),
            backend=placement.first.place.backend,
            request={
                "version": 1,
                "options": options.dump(request),
                "profile_display_name": request.profile_display_name,
                "resources": asdict(request.resources),
                "versions": dict(versions()),
                "placement": placement.to_json(),
                **self.keeps,
            },
            api_token_encrypted=token,
            source="hub",
        )
        try:
            return await self.site.run(self.ledger.reserve, reservation, now=utcnow())
        except QuotaExceeded as error:
            error.fits = await self._fits(account)
            if not error.fits:
                charges = {"": request.resources.charge()}
                would = await self._relief(account.id, request.project, charges)
                error.advice = quota.relief_said(would[""])
            raise

    async def _fits(self, account: Account) -> tuple[str, ...]:
        """Display names of her other profiles that would start now."""
        request = self._request
        profiles = {p.slug: p.display_name for p in visible(await self.profiles(), self.groups)}
        fits = await self._which_fit(account.id, request.project)
        return tuple(profiles[slug] for slug, fit in fits.items() if fit and slug != request.profile)

    async def _which_fit(self, account_id: str, project: str | None) -> dict[str, bool]:
        """Slug of each profile open to her → whether its default choices would start now."""
        charges = await self._charges()
        return await self.site.run(self.ledger.would_fit, account_id, self.groups, project, charges, now=utcnow())

    async def _relief(
        self, account_id: str, project: str | None, charges: Mapping[str, Charge]
    ) -> dict[str, quota.Relief]:
        return await self.site.run(self.ledger.relief, account_id, self.groups, project, charges, now=utcnow())

    async def _charges(self) -> dict[str, Charge]:
        """Slug of each profile open to her → what its default choices count for."""
        return {slug: each.resources.charge() for slug, each in (await self.defaults()).items()}

    async def defaults(self) -> dict[str, LaunchRequest]:
        """Slug of each profile open to her → what it comes to with its default choices."""
        found = {}
        for profile in visible(await self.profiles(), self.groups):
            # Where it needs a text from her nothing can be said before she has written it.
            with contextlib.suppress(InvalidOptions, NotAllowed):
                found[profile.slug] = options.parse({"profile": profile.slug}, (profile,), self.groups)
        return found

    async def notes(self) -> dict[str, str]:
        """Slug → what a card of the form should say before she tries in vain; nothing where the ledger is busy."""
        try:
            account_id = await self.account_id() or ""
            fits = await self._which_fit(account_id, None)
            over = {slug: charge for slug, charge in (await self._charges()).items() if not fits.get(slug, True)}
            would = await self._relief(account_id, None, over) if over else {}
        except LedgerBusy:
            return {}
        return {slug: over_limit(would[slug], others_fit=any(fits.values())) for slug in over}

    async def move_to(self, row: LaunchRow, placement: Placement, chosen: Candidate) -> LaunchRow:
        """Take the reservation along to the next candidate."""
        return await self.site.run(
            self.ledger.reassign,
            row.id,
            backend=chosen.place.backend,
            charge=self._request.resources.charge(),
            now=utcnow(),
            placement=placement.to_json(chosen),
        )

    # ------------------------------------------------------------ 6 what is to be started

    async def spec(self, account: Account, row: LaunchRow, where: Place, environment: Mapping[str, str]) -> LaunchSpec:
        """All that a backend needs; secrets apart. The volumes are in the ledger before they are made."""
        request, spawner = self._request, self.spawner
        plain = {**environment, **request.environment}
        secrets = {name: plain.pop(name) for name in SECRET_VARIABLES if name in plain}
        return LaunchSpec(
            launch_id=row.id,
            hub_id=self.site.hub_id,
            account=account,
            user_name=spawner.user.name,
            server_name=spawner.name,
            resources=request.resources,
            cmd=(*spawner.cmd, *spawner.get_args()),
            environment=plain,
            secrets=secrets,
            mounts=await self._mounts(account, row.backend),
            service_prefix=spawner.server.base_url,
            override=settings_at(request, where),
            memo=self._memo(request),
            site_tokens=bool(SiteTokens.names(spawner.authenticator)),
            origin=spawner,
        )

    async def _mounts(self, account: Account, backend: str) -> tuple[Mount, ...]:
        mounts = []
        for one in self.site.backend(backend).plan(account, self.groups, self._request.volumes):
            owner = account.id if one.own else None
            volume = await self.site.run(
                self.ledger.volumes.ensure,
                one.name,
                backend,
                one.place,
                now=utcnow(),
                account_id=owner,
                group_gid=one.group_gid,
            )
            mounts.append(one.mount(volume.id, known=volume.made is not None))
        return tuple(mounts)

    async def written(self, spec: LaunchSpec, made: Mapping[str, Json]) -> list[str]:
        """What a backend made of volumes, in their rows: never made anew from now on. What she should know of it."""
        said = []
        for volume_id, what in made.items():
            if growing := what.get("growth"):
                what = {**what, "growth": {**growing, "at": utcnow().isoformat()}}
            await self.site.run(self.ledger.volumes.record_made, volume_id, what)
            if growing:
                where = next(mount.path for mount in spec.mounts if mount.volume_id == volume_id)
                said.append(growth_said(where, growing))
        return [sentence for sentence in said if sentence]

    def _memo(self, request: LaunchRequest) -> Memo:
        identity = self.identity()
        return Memo(
            identity=(identity.issuer, identity.subject) if identity is not None else None,
            profile=request.profile,
            profile_display_name=request.profile_display_name,
            groups=self.groups,
            project=request.project,
        )

    @property
    def _request(self) -> LaunchRequest:
        if self.request is None:
            raise BackendUnavailable("Nothing was chosen yet.")
        return self.request
