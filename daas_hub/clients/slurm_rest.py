"""slurmrestd: jobs submitted and cancelled with a token that a program apart signs for one account and one minute.

The signer is believed in what it refuses. slurmrestd's own errors differ between versions (of a wrong token 22.05 says
500 and "Zero Bytes were transmitted", 24.11 says 511; of a job that cannot be cancelled 500 or 200): they are
translated here, once.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from daas_hub.core.errors import AccountRefused, BackendUnavailable, DaasError, StartFailed
from daas_hub.core.models import Account
from daas_hub.core.slurm_rest import VERSIONS, RestJob, best

from .as_user import MAY_HAVE_HEARD, refused_submission
from .as_user import away as reason_in
from .helper_program import HelperProgram, away

SIGNER = ("sudo", "-n", "-u", "daas-signer", "/usr/local/sbin/daas-slurm-signer")
SIGN_WITHIN_S = 30.0
MAX_BODY_BYTES = 16 * 2**20
"""The OpenAPI document of 24.11 has 1.6 MB."""
OPENAPI = "/openapi/v3"
GONE = (2017, 2021)
"""slurm_errno.h: ESLURM_INVALID_JOB_ID, ESLURM_ALREADY_DONE."""
_AUTH = re.compile("authentication", re.IGNORECASE)


class Signer:
    """Makes tokens; it alone can read the key."""

    def __init__(self, argv: Sequence[str] = SIGNER) -> None:
        self._program = HelperProgram(argv)

    async def token(self, account: Account) -> tuple[str, str]:
        """The account's name on the signer's host, and a token for it. Raises AccountRefused, BackendUnavailable."""
        try:
            answer = await self._program.ask(account.name, str(account.uid), within_s=SIGN_WITHIN_S)
        except BackendUnavailable as error:
            # Whatever it did, no job came of it.
            raise away(error.log_message, "signer") from error
        if answer.get("kind") == "account":
            said = f"SLURM's side refuses this account: {answer.get('error')}."
            raise AccountRefused(said, log_message=f"daas-slurm-signer {account.name} {account.uid}: {said}")
        name, token = answer.get("name"), answer.get("token")
        if not isinstance(name, str) or not isinstance(token, str):
            raise away(f"daas-slurm-signer {account.name} {account.uid}: {answer.get('error')}", "signer")
        return name, token

    async def close(self) -> None:
        """Wait a little for what is left of it."""
        await self._program.close()


class SlurmRest:
    """One slurmrestd."""

    def __init__(self, url: str, signer: Signer, *, within_s: float = 15) -> None:
        self._url, self._signer, self._within_s = url.rstrip("/"), signer, within_s
        self._version: str | None = None
        self._http: AsyncHTTPClient | None = None

    async def submit(self, account: Account, job: RestJob, *, within_s: float) -> int:
        """The id of the job. Raises as ``AsUser.submit`` does: after ``reason="unsure"`` it may exist all the same."""
        version, headers = await self._known(account)
        try:
            body = job.body(version)
        except ValueError as error:
            raise StartFailed(
                "The server's job cannot be submitted from this profile. Ask the administrator.",
                permanent=True,
                reason="job_settings",
                log_message=f"SlurmSpawner.batch_script: {error} ({version})",
            ) from error
        answer = await self._ask("POST", f"/slurm/{version}/job/submit", headers, body, within_s=within_s)
        said = _json(answer)
        job_id = said.get("job_id")
        if answer.code == 200 and type(job_id) is int and job_id > 0:
            return job_id
        self._forget_version(answer)
        raise refused(answer.code, _words(said))

    async def cancel(self, account: Account, job_id: int, *, within_s: float) -> None:
        """End a job; one that SLURM does not know, or that has ended, is no error. Raises BackendUnavailable."""
        version, headers = await self._known(account)
        answer = await self._ask("DELETE", f"/slurm/{version}/job/{job_id}", headers, within_s=within_s)
        said = _json(answer)
        faults = [*said.get("errors", []), *(one.get("error", {}) for one in said.get("status", []))]
        wrong = [fault for fault in faults if fault and _number(fault) not in (0, *GONE)]
        if wrong or (answer.code != 200 and not faults):
            self._forget_version(answer)
            why = f"DELETE of job {job_id} as {account.name}: {answer.code} {_words(said)}"
            raise away(why, reason_in(why) or "not_cancelled")

    async def look(self) -> str:
        """For who sets it up: what it answers without a token, or why it cannot be asked. Raises BackendUnavailable."""
        answer = await self._ask("GET", OPENAPI, {}, within_s=self._within_s)
        return f"{answer.code} {answer.reason}"

    async def version(self, account: Account) -> str:
        """The API version that is spoken with it. Raises BackendUnavailable, AccountRefused."""
        return (await self._known(account))[0]

    async def _known(self, account: Account) -> tuple[str, Mapping[str, str]]:
        """The version, and the headers of a question as this account."""
        name, token = await self._signer.token(account)
        headers = {"X-SLURM-USER-NAME": name, "X-SLURM-USER-TOKEN": token}
        if self._version is None:
            try:
                answer = await self._ask("GET", OPENAPI, headers, within_s=self._within_s)
            except BackendUnavailable as error:
                # Nothing was submitted yet.
                raise away(error.log_message, "refused") from error
            paths = (await asyncio.to_thread(_json, answer)).get("paths", {})
            self._version = best(paths)
        if self._version is None:
            raise away(f"{self._url}{OPENAPI} offers none of {', '.join(VERSIONS)}", "version")
        return self._version, headers

    def _forget_version(self, answer: HTTPResponse) -> None:
        if answer.code == 404:
            # It was upgraded.
            self._version = None

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: Any = None, *, within_s: float
    ) -> HTTPResponse:
        request = HTTPRequest(
            self._url + path,
            method=method,
            body=None if body is None else json.dumps(body),
            headers={"Accept": "application/json", "Content-Type": "application/json", **headers},
            connect_timeout=min(self._within_s, within_s),
            request_timeout=within_s,
            # Where a redirect leads, the token would follow.
            follow_redirects=False,
            decompress_response=False,
        )
        if self._http is None:
            # Here and not before: it belongs to the loop that runs.
            self._http = AsyncHTTPClient(force_instance=True, max_clients=20, max_body_size=MAX_BODY_BYTES)
        try:
            return await self._http.fetch(request, raise_error=False)
        except Exception as error:
            # Whatever goes wrong on the way may have gone wrong after the job was taken; a refused connection has not.
            reason = "refused" if isinstance(error, ConnectionRefusedError) else "unsure"
            raise away(f"{method} {self._url}{path}: {type(error).__name__}: {error}", reason) from error

    async def close(self) -> None:
        """Drop the connections."""
        if self._http is not None:
            self._http.close()
            self._http = None
        await self._signer.close()


def refused(status: int, said: str) -> DaasError:
    """What a refused submission means. Pure."""
    if status == 401 or _AUTH.search(said):
        # No word about the account: a clock or a key is wrong.
        return away(f"slurmrestd refuses the signer's token ({status}): {said}", "token")
    if status in (404, 405):
        return away(f"slurmrestd knows no such address ({status})", "version")
    if reason_in(said) in MAY_HAVE_HEARD or not said:
        # 22.05's controller just hangs up on a wrong token, as on a connection that is lost.
        hint = "; where it always says so, look at the signer's key and clock"
        return away(f"slurmrestd ({status}): {said or 'nothing'}{hint}", "unsure")
    return refused_submission(1, said)


def _json(answer: HTTPResponse) -> dict[str, Any]:
    try:
        said = json.loads(answer.body or b"")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _number(fault: Mapping[str, Any]) -> int:
    """An error's number, by the names that it has had; -1: it has none."""
    number = next((fault[name] for name in ("error_number", "error_code", "code") if name in fault), -1)
    return number if isinstance(number, int) else -1


def _words(said: Mapping[str, Any]) -> str:
    """All that an answer says of errors, in one line."""
    faults = [*said.get("errors", []), *(one.get("error", {}) for one in said.get("status", []))]
    texts = [str(fault.get("error") or fault.get("string") or fault.get("description") or "") for fault in faults]
    return "; ".join(dict.fromkeys(text for text in texts if text))
