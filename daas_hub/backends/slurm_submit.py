"""The two ways to a job: by the helper, as the account on this host; by slurmrestd, with a token signed for it.

By the helper the launch's files are in the account's home before the job is known. By slurmrestd nothing can be
written there beforehand: the job's script brings a code, for which the hub hands the same files out once the job runs
(``slurm_claims``). Launcher and report are the same; what the hub would put into the home or read there later, the job
fetches and sends itself (``slurm_keeper``).
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from traitlets.config import Config

from daas_hub.clients import nss
from daas_hub.clients.as_user import AsUser
from daas_hub.clients.slurm_rest import SlurmRest
from daas_hub.core.errors import AccountUnresolved, BackendUnavailable, ConfigError, StartFailed
from daas_hub.core.models import Account, LaunchSpec
from daas_hub.core.slurm_jobs import comment_of
from daas_hub.core.slurm_launches import Ref
from daas_hub.core.slurm_rest import RestJob

from .local_watch import in_thread
from .slurm_launch import CLAIMER_TEXT, KEEPER, launch_files
from .slurm_records import Records
from .slurm_script import build_script
from .slurm_settings import SlurmSettings

SUBMIT_WITHIN_S = 60.0
"""The helper may have to wait for two controllers, and for an automounted home."""
TEST_WITHIN_S = 20.0
LOG_BYTES = 64 * 1024
LOG_WITHIN_S = 10.0
NO_LOG_HERE = "log"
"""The reason of a log that only the home has."""
FIRST = """# daas-hub: the launch's files come from the hub, for a code that counts once in each run of this job
_daas={folder}
( umask 077 && mkdir -p -- "$_daas" && : >>"$_daas/log" ) || exit 78
exec >>"$_daas/log" 2>&1
{python} -I -S - <<'{end}' || exit 78
{text}
{end}
"""
LAST = "{python} -I -S {keeper} log; find {folder} -mindepth 1 ! -name log -delete"
"""At the end of the job the hub is sent the end of what it printed, and nothing but that stays."""
UNTESTED = (
    "When it will start is not known: the scheduler has not planned this job yet, and by slurmrestd it cannot be asked "
    "when it would"
)
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.ASCII)


class Submitter(Protocol):
    """A way to submit. Raises what ``AsUser`` does."""

    claims: bool
    """Whether a job claims its files when it runs, and later what is new of them (site tokens). Else they are in its
    home before, and more can be put there later."""
    untested: str
    """Why nobody can be asked when a job like it would start; empty: ``tested`` asks."""

    async def submit(self, spec: LaunchSpec, ref: Ref) -> int:
        """The id of the launch's job. After BackendUnavailable with ``reason="unsure"`` it may exist all the same."""

    async def cancel(self, ref: Ref, job_id: int, *, within_s: float) -> None:
        """End one job of the account; one that is not there (any more) is no error."""

    async def clean(self, ref: Ref, *, part: str = "", within_s: float) -> None:
        """Remove the launch's folder, or its further folder ``part``, as far as this way reaches into the home."""

    async def hand(self, ref: Ref, part: str, files: Mapping[str, str], *, within_s: float) -> None:
        """Make the launch's further folder ``part``, which is its ``site_tokens`` from then on."""

    async def log(self, ref: Ref) -> str | None:
        """What the job printed at last; None where it has no log.

        Raises BackendUnavailable with ``reason="log"`` and where it lies, for people, where the hub cannot read it.
        """

    async def tested(self, spec: LaunchSpec, ref: Ref) -> str:
        """What sbatch says of when a job like it would start; empty where it can never be asked (``untested``)."""

    async def close(self) -> None:
        """Release what it holds. Jobs go on."""


async def owner_of(ref: Ref) -> Account:
    """Whose job it is, by the name that its uid has here now: the account may have been renamed since it began."""
    try:
        return account_of(replace(ref, name=await nss.name_now(ref.name, ref.uid)))
    except AccountUnresolved as error:
        raise BackendUnavailable(f"Whose job it is cannot be looked up now: {error}", reason="nss") from error


def account_of(ref: Ref) -> Account:
    """Whose job it is: name and uid are compared with the machine's own, and nothing else is used."""
    return Account(
        id="", name=ref.name, uid=ref.uid, gid=ref.gid, groups=(), home=ref.home, shell="", source="handle",
        fetched_at=ref.asked_at,
    )  # fmt: skip


def folder_of(ref: Ref) -> str:
    """The launch's, in the account's home."""
    return f"{ref.home}/.daas/{ref.launch_id}"


def hub_url(spec: LaunchSpec, what: str) -> str:
    """A route of the hub's for servers."""
    return f"{spec.environment.get('JUPYTERHUB_API_URL', '').rstrip('/')}/daas/{what}"


def is_private(url: str) -> bool:
    """Whether a secret may be sent there: by TLS, or without leaving the machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and bool(_LOOPBACK.fullmatch(parts.hostname or "")))


async def files_of(spec: LaunchSpec, settings: SlurmSettings, *, claims: bool) -> Mapping[str, str]:
    """What the launch's folder is to hold."""
    ports = (settings.ports[0], settings.ports[1]) if settings.ports else None
    # It reads the certificates.
    url = hub_url(spec, "report")
    return await in_thread(partial(launch_files, spec, report_url=url, ports=ports, claims=claims))


class ByHelper:
    """``daas-runas`` becomes the account and calls sbatch."""

    claims, untested = False, ""

    def __init__(self, settings: SlurmSettings, config: Config) -> None:
        self._settings, self._config = settings, config
        self._as_user = AsUser(settings.helper)

    async def submit(self, spec: LaunchSpec, ref: Ref) -> int:
        return await self._as_user.submit(
            account_of(ref),
            hub_id=ref.hub_id,
            launch_id=ref.launch_id,
            script=await self._script(spec, ref),
            files=await files_of(spec, self._settings, claims=self.claims),
            within_s=SUBMIT_WITHIN_S,
        )

    async def cancel(self, ref: Ref, job_id: int, *, within_s: float) -> None:
        await self._as_user.cancel(
            await owner_of(ref), launch_id=ref.launch_id, job_id=job_id, clean=False, within_s=within_s
        )

    async def clean(self, ref: Ref, *, part: str = "", within_s: float) -> None:
        folder = f"{ref.launch_id}-{part}" if part else ref.launch_id
        await self._as_user.cancel(await owner_of(ref), launch_id=folder, job_id=None, clean=True, within_s=within_s)

    async def hand(self, ref: Ref, part: str, files: Mapping[str, str], *, within_s: float) -> None:
        await self._as_user.hand(
            await owner_of(ref), launch_id=ref.launch_id, part=part, files=files, within_s=within_s
        )

    async def log(self, ref: Ref) -> str | None:
        probe = await self._as_user.probe(
            await owner_of(ref), launch_id=ref.launch_id, log_bytes=LOG_BYTES, within_s=LOG_WITHIN_S
        )
        return probe.log

    async def tested(self, spec: LaunchSpec, ref: Ref) -> str:
        script = await self._script(spec, ref)
        probe = await self._as_user.probe(account_of(ref), test_script=script, within_s=TEST_WITHIN_S)
        return probe.test

    async def _script(self, spec: LaunchSpec, ref: Ref) -> str:
        return await build_script(spec, config=self._config, folder=folder_of(ref), python=self._settings.python)

    async def close(self) -> None:
        await self._as_user.close()


class ByRest:
    """slurmrestd, with a token of the signer's."""

    claims, untested = True, UNTESTED

    def __init__(self, settings: SlurmSettings, config: Config, records: Records, rest: SlurmRest) -> None:
        self._settings, self._config, self._records, self._rest = settings, config, records, rest

    async def submit(self, spec: LaunchSpec, ref: Ref) -> int:
        url = self._settings.claim_url or hub_url(spec, "claim")
        # A node's loopback is not the hub's: only who says that there is no other node may name it.
        if not is_private(url) or (not self._settings.claim_url and urlsplit(url).scheme != "https"):
            raise StartFailed(
                "The hub's address for jobs is not safe. Ask the administrator.",
                permanent=True,
                reason="claim_url",
                log_message=f"{url}: a job's secrets may go over https only: set SlurmBackend.claim_url",
            )
        code = secrets.token_urlsafe(32)
        files = await files_of(spec, self._settings, claims=self.claims)
        await in_thread(self._records.keep_claim, ref.launch_id, code, files)
        folder, python = folder_of(ref), self._settings.python
        last = {"python": python, "keeper": f"{folder}/{KEEPER}", "folder": folder}
        script = await build_script(
            spec,
            config=self._config,
            folder=folder,
            python=python,
            first=await in_thread(self._first, ref, url, code),
            last=LAST.format(**{name: shlex.quote(value) for name, value in last.items()}),
        )
        account = spec.account
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "SHELL": account.shell,
        }
        job = RestJob(script, "daas-hub", comment_of(ref.hub_id, ref.launch_id), account.home, environment)
        return await self._rest.submit(account_of(ref), job, within_s=SUBMIT_WITHIN_S)

    def _first(self, ref: Ref, url: str, code: str) -> str:
        """The lines that fetch the launch's files. Reads the authorities: call it in a thread."""
        ca = self._settings.claim_ca
        values = {
            "folder": folder_of(ref),
            "url": url,
            "launch": ref.launch_id,
            "code": code,
            "ca": Path(ca).read_text() if ca else "",
        }
        # Its input is not seen in a list of processes.
        text = f"{CLAIMER_TEXT}\nmain({values!a})"
        end = f"DAAS_{secrets.token_hex(8)}"
        return FIRST.format(
            folder=shlex.quote(folder_of(ref)), python=shlex.quote(self._settings.python), text=text, end=end
        )

    async def cancel(self, ref: Ref, job_id: int, *, within_s: float) -> None:
        await self._rest.cancel(await owner_of(ref), job_id, within_s=within_s)

    async def clean(self, ref: Ref, *, part: str = "", within_s: float) -> None:
        """The job itself has removed its files at its end."""

    async def hand(self, ref: Ref, part: str, files: Mapping[str, str], *, within_s: float) -> None:
        """The job fetches them, from where the hub keeps what was handed over (``slurm_tokens``)."""

    async def log(self, ref: Ref) -> str | None:
        """What the job has sent at its end."""
        try:
            text = await in_thread(self._records.log, ref.launch_id)
        except OSError as error:
            raise BackendUnavailable(f"What the job sent of its log cannot be read: {error}") from error
        if text is None:
            node = f" (as node {ref.node} sees it)" if ref.node else ""
            raise BackendUnavailable(f"What it printed is in {folder_of(ref)}/log{node}.", reason=NO_LOG_HERE)
        return text

    async def tested(self, spec: LaunchSpec, ref: Ref) -> str:  # noqa: ARG002
        """slurmrestd has no such question."""
        return ""

    async def close(self) -> None:
        await self._rest.close()


def submitter(settings: SlurmSettings, config: Config, records: Records) -> Submitter:
    """The way that the site has chosen. Raises ConfigError where tokens would go over the network unencrypted."""
    if settings.submit_by == "helper":
        return ByHelper(settings, config)
    if not is_private(settings.rest_url):
        raise ConfigError(
            f"SlurmBackend.rest_url is {settings.rest_url!r}; with submit_by = 'rest' it must be https://…, or "
            "http://… on this machine: whoever reads a token submits as its account."
        )
    return ByRest(settings, config, records, settings.rest())
