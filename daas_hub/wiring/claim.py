"""Where a job that was submitted without files fetches them: ``POST /hub/api/daas/claim``, with its one code.

Nobody is signed in here: the code is the proof, and the backend judges it (``Backend.redeem``). Every refusal is
audited, a bounded number of times for each sender; a right code is never held up by others' wrong ones. What the same
job asks afterwards: ``claimed.py``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certipy.certipy import CertNotFoundError
from tornado import web

from daas_hub.core.attempts import Failures, network_of
from daas_hub.core.errors import BackendUnavailable, DaasError, NotAllowed
from daas_hub.core.handout import Handout
from daas_hub.core.models import ACTIVE, Json, LaunchState, Target
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.certificates import AUTHORITY, issued
from daas_hub.spawners.runtime import DaasHub, utcnow

from .small_body import SmallBody

CLAIM = r"/api/daas/claim"
WHOSE = {"launch": "[0-9a-z]{1,64}", "claimer": "[0-9a-f]{64}"}
WHOSE_CODE = {**WHOSE, "code": "[A-Za-z0-9_-]{20,100}"}
REFUSALS, REFUSALS_WITHIN_S = 20, 600.0
"""So many of one sender are audited in so many seconds; further ones are answered with 429."""
AT_ONCE = 4
"""Claims that are looked at at once; others wait, so that wrong ones take no more of the hub than these."""
AGAIN_AT_ONCE = 50
"""Of those that have claimed, for which no start waits. While the cluster does not answer each takes two seconds, and a
thousand servers ask once in forty."""
ASKS, ASKS_WITHIN_S = 120, 60.0
"""So often one launch may ask after its claim, in so many seconds."""
DAY_S = 86400.0
ANYBODY = "claim"


class Bounds:
    """What all claims of one hub share."""

    def __init__(self) -> None:
        self.failures = Failures(REFUSALS, REFUSALS_WITHIN_S)
        self.looking = asyncio.Semaphore(AT_ONCE)
        self.looking_again = asyncio.Semaphore(AGAIN_AT_ONCE)
        self.asks = Failures(ASKS, ASKS_WITHIN_S)
        self.told = Failures(1, DAY_S)
        """Who has fetched site tokens from where is audited once."""


class OfJob(SmallBody):
    """A question of a job's, by a secret and nobody's name."""

    keys: Mapping[str, str] = WHOSE
    max_body_bytes = 512

    def initialize(self, site: DaasHub, bounds: Bounds) -> None:  # type: ignore[override]
        """With the hub's one memory of refusals."""
        super().initialize(site)
        self.bounds = bounds

    async def get_current_user(self) -> Any:
        """Nobody, whatever is sent along."""
        self._jupyterhub_user = None

    async def post(self) -> None:
        """200; 403 for good, audited; 429 after too many of these; 503 where it should be sent again."""
        row = None
        told = self._told()
        try:
            async with self.turn:
                row = await self.site.run(self.site.ledger.get, told["launch"])
                if row is None:
                    raise NotAllowed("Nothing is handed out: there is no such code.", reason="wrong_code")
                said = await self.answer(row, told)
        except NotAllowed as error:
            await self._refused(error, told["launch"] if row is not None else "")
        except DaasError as error:
            self.log.warning("A job is not answered yet: %s", error.log_message)
            self.refuse(error)
        else:
            self.set_header("Cache-Control", "no-store")
            self.finish(said)

    @property
    def turn(self) -> asyncio.Semaphore:
        """What bounds how many of these are looked at at once."""
        return self.bounds.looking_again

    async def answer(self, row: LaunchRow, told: dict[str, str]) -> Json:
        """What is said; raises NotAllowed where it is refused for good."""
        raise NotImplementedError

    def _told(self) -> dict[str, str]:
        """The texts; raises 400 or 413."""
        told, keys = self.told(), self.keys
        wrong = not isinstance(told, dict) or set(told) != set(keys)
        if wrong or not all(isinstance(told[key], str) and re.fullmatch(keys[key], told[key]) for key in keys):
            raise web.HTTPError(400, f"Allowed are exactly {', '.join(keys)}, as the job's script has them.")
        return dict(told)

    async def _refused(self, error: NotAllowed, launch_id: str) -> None:
        address = str(self.request.remote_ip)
        if wait_s := self.bounds.failures.begin(network_of(address), time.monotonic()):
            self.set_header("Retry-After", str(int(wait_s) + 1))
            raise web.HTTPError(429, "Too many claims were refused; each of them was audited.")
        self.log.warning("A claim from %s is refused: %s", address, error.log_message)
        await self.site.run(
            self.site.ledger.audit.append, utcnow(), ANYBODY, "claim_refused", f"launch:{launch_id or 'unknown'}", None,
            {"version": 1, "address": address, "reason": error.reason}, error.message,
        )  # fmt: skip
        self.refuse(error)


class ClaimOfJob(OfJob):
    """``POST`` ``{"launch": id, "code": …, "claimer": …}`` by a job itself: 200 with ``files``."""

    keys = WHOSE_CODE

    @property
    def turn(self) -> asyncio.Semaphore:
        """Others."""
        return self.bounds.looking

    async def answer(self, row: LaunchRow, told: dict[str, str]) -> Json:
        """The files of the launch."""
        if row.state not in ACTIVE - {LaunchState.STOPPING} or row.target is Target.STOPPED:
            raise NotAllowed("Nothing is handed out: the server is to stop, or has ended.", reason="ended")
        if row.handle is None:
            raise BackendUnavailable("What was submitted is not written down yet.", reason="not_recorded")
        given = await self.site.backend(row.backend).redeem(row.handle, told["code"], told["claimer"])
        files = given.files
        if given.names and self.settings["internal_ssl"]:
            files = await self._with_certificate(row, given)
        self.log.info("The files of launch %s are handed out to %s", row.id, self.request.remote_ip)
        return {"files": dict(files)}

    async def _with_certificate(self, row: LaunchRow, given: Handout) -> Mapping[str, str]:
        place, trusted = self.settings["internal_certs_location"], self.settings["internal_trust_bundles"][AUTHORITY]
        try:
            return {**given.files, **await asyncio.to_thread(issued, Path(place), trusted, row.id, given.names)}
        except (OSError, ValueError, CertNotFoundError) as error:
            # The same process may claim again.
            raise BackendUnavailable(
                "Its certificate cannot be made just now.",
                reason="certificate",
                log_message=f"No certificate for launch {row.id} ({', '.join(given.names)}): {error}",
            ) from error
