"""What a job that has claimed its files asks and tells later: by the secret of the process that claimed.

``POST /hub/api/daas/claim/tokens`` is answered with the server's site tokens as they are now, ``/log`` takes the end of
what it printed. The code in the job's script is no proof here: it is good for nothing after the claim.
"""

from __future__ import annotations

import time

from tornado import web

from daas_hub.core.errors import BackendUnavailable, NotAllowed
from daas_hub.core.handout import LONGEST_S, TokenSet
from daas_hub.core.models import ACTIVE, Handle, Json, LaunchState, Target
from daas_hub.core.slurm_claims import digest
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.runtime import utcnow

from .claim import ANYBODY, CLAIM, DAY_S, WHOSE, OfJob

TOKENS, LOG = rf"{CLAIM}/tokens", rf"{CLAIM}/log"
MAX_LOG_CHARACTERS, MAX_LOG_BYTES = 16 * 1024, 32 * 1024
WHOSE_LOG = {**WHOSE, "log": rf"(?s:.{{0,{MAX_LOG_CHARACTERS}}})"}


class OfClaimed(OfJob):
    """The base of both."""

    def known(self, row: LaunchRow) -> Handle:
        """Where it runs. Raises NotAllowed where it has ended, BackendUnavailable."""
        if row.state not in ACTIVE:
            raise NotAllowed("Nothing is handed out: the server has ended.", reason="ended")
        if row.handle is None:
            raise BackendUnavailable("What was submitted is not written down yet.", reason="not_recorded")
        return row.handle

    def bound(self, row: LaunchRow) -> None:
        """Raises 429 where this very launch asks too often; only after it has proved that it is it."""
        if wait_s := self.bounds.asks.begin(row.id, time.monotonic()):
            self.set_header("Retry-After", str(int(wait_s) + 1))
            raise web.HTTPError(429, "This server asks too often.")


class TokensOfJob(OfClaimed):
    """``POST`` ``{"launch": id, "claimer": …}``: 200 with ``files``, ``again_s`` and ``over_in_s``."""

    async def answer(self, row: LaunchRow, told: dict[str, str]) -> Json:
        """The set. A server that is to stop has none, whoever asks; its job may end while this is looked at."""
        handle = self.known(row)
        if row.target is Target.STOPPED or row.state is LaunchState.STOPPING:
            return TokenSet({}, LONGEST_S).told()
        tokens = await self.site.backend(row.backend).fetched_tokens(handle, told["claimer"])
        self.bound(row)
        if tokens.files:
            await self._audited(row, told["claimer"])
        return tokens.told()

    async def _audited(self, row: LaunchRow, by: str) -> None:
        """Once of each process, and once more if what it knows is used from elsewhere."""
        address = str(self.request.remote_ip)
        if self.bounds.told.begin(f"{row.id} {digest(by)} {address}", time.monotonic()):
            return
        self.log.info("Site tokens of launch %s are fetched from %s from now on", row.id, address)
        await self.site.run(
            self.site.ledger.audit.append, utcnow(), ANYBODY, "site_tokens_fetched", f"launch:{row.id}", None,
            {"version": 1, "address": address}, f"Again for {DAY_S:g} s this is not written down.",
        )  # fmt: skip


class LogOfJob(OfClaimed):
    """``POST`` ``{"launch": id, "claimer": …, "log": text}``: 200 where it is kept."""

    keys = WHOSE_LOG
    max_body_bytes = MAX_LOG_BYTES

    async def answer(self, row: LaunchRow, told: dict[str, str]) -> Json:
        """Kept beside what else the hub knows of the launch; the next one replaces it."""
        await self.site.backend(row.backend).told_log(self.known(row), told["claimer"], told["log"])
        self.bound(row)
        return {}
