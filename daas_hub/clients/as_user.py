"""Submits, cancels and looks on SLURM as an account, by the helper ``daas_runas.py``. One process for each call.

The helper is believed in what it refuses; what SLURM's programs said through it was run as the account, so a job id is
the account's own word: the caller compares uid and comment of that job before it calls it ours (design.md §4.3).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from daas_hub.core.errors import AccountRefused, BackendUnavailable, DaasError, StartFailed
from daas_hub.core.models import Account

from .daas_runas import MAX_INPUT
from .helper_program import HelperProgram
from .helper_program import away as away_now
from .slurm_said import reason_of

SUDO = ("sudo", "-n", "/usr/local/sbin/daas-runas")
MOST_WITHIN_S = 299
GRACE_S = 3.0
"""For sudo, Python and the files, beyond what SLURM's program may take."""
NO_LAUNCH = "none"

MAY_HAVE_HEARD = ("reset", "timeout")
"""Reasons after which the controller may have taken a job all the same."""
_GONE = re.compile("invalid job id|already completing or completed", re.IGNORECASE)


@dataclass(frozen=True)
class Probe:
    """What the helper has become, and what was asked for."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    log: str | None
    """The end of the launch's log; None where there is none."""
    test: str
    """What ``sbatch --test-only`` said, a refusal too."""


class AsUser:
    """The hub's side of the helper. ``argv``: the words before the verb."""

    def __init__(self, argv: Sequence[str] = SUDO) -> None:
        self._program = HelperProgram(argv)

    async def close(self) -> None:
        """Wait a little for helpers that nobody waits for any more."""
        await self._program.close()

    async def submit(
        self,
        account: Account,
        *,
        hub_id: str,
        launch_id: str,
        script: str,
        files: Mapping[str, str],
        within_s: float,
    ) -> int:
        """Write the launch's folder and submit its script; the job's id.

        Whoever calls it a second time for a launch has looked for a job with its comment before: what an earlier
        attempt left in the folder is removed, and another job is made. Raises AccountRefused; StartFailed(permanent)
        with sbatch's words; BackendUnavailable. After ``reason="unsure"`` the job may exist or come about later, and
        its folder stays; after all else no job exists and the folder is removed.
        """
        request = {"hub": hub_id, "launch": launch_id, "script": script, "files": dict(files)}
        try:
            try:
                said = await self._call("submit", account, request, within_s)
            except _Exists:
                await self.cancel(account, launch_id=launch_id, job_id=None, clean=True, within_s=within_s)
                said = await self._call("submit", account, request, within_s)
        except StartFailed as refused:
            if refused.reason == "home":
                await self._forget(account, launch_id, within_s)
            raise
        job = re.match("[1-9][0-9]*", said["said"])
        if said["status"] == 0 and job:
            return int(job[0])
        refusal = refused_submission(said["status"], said["errors"].strip() or said["said"].strip())
        if refusal.reason != "unsure":
            await self._forget(account, launch_id, within_s)
        raise refusal

    async def _forget(self, account: Account, launch_id: str, within_s: float) -> None:
        """Remove the folder of a launch that has no job; where that fails, it is removed at the launch's end."""
        with suppress(DaasError):
            await self.cancel(account, launch_id=launch_id, job_id=None, clean=True, within_s=within_s)

    async def cancel(
        self, account: Account, *, launch_id: str, job_id: int | None, clean: bool, within_s: float
    ) -> None:
        """End one job of the account, then, with ``clean``, remove the folder of the launch.

        A job that SLURM does not know, or that has ended, is no error. The folder stays where the job may run on.
        """
        if job_id is not None:
            said = await self._call("cancel", account, {"launch": launch_id, "job": str(job_id)}, within_s)
            if said["status"] != 0 and not _GONE.search(said["errors"]):
                why = said["errors"].strip()
                raise away_now(f"scancel {job_id} as {account.name}: {why}", away(why) or "not_cancelled")
        if clean:
            said = await self._call("cancel", account, {"launch": launch_id}, within_s)
            if said["status"] != 0:
                raise away_now(f"The folder of {launch_id} of {account.name}: {said['errors'].strip()}", "home")

    async def hand(
        self, account: Account, *, launch_id: str, part: str, files: Mapping[str, str], within_s: float
    ) -> None:
        """Make a launch's folder ``<launch>-<part>`` of these files, which is its ``site_tokens`` from then on.

        A folder of that name that is there is removed before. Raises AccountRefused, StartFailed(reason="home") where
        it cannot be written, BackendUnavailable, also where the launch has no folder any more.
        """
        name = f"{launch_id}-{part}"
        request = {"launch": name, "files": dict(files)}
        try:
            said = await self._call("hand", account, request, within_s)
        except _Exists:
            await self.cancel(account, launch_id=name, job_id=None, clean=True, within_s=within_s)
            said = await self._call("hand", account, request, within_s)
        if said["status"] != 0:
            await self._forget(account, name, within_s)
            raise away_now(f"The site tokens of {launch_id} of {account.name}: {said['errors'].strip()}", "home")

    async def probe(
        self, account: Account, *, launch_id: str = "", log_bytes: int = 0, test_script: str = "", within_s: float
    ) -> Probe:
        """Who the helper becomes, the last ``log_bytes`` of a launch's log, and sbatch's word about a script."""
        request = {"launch": launch_id or NO_LAUNCH, "script": test_script}
        said = await self._call("probe", account, request, within_s)
        test = f"{said.get('said', '')}{said.get('errors', '')}".strip()
        if said.get("status", 0) != 0 and (reason := away(test)):
            raise away_now(f"sbatch --test-only as {account.name}: {test}", reason)
        log = said.get("log")
        if log is not None:
            log = log.encode()[-log_bytes:].decode(errors="ignore") if log_bytes else ""
        return Probe(said["uid"], said["gid"], tuple(said["groups"]), said["home"], log, test)

    async def _call(self, verb: str, account: Account, request: Mapping[str, Any], within_s: float) -> dict[str, Any]:
        """One run of the helper. Raises what it says, or BackendUnavailable where it says nothing that can be read."""
        seconds = max(1, min(MOST_WITHIN_S, math.ceil(within_s)))
        whole = {"hub": "none", "job": "0", "script": "", "files": {}, "within_s": str(seconds), **request}
        given = json.dumps(whole).encode()
        if len(given) > MAX_INPUT:
            raise StartFailed(
                "The server's start script and files are too large for SLURM. Ask the administrator.",
                permanent=True,
                reason="request",
                log_message=f"{verb} as {account.name}: {len(given)} bytes; daas-runas takes {MAX_INPUT}",
            )
        words = (verb, account.name, str(account.uid))
        answer = await self._program.ask(*words, given=given, within_s=seconds + GRACE_S)
        if "kind" in answer:
            raise refusal_of(answer["kind"], str(answer.get("error")), verb, account)
        return answer


class _Exists(BackendUnavailable):
    """Raised when the launch has its folder already: another submission may be under way."""


def away(said: str) -> str | None:
    """Why SLURM cannot be asked, by the words of its programs; None where it could be, and refuses. Pure."""
    return reason_of(said, 1) or ("busy" if "temporarily" in said.lower() else None)


def refused_submission(status: int, said: str) -> DaasError:
    """What sbatch's failure means. Pure."""
    reason = away(said)
    if status <= 0 or reason in MAY_HAVE_HEARD:
        return away_now(f"sbatch (status {status}): {said}", "unsure")
    if reason is not None:
        return away_now(f"sbatch (status {status}): {said}", reason)
    words = " ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in said.splitlines())
    return StartFailed(
        f"SLURM refuses the job: {words}",
        permanent=True,
        reason="slurm_refused",
        log_message=f"sbatch (status {status}): {said}",
    )


def refusal_of(kind: str, error: str, verb: str, account: Account) -> DaasError:
    """What the helper's refusal means. Pure."""
    who = f"daas-runas {verb} {account.name} {account.uid}"
    if kind == "exists":
        return _Exists("The server's job is being submitted already.", reason="unsure", log_message=f"{who}: {error}")
    if kind == "account":
        return AccountRefused(f"SLURM's side refuses this account: {error}.", log_message=f"{who}: {error}")
    if kind == "home":
        return StartFailed(
            f"The job's files cannot be written into your home: {error}",
            permanent=True,
            reason="home",
            log_message=f"{who}: {error}",
        )
    if kind == "request":
        return StartFailed(
            "SLURM's side does not take this start. Ask the administrator.",
            permanent=True,
            reason="request",
            log_message=f"{who}: {error}",
        )
    return away_now(f"{who}: {error}", "unsure" if kind == "unsure" else "helper")
