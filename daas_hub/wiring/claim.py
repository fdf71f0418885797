"""Where a job that was submitted without files fetches them: ``POST /hub/api/daas/claim``, with its one code.

Nobody is signed in here: the code is the proof, and the backend judges it (``Backend.redeem``). Every refusal is
audited, a bounded number of times for each sender; a right code is never held up by others' wrong ones.
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
from daas_hub.core.models import ACTIVE, LaunchState, Target
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.certificates import AUTHORITY, issued
from daas_hub.spawners.runtime import DaasHub, utcnow

from .small_body import SmallBody

CLAIM = r"/api/daas/claim"
KEYS = {"launch": "[0-9a-z]{1,64}", "code": "[A-Za-z0-9_-]{20,100}", "claimer": "[0-9a-f]{64}"}
REFUSALS, REFUSALS_WITHIN_S = 20, 600.0
"""So many of one sender are audited in so many seconds; further ones are answered with 429."""
AT_ONCE = 4
"""Claims that are looked at at once; others wait, so that wrong ones take no more of the hub than these."""
ANYBODY = "claim"


class Bounds:
    """What all claims of one hub share."""

    def __init__(self) -> None:
        self.failures = Failures(REFUSALS, REFUSALS_WITHIN_S)
        self.looking = asyncio.Semaphore(AT_ONCE)


class ClaimOfJob(SmallBody):
    """``POST`` ``{"launch": id, "code": …, "claimer": …}`` by a job itself."""

    max_body_bytes = 512

    def initialize(self, site: DaasHub, bounds: Bounds) -> None:  # type: ignore[override]
        """With the hub's one memory of refusals."""
        super().initialize(site)
        self.bounds = bounds

    async def get_current_user(self) -> Any:
        """Nobody, whatever is sent along."""
        self._jupyterhub_user = None

    async def post(self) -> None:
        """200 with ``files``; 403 for good, audited; 429 after too many of these; 503 where it should be sent again."""
        try:
            told = self._told()
            async with self.bounds.looking:
                row = await self.site.run(self.site.ledger.get, told["launch"])
                files = await self._redeemed(row, told)
        except NotAllowed as error:
            await self._refused(error, told["launch"] if row is not None else "")
        except DaasError as error:
            self.log.warning("A launch's files are not handed out: %s", error.log_message)
            self.refuse(error)
        else:
            self.log.info("The files of launch %s are handed out to %s", told["launch"], self.request.remote_ip)
            self.set_header("Cache-Control", "no-store")
            self.finish({"files": files})

    def _told(self) -> dict[str, str]:
        """The three texts; raises 400 or 413."""
        told = self.told()
        wrong = not isinstance(told, dict) or set(told) != set(KEYS)
        if wrong or not all(isinstance(told[key], str) and re.fullmatch(KEYS[key], told[key]) for key in KEYS):
            raise web.HTTPError(400, f"Allowed are exactly {', '.join(KEYS)}, as the job's script has them.")
        return dict(told)

    async def _redeemed(self, row: LaunchRow | None, told: dict[str, str]) -> Mapping[str, str]:
        if row is None:
            raise NotAllowed("Nothing is handed out: there is no such code.", reason="wrong_code")
        if row.state not in ACTIVE - {LaunchState.STOPPING} or row.target is Target.STOPPED:
            raise NotAllowed("Nothing is handed out: the server is to stop, or has ended.", reason="ended")
        if row.handle is None:
            raise BackendUnavailable("What was submitted is not written down yet.", reason="not_recorded")
        given = await self.site.backend(row.backend).redeem(row.handle, told["code"], told["claimer"])
        if not given.names or not self.settings["internal_ssl"]:
            return given.files
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
