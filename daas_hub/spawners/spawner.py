"""DaasSpawner: what happens between "Start" and a stopped server, in the order of design.md §2.

JupyterHub calls ``apply_user_options`` (is there something to adopt? else step 3), ``start`` (steps 2, 4 to 7),
``progress`` (8); then, in ``begun.py``, ``poll`` (9), ``stop`` and ``run_post_stop_hook`` (11). The decisions are pure
functions in ``core/``, the acts are in ``backends/``, the state is in the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from jupyterhub.spawner import Spawner

from daas_hub.backends.base import Backend
from daas_hub.core.errors import BackendUnavailable, DaasError, InvalidOptions, LedgerBusy, NotAllowed, StartFailed
from daas_hub.core.launch import Started, limits_warning, taken_over
from daas_hub.core.models import Account, Event, Handle, LaunchRequest, LaunchSpec, LaunchState
from daas_hub.core.naming import new_id
from daas_hub.core.placement import Placement
from daas_hub.core.places import Place
from daas_hub.core.profiles import PLACEMENT, PROJECT
from daas_hub.core.slurm_choices import FIELDS
from daas_hub.core.turns import MAIL_FIELD
from daas_hub.db.ledger import LaunchRow

from . import available, form, options, ready_mail
from .admission import Admission
from .begun import BegunServer
from .certificates import certified
from .insist import insist
from .record import LaunchRecord
from .refusals import ShowForm, refusal
from .runtime import utcnow
from .steps import Steps

SERVER_TRAITS = frozenset({"args", "cmd", "default_url", "notebook_dir"})
"""Keys of `kubespawner_override` that mean the same on every backend."""
FLEETING = frozenset({PLACEMENT, PROJECT, *FIELDS})
"""Options that may be refused today though they were accepted yesterday."""
OVERDUE_S, GRACE_S = 15, 30
"""A backend keeps its own deadline, because it knows what it waited for. This far above it lie ours, for one that does
not, and JupyterHub's start_timeout, so that each ends before the next."""


class DaasSpawner(BegunServer):
    """Starts servers as the real user, admitted by the ledger. One object per server, made anew by each boot."""

    api_token: str

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._steps = Steps()
        self._admission: Admission | None = None
        self._chose_other = False
        """Something else was chosen than what was found, which goes on."""

    # ------------------------------------------------------------ 3 choose

    async def run_auth_state_hook(self, auth_state: dict[str, Any] | None) -> None:
        """Keep what the login left (the identity); the hub calls this before the form and before each start."""
        self.auth_state = auth_state
        await super().run_auth_state_hook(auth_state)

    async def apply_user_options(self, _spawner: Spawner, user_options: Any) -> None:
        """Adopt what is already there, or validate what was chosen. REST passes here as the form does."""
        self._steps, self._record, self._started, self._failure = Steps(), None, Started.NOT_HERE, ""
        self._admission = admission = Admission(self)
        try:
            user_options, wish = ready_mail.split(user_options)
            adopted = await admission.find_launch()
            if adopted is not None:
                self._started = Started.ADOPTED
                record = self._take(adopted.id)
                record.reserved = True
                self._chose_other = await admission.chose_other(user_options, adopted)
                self.mail_wished = adopted.request.get(MAIL_FIELD) is True
                # Without the old token the server is at least seen, and can be stopped.
                self.api_token = await record.token_of(adopted) or self.api_token
                self._keep_options(admission.options_of(adopted))
                self.start_timeout = self.site.backend(adopted.backend).patience_s() + GRACE_S
                if (mail := ready_mail.judged(self, wish)) is not None:
                    await self.wish_mail(mail)
                return
            try:
                mail = ready_mail.judged(self, wish)
                request = await admission.choose(user_options)
                placement = await admission.place()
            except (InvalidOptions, NotAllowed) as error:
                kept = await admission.last_options()
                gone = error.field if isinstance(error, InvalidOptions) else error.reason
                if gone in FLEETING:
                    # A partition or a project that is gone would refuse every start without a body.
                    kept.pop(gone, None)
                self._keep_options(kept)
                self.user.db.commit()
                raise
            self._keep_options(options.dump(request))
            if mail is not None:
                admission.keeps[MAIL_FIELD] = mail
            self.mail_wished = admission.keeps.get(MAIL_FIELD) is True
            self._apply(request)
            longest = max(self.site.backend(name).patience_s() for name in placement.backends)
            self.start_timeout = longest + GRACE_S
        except DaasError as error:
            raise refusal(error) from error

    def _keep_options(self, options: dict[str, Any]) -> None:
        """Store accepted options for the next start; the hub has stored the unchecked ones already (§4.6).

        The hub commits them when it has called ``start()``; a refusal ends before that.
        """
        self.user_options = options
        self.orm_spawner.user_options = options

    def _apply(self, request: LaunchRequest) -> None:
        """What a profile says about the server itself, as JupyterHub's own traits: `get_env` tells the server."""
        resources = request.resources
        self.cpu_limit, self.cpu_guarantee = resources.cpu_limit, resources.cpu_guarantee
        self.mem_limit, self.mem_guarantee = resources.mem_limit_bytes, resources.mem_guarantee_bytes
        for name in SERVER_TRAITS & request.override.keys():
            # KubeSpawner's empty cmd is the image's own: it may be anything, so the site's stays.
            if name != "cmd" or request.override[name]:
                setattr(self, name, request.override[name])

    async def options_form(self, _spawner: Spawner) -> str:
        """The profiles that are open to her, filled with what was posted, linked or accepted last."""
        admission = Admission(self)
        return form.render(
            await admission.profiles(),
            admission.groups,
            last=self.user_options,
            backends=tuple(self.site.backends),
            notes=await admission.notes(),
            places=await available.places(admission),
            live=await available.live(admission),
        )

    def options_from_form(self, form_data: dict[str, list[Any]]) -> dict[str, Any]:
        """The posted fields as options; they are judged in `apply_user_options`, as those of REST are."""
        form.remember(options.from_query(form_data), by_link=False)
        try:
            return options.from_form(form_data)
        except DaasError as error:
            raise refusal(error) from error

    def options_from_query(self, query_data: dict[str, list[str]]) -> dict[str, Any]:
        """A link never starts a server: the form is shown, filled (design.md §4.6)."""
        form.remember(options.from_query(query_data), by_link=True)
        raise ShowForm

    # ------------------------------------------------------------ 2, 4-7 start

    async def create_certs(self) -> dict[str, str]:
        """None yet: JupyterHub asks before it is known where the server will run, and at an adoption too."""
        return {}

    async def start(self) -> str:
        """The flow. Whatever fails, the launch's row says why, and `stop` ends what was begun."""
        try:
            if self._record is not None:
                return await self._resume(self._record)
            admission = self._asked()
            account = await admission.resolve()
            self._started = Started.FRESH
            # Known before it exists: whatever interrupts the reservation, stop() and poll() look for this id.
            record = self._take(new_id())
            placement = self._placement()
            row = await admission.admit(record.id, account, placement)
            record.reserved = True
            if placement.had_choice:
                await self._say(placement.why(placement.first))
            return await self._start_on_first(record, account, row)
        except DaasError as error:
            self._failure = error.message
            await self._say(error.message)
            if self._record is not None:
                # Whoever is told of the failure finds its reason in the ledger.
                await self._record.noted()
            raise refusal(error) from error
        finally:
            if self._record is not None:
                self._record.write_noted()
            await self._steps.finish()

    def _placement(self) -> Placement:
        """Step 4: the places to try, in order, as `apply_user_options` found them."""
        placement = self._asked().placement
        if placement is None:
            raise StartFailed("start() was called before apply_user_options().", permanent=True)
        return placement

    async def _start_on_first(self, record: LaunchRecord, account: Account, row: LaunchRow) -> str:
        """Steps 6 and 7: the first candidate that takes it. What a failed one left is stopped before the next."""
        placement = self._placement()
        for candidate in placement.candidates:
            if candidate is not placement.first:
                row = await self._asked().move_to(row, placement, candidate)
                await self._say(placement.why(candidate))
            try:
                async with self.site.turns.turn(row, self._note):
                    return await self._start_on(account, row, candidate.place)
            except (StartFailed, BackendUnavailable) as error:
                if candidate is placement.candidates[-1]:
                    raise
                await self._say(error.message)
                await record.undo()
        raise AssertionError("a candidate is always tried")

    async def _start_on(self, account: Account, row: LaunchRow, where: Place) -> str:
        """Volumes, then the server; its handle is in the ledger before anything is waited for."""
        backend, ledger = self.site.backend(row.backend), self.site.ledger
        spec = await self._asked().spec(account, row, where, self._environment())
        await self._say("Preparing the home and the folders", 20)
        for sentence in await self._asked().written(spec, await backend.prepare(spec)):
            await self._say(sentence)
        await self.site.run(ledger.move, row.id, LaunchState.SUBMITTED, now=utcnow())
        await self._say(f"Starting the server as {account.name} (uid {account.uid})", 40)

        following: list[asyncio.Task[None]] = []
        handles: list[Handle] = []

        async def checkpoint(handle: Handle) -> None:
            handles[:] = [handle]
            await self.site.run(ledger.save_handle, row.id, handle, now=utcnow())
            if not following:
                following.append(asyncio.create_task(self._follow(backend, handle)))
                following.append(asyncio.create_task(self._estimate(backend, handle)))
                if warning := limits_warning(handle):
                    await self._say(warning)

        try:
            async with certified(self, backend, spec) as complete, asyncio.timeout(backend.wait_policy_s + OVERDUE_S):
                url = await backend.start(complete, checkpoint)
        except TimeoutError as error:
            message = f"The server did not answer within {backend.wait_policy_s} s on {row.backend}."
            raise StartFailed(message, permanent=False, reason="timeout") from error
        finally:
            for task in following:
                task.cancel()
        await self.site.run(ledger.move, row.id, LaunchState.RUNNING, now=utcnow())
        await self._say("The server answers", 90)
        # The hub gets its answer first; a volume that is not kept is kept at a later start, or by the reconciler.
        self.site.keep(self._after_start(self._asked(), row, spec, handles))
        self.site.keep(ready_mail.tell(self, row))
        return url

    async def _after_start(
        self, admission: Admission, row: LaunchRow, spec: LaunchSpec, handles: Sequence[Handle]
    ) -> None:
        """What nobody waits for: the volumes are kept, and what the server is made of is written down."""
        try:
            await admission.written(spec, await self.site.backend(row.backend).keep([m.volume_id for m in spec.mounts]))
        except LedgerBusy as error:
            self.log.warning("What was kept for launch %s is not written down: %s", row.id, error.log_message)
        if handles:
            await LaunchRecord(self.site, row.id, self.log).keep_software(row.backend, handles[-1])

    async def _follow(self, backend: Backend, handle: Handle) -> None:
        """The backend's own steps, onto the progress page."""
        async for event in backend.events(handle):
            await self._note(event)

    async def _estimate(self, backend: Backend, handle: Handle) -> None:
        """What the place has to be asked for, now and then while somebody looks at the page."""
        while backend.estimate_every_s:
            await asyncio.sleep(backend.estimate_every_s)
            await self._steps.watched()
            if (event := await backend.estimate(handle)) is not None:
                await self._note(event)

    async def _resume(self, record: LaunchRecord) -> str:
        """Adoption: wait for the server that is already there. Nothing that fails here stops it."""
        row = await record.row()
        self._oauth_scopes = await self._get_oauth_client_allowed_scopes()
        if row is None or row.handle is None:
            raise StartFailed("The server that was found has ended.", permanent=True)
        profile = str(row.request.get("profile_display_name") or row.profile)
        said = taken_over(row.state, row.created_at, profile, chose_other=self._chose_other)
        await self._say(said, 50)
        backend = self.site.backend(row.backend)
        following = asyncio.create_task(self._follow(backend, row.handle))
        try:
            url = await backend.resume(row.handle)
        finally:
            following.cancel()
        if row.state is not LaunchState.RUNNING:
            await self.site.run(self.site.ledger.move, row.id, LaunchState.RUNNING, now=utcnow())
            self.site.keep(ready_mail.tell(self, row))
        return url

    def _take(self, launch_id: str) -> LaunchRecord:
        """From here on this object stands for that launch; the hub keeps its token while it lives."""
        self._record = LaunchRecord(self.site, launch_id, self.log)
        self.will_resume = True
        return self._record

    def _asked(self) -> Admission:
        """The admission that `apply_user_options` began; the hub always calls that before `start`."""
        if self._admission is None:
            raise StartFailed("start() was called before apply_user_options().", permanent=True)
        return self._admission

    def _environment(self) -> dict[str, str]:
        """The hub's variables for the server: strings only, the site's `environment` included."""
        return {name: str(value) for name, value in self.get_env().items()}

    # ------------------------------------------------------------ 8 progress

    async def _say(self, message: str, progress: int | None = None) -> None:
        await self._note(Event(at=utcnow(), message=message, progress=progress))

    async def _note(self, event: Event) -> None:
        new = await self._steps.add(event)
        if new and self._record is not None and self._record.reserved:
            self._record.note(event)

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """The steps of this start, from the first one, also after a reload of the page."""
        async with aclosing(self._steps.follow()) as steps:
            async for step in steps:
                yield step


insist(DaasSpawner)
