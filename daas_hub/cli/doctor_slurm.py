"""What ``daas-hub doctor`` says of a cluster: its programs, what the hub sees there, partitions, accounting, helper."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from traitlets.config import Config

from daas_hub.backends.base import Backend
from daas_hub.backends.slurm_settings import SlurmSettings
from daas_hub.clients.as_user import AsUser
from daas_hub.clients.slurm import Slurm
from daas_hub.clients.slurm_rest import Signer
from daas_hub.core.errors import AccountRefused, BackendUnavailable, StartFailed
from daas_hub.core.models import Account
from daas_hub.core.slurm_host import clock_problem, version_problem

from .finding import Finding

FIXES = {
    "munge": "start munged on this host, with the cluster's key: every program of SLURM's needs it",
    "no_configuration": "put the cluster's slurm.conf on this host (/etc/slurm/slurm.conf), or let it have it by DNS",
    "not_installed": "install SLURM's client programs (slurm-client), of the controllers' version",
    "dns": "let this host resolve the controllers' names of slurm.conf",
    "refused": "start slurmctld; `scontrol ping` says which controller answers",
    "timeout": "see whether a firewall drops what goes to the controllers, or whether they are overloaded",
}
FOR_EVERYBODY = 1024
"""From this port on everybody may listen."""
EVERYWHERE = {"", "*", "0.0.0.0", "::"}  # noqa: S104  only compared with
ROOT = Account(
    id="", name="root", uid=0, gid=0, groups=(), home="/root", shell="", source="doctor",
    fetched_at=datetime(2000, 1, 1, tzinfo=UTC),
)  # fmt: skip
"""Whom no helper ever becomes: that it says so is all that is asked of it."""


def slurm(backend: Backend, word: str, within_s: float, named: Collection[str] = ()) -> Iterator[Finding]:
    """Each look at one cluster. Nothing is submitted or changed. ``named``: partitions that profiles name."""
    assert isinstance(backend, SlurmSettings)  # noqa: S101  whoever calls has looked at its name

    async def all_of_them() -> list[Finding]:
        return [finding async for finding in _looks(backend, f"backend {word}", within_s, named)]

    yield from asyncio.run(all_of_them())


def named_partitions(config: Config, word: str) -> set[str]:
    """The partitions of this backend that profiles, their choices and ``c.SlurmSpawner`` name."""
    found: set[str] = set(str(config.SlurmSpawner.get("req_partition") or "").split(","))
    left: list[object] = [config.DaasSpawner.get("profile_list")]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            override, places = one.get("slurm_override"), one.get("backend")
            if isinstance(override, Mapping):
                found |= set(str(override.get("partition") or "").split(","))
            for place in [places] if isinstance(places, str) else places or ():
                backend, _, partition = str(place).partition(":")
                found |= {partition} if backend == word else set()
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
    # What a person types is judged when she does.
    return {name for name in found if name and "{" not in name}


def hub_name(config: Config, what: str) -> Finding:
    """Whether jobs can reach the hub by a name that its certificate has (JupyterHub's internal_ssl)."""
    hub = config.JupyterHub
    url = hub.get("hub_connect_url") or hub.get("hub_bind_url") or "http://127.0.0.1:8081"
    host = urlsplit(url).hostname or ""
    if host in EVERYWHERE:
        host = socket.gethostname()
    kind = "IP" if host.replace(".", "").isdigit() or ":" in host else "DNS"
    if host == "localhost" or (kind == "IP" and ip_address(host).is_loopback):
        fix = "set JupyterHub.hub_connect_url to the URL by which nodes reach this host"
        found = f"jobs are told to find the hub at {url}: that is their own node, and right where there is no other"
        return Finding("note", what, found, fix)
    if not hub.get("internal_ssl"):
        fix = "set JupyterHub.internal_ssl: docs/howto/internal-tls.md"
        return Finding("note", what, "what hub and jobs say to each other is not encrypted", fix)
    # JupyterHub adds this host's full name by itself.
    if f"{kind}:{host}" not in {*(hub.get("trusted_alt_names") or ()), f"DNS:{socket.getfqdn()}"}:
        found = f"jobs reach the hub as {host}, which its certificate does not name: they would refuse it"
        fix = (
            f"add {kind}:{host} to JupyterHub.trusted_alt_names; a hub that has its certificate already needs "
            "JupyterHub.recreate_internal_certs for one start, while no server runs"
        )
        return Finding("error", what, found, fix)
    return Finding("ok", what, f"jobs reach the hub by the name {host}, and its certificate has it")


async def _looks(backend: SlurmSettings, what: str, within_s: float, named: Collection[str]) -> AsyncIterator[Finding]:
    programs = Slurm(prefix=backend.command_prefix, within_s=min(within_s, backend.command_timeout_s))
    try:
        jobs = await programs.jobs()
    except BackendUnavailable as error:
        fix = FIXES.get(error.reason, "run squeue as the hub's user on this host, and mend what it says")
        yield Finding("error", what, f"squeue: {error.log_message}", fix)
    else:
        yield Finding("ok", what, f"squeue answers: {len(jobs)} jobs")
        looks: Sequence[Callable[[Slurm, str], Awaitable[Finding]]]
        looks = (_sbatch, _clock, _sees_all, partial(_partitions, named=named), _accounting)
        for look in looks:
            try:
                yield await look(programs, what)
            except BackendUnavailable as error:
                yield Finding("error", what, error.log_message, FIXES.get(error.reason, "mend what it says"))
    for way in (_helper,) if backend.submit_by == "helper" else (_signer, _slurmrestd):
        yield await way(backend, what, within_s)
    yield _records(backend, what)


async def _sbatch(programs: Slurm, what: str) -> Finding:
    ours, settings = await asyncio.gather(programs.version(), programs.settings())
    theirs = settings.get("SLURM_VERSION", "")
    try:
        problem = version_problem(ours, theirs)
    except ValueError as error:
        return Finding("note", what, str(error))
    if problem:
        return Finding("error", what, problem, "install SLURM's client programs of the controllers' version")
    return Finding("ok", what, f"sbatch is there ({ours}; controllers: {theirs})")


async def _clock(programs: Slurm, what: str) -> Finding:
    asked = datetime.now(UTC)
    told = await programs.controllers_time()
    if problem := clock_problem(told, asked, datetime.now(UTC)):
        fix = "let both hosts keep their time (chrony, systemd-timesyncd): jobs are known by when they were submitted"
        return Finding("error", what, problem, fix)
    return Finding("ok", what, "this clock and the controller's agree")


async def _sees_all(programs: Slurm, what: str) -> Finding:
    user = pwd.getpwuid(os.geteuid()).pw_name
    if await programs.sees_all_jobs(user):
        return Finding("ok", what, f"{user} is shown everybody's jobs")
    return Finding(
        "error",
        what,
        f"slurm.conf has PrivateData=jobs, and {user} is no operator: jobs that run would look as if they had ended",
        f"sacctmgr modify user {user} set adminlevel=Operator",
    )


async def _partitions(programs: Slurm, what: str, *, named: Collection[str]) -> Finding:
    partitions = await programs.partitions()
    if lacking := sorted({*named} - {one.name for one in partitions}):
        known = ", ".join(one.name for one in partitions)
        found = f"profiles name partitions that the cluster does not have: {', '.join(lacking)}; it has {known}"
        return Finding("error", what, found, "name another one in the profile (slurm_override, backend)")
    up = [one for one in partitions if one.state == "UP"]
    if not up:
        return Finding("error", what, "no partition is UP", "scontrol update partitionname=… state=UP")
    told = ", ".join(f"{one.name} ({one.cpus_free} of {one.cpus} cores free)" for one in up)
    return Finding("ok", what, f"partitions: {told}")


async def _accounting(programs: Slurm, what: str) -> Finding:
    try:
        await programs.accounted([1])
    except BackendUnavailable as error:
        found = f"sacct: {error.log_message}: how jobs ended, and what they used, is known by their times only"
        return Finding("note", what, found, "slurmdbd, if the site has one, must be reached from this host")
    return Finding("ok", what, "sacct answers")


async def _helper(backend: SlurmSettings, what: str, within_s: float) -> Finding:
    asked = AsUser(backend.helper).probe(ROOT, within_s=within_s)
    with_what = "its settings and the line of sudoers: `daas-hub slurm helper`, `daas-hub slurm sudoers`"
    return await _refuses_root(asked, what, backend.helper, with_what, "lets root have jobs", "daas-hub slurm helper")


async def _signer(backend: SlurmSettings, what: str, within_s: float) -> Finding:  # noqa: ARG001
    asked = Signer(backend.signer).token(ROOT)
    with_what = "its account, key, settings and line of sudoers: `daas-hub slurm signer`"
    return await _refuses_root(asked, what, backend.signer, with_what, "signs for root", "daas-hub slurm signer")


async def _refuses_root(
    asked: Awaitable[object], what: str, argv: Sequence[str], with_what: str, does: str, prints: str
) -> Finding:
    """Whether a program that acts for accounts is there, and is ours: it refuses to for root."""
    words = " ".join(argv)
    try:
        await asked
    except (AccountRefused, StartFailed):
        return Finding("ok", what, f"{words} answers, and refuses whom it must")
    except BackendUnavailable as error:
        return Finding("error", what, f"{words}: {error.log_message}", f"install it with {with_what}")
    return Finding("error", what, f"{words} {does}", f"it is not the program that `{prints}` prints")


async def _slurmrestd(backend: SlurmSettings, what: str, within_s: float) -> Finding:  # noqa: ARG001
    rest = backend.rest()
    try:
        said = await rest.look()
    except BackendUnavailable as error:
        fix = "start slurmrestd, and set SlurmBackend.rest_url to where it listens"
        return Finding("error", what, f"slurmrestd: {error.log_message}", fix)
    finally:
        await rest.close()
    answers = f"slurmrestd answers at {backend.rest_url}; without a token it says {said}"
    parts = urlsplit(backend.rest_url)
    if parts.scheme == "http" and (parts.port or 80) >= FOR_EVERYBODY:
        found = (
            f"{answers}. Who can sign in on this host can listen there while it is away, and is sent people's tokens"
        )
        fix = (
            f"let it listen below port {FOR_EVERYBODY} (CAP_NET_BIND_SERVICE), or by https; or let nobody else in here"
        )
        return Finding("note", what, found, fix)
    return Finding("ok", what, answers)


def _records(backend: SlurmSettings, what: str) -> Finding:
    folder = Path(backend.runtime_dir)
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        fix = "give SlurmBackend.runtime_dir a folder of the hub's own user, on a disk that lasts"
        return Finding("error", what, f"{folder} cannot be made or written by the hub", fix)
    return Finding("ok", what, f"records are kept in {folder}")
