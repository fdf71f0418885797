"""An upstream SlurmSpawner as a builder of batch scripts: it is asked what it *would* submit, and submits nothing.

Every shaping setting (``c.SlurmSpawner.*``) and every ``slurm_override`` of a profile works as batchspawner documents
it; who the job is, what it runs and where it prints is ours (``slurm_traits.py``, ``core/sbatch_lines.py``).
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

from batchspawner import SlurmSpawner
from batchspawner import api as upstream_api
from batchspawner.batchspawner import format_template
from jinja2 import TemplateError
from traitlets import TraitError
from traitlets.config import Config
from traitlets.log import get_logger

from daas_hub.core import sbatch_lines, slurm_override
from daas_hub.core.errors import ConfigError, StartFailed
from daas_hub.core.models import Account, LaunchSpec, Resources
from daas_hub.core.slurm_choices import ACCOUNT, FIELDS, QOS, RUNTIME

from .slurm_launch import LAUNCH
from .slurm_traits import TABLE, check

# batchspawner's route lets a server set any attribute of its spawner; ours takes one number (``wiring/report.py``).
upstream_api.default_handlers[:] = [
    route for route in upstream_api.default_handlers if route[1] is not upstream_api.BatchSpawnerAPIHandler
]

SECTIONS = ("SlurmSpawner", "BatchSpawnerRegexStates", "UserEnvMixin", "BatchSpawnerBase")
"""Classes whose settings SlurmSpawner inherits."""
MIB = 2**20
OURS = """# daas-hub: steps of the job get its variables and its cores; it ends when its node is clean.
unset SLURM_EXPORT_ENV
if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi
trap {end} EXIT
"""
"""Stands before the script's first command. The job ends when the launcher's child has cleaned up the node."""
MODULES = """# daas-hub: the profile's modules
case $- in *u*) _daas_u=-u ;; *) _daas_u=+u ;; esac
set +u
for _daas_file in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh; do
    if ! command -v module >/dev/null 2>&1 && [ -r "$_daas_file" ]; then . "$_daas_file"; fi
done
for _daas_module in {names}; do
    module load "$_daas_module" || {{ echo "daas-hub: module load $_daas_module failed on $(hostname)" >&2; exit 78; }}
done
set "$_daas_u"
"""
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\\]")


class ScriptBuilder(SlurmSpawner):
    """A SlurmSpawner that connects to nothing and runs nothing. Made for one launch, asked once.

    ``tests/contracts/test_script_like_upstream.py`` compares its scripts with those of an unmodified SlurmSpawner.
    """

    launch_environment: Mapping[str, str] = {}

    def get_env(self) -> dict[str, Any]:
        """The launch's variables: only their names are asked for."""
        return dict(self.launch_environment)

    async def run_command(self, cmd: str, input: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """Never: what is to be run, the helper runs."""
        raise NotImplementedError(f"a builder runs nothing: {cmd.split()[:1]}")


def check_settings(config: Config) -> tuple[str, ...]:
    """Raise ConfigError where ``c.SlurmSpawner`` sets what is not honoured here, or makes no script that can be used.

    Logs and returns what the operator should know: lines of the site's template that have no effect, GPUs for all.
    """
    known = set(SlurmSpawner.class_trait_names(config=True)) - set(TABLE)
    for section in SECTIONS:
        check(set(config.get(section, {})), of_every_spawner=known, section=section)
    try:
        child = _child(_SAMPLE, config)
        script = _rendered(child, _SAMPLE, ["/usr/bin/python3", LAUNCH])
    except TraitError as error:
        raise ConfigError(f"c.SlurmSpawner: {error}") from error
    except StartFailed as error:
        raise ConfigError(error.log_message) from error
    told = []
    if slurm_override.gpus_of(child.req_gres):
        told.append(
            f"SlurmSpawner.req_gres is {child.req_gres!r}: every job gets these GPUs, and no limit counts them before "
            "it runs. Profiles say what they need in resources.gpus."
        )
    if any("batch_script" in config.get(section, {}) for section in SECTIONS):
        told += [
            f"SlurmSpawner.batch_script: the line {remark.line!r} {remark.text}, so it has no effect."
            for remark in sbatch_lines.remarks(script)
        ]
    for sentence in told:
        get_logger().warning("%s", sentence)
    return tuple(told)


def site_choices(config: Config) -> dict[str, str]:
    """Field of ``core/slurm_choices.py`` → what ``c.SlurmSpawner`` says of it for all profiles. Its partition is not
    among them: where a job goes is the placement's."""
    given: dict[str, object] = {}
    for section in reversed(SECTIONS):
        given |= config.get(section, {})
    return {
        name: str(given[f"req_{FIELDS[name]}"]) for name in (ACCOUNT, QOS, RUNTIME) if given.get(f"req_{FIELDS[name]}")
    }


async def build_script(
    spec: LaunchSpec, *, config: Config, folder: str, python: str, first: str = "", last: str = ""
) -> str:
    """The script that an unmodified SlurmSpawner would submit for this launch, with our launcher as its ``cmd``.

    ``folder``: the launch's, as the compute nodes see it; ``python``: their interpreter, at least 3.6; ``first``: lines
    before the script's first command; ``last``: a command at the job's end. Raises StartFailed(permanent=True) where
    settings and profile make no script that the hub may submit.
    """
    argv = [python, "-I", "-S", str(PurePath(folder) / LAUNCH)]
    return _rendered(_child(spec, config), spec, argv, first, last)


def _child(spec: LaunchSpec, config: Config) -> ScriptBuilder:
    """Given the hub's own spawner it has that one's user and hub, as upstream's would."""
    origin: Any = spec.origin
    if origin is not None:
        given = {"user": origin.user, "orm_spawner": origin.orm_spawner, "hub": origin.hub, "parent": origin.parent}
        return ScriptBuilder(config=config, authenticator=origin.authenticator, **given)
    user = SimpleNamespace(name=spec.user_name, id=spec.account.id, url=spec.service_prefix, groups=[])
    return ScriptBuilder(config=config, user=user, orm_spawner=SimpleNamespace(name=spec.server_name, server=None))


def _rendered(child: ScriptBuilder, spec: LaunchSpec, argv: Sequence[str], first: str = "", last: str = "") -> str:
    try:
        _set(child, spec)
        variables = child.get_req_subvars()
        _check_values(variables)
        variables["cmd"] = shlex.join(argv)
        script: str = format_template(child.batch_script, **variables)
    except (TraitError, TemplateError, KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
        raise _unusable(f"SlurmSpawner.batch_script cannot be filled in: {type(error).__name__}: {error}") from error
    if variables["cmd"] not in script:
        raise _unusable("SlurmSpawner.batch_script has no {{cmd}}, where the server is started.")
    modules = (spec.override.get("software") or {}).get("modules")
    if modules and _module_lines(modules) not in script:
        raise _unusable("SlurmSpawner.batch_script has no {{prologue}}, where the profile's modules are loaded.")
    for remark in sbatch_lines.remarks(script):
        if remark.fate is sbatch_lines.Line.REFUSED:
            raise _unusable(f"SlurmSpawner.batch_script or options: the line {remark.line!r} {remark.text}.")
    head = len(sbatch_lines.header(script))
    lines = script.split("\n")
    more = sbatch_lines.missing(script, spec.override.get("slurm") or {})
    added = f"{first}{ours(variables['cmd'], last)}".rstrip("\n")
    return "\n".join([*lines[:head], *more, added, *lines[head:]])


def ours(cmd: str, last: str = "") -> str:
    """The lines that we add to a script in which the launcher is called by ``cmd``; ``last``: a command at the end."""
    return OURS.format(end=shlex.quote("; ".join(part for part in (f"{cmd} end", last) if part)))


def _set(child: ScriptBuilder, spec: LaunchSpec) -> None:
    """Lay profile, resources and account over the site's settings."""
    account, resources = spec.account, spec.resources
    if _UNUSABLE.search(account.home) or _UNUSABLE.search(account.name):
        raise _unusable(f"The home {account.home!r} of {account.name!r} cannot be written into a batch script.")
    child.launch_environment = spec.environment
    cores = resources.cpu_limit if resources.cpu_limit is not None else resources.cpu_guarantee
    memory = resources.mem_limit_bytes if resources.mem_limit_bytes is not None else resources.mem_guarantee_bytes
    if cores is not None:
        child.req_nprocs = str(math.ceil(cores))
    if memory is not None:
        child.req_memory = f"{math.ceil(memory / MIB)}M"
    for key, value in (spec.override.get("slurm") or {}).items():
        if f"req_{key}" not in TABLE:
            raise _unusable(f"slurm_override has {key!r}, which SlurmSpawner does not know, or which is ours.")
        if value is None:
            continue  # a choice took it away: the site's stands
        try:
            setattr(child, f"req_{key}", slurm_override.checked(key, value))
        except ValueError as error:
            raise _unusable(f"slurm_override.{key} is {value!r:.100}: {error}") from error
    if resources.gpus:
        child.req_ngpus = str(resources.gpus)
    if resources.gpus or (spec.override.get("slurm") or {}).get("gres"):
        # What counts against limits is what the job gets; only the site's own setting stands without it.
        child.req_gres = slurm_override.with_gpus(child.req_gres, resources.gpus)
    child.req_username, child.req_homedir = shlex.quote(account.name), shlex.quote(account.home)
    if modules := (spec.override.get("software") or {}).get("modules"):
        child.req_prologue = f"{child.req_prologue}\n{_module_lines(modules)}".lstrip("\n")


def _module_lines(modules: Sequence[str]) -> str:
    return MODULES.format(names=shlex.join(modules)).rstrip("\n")


def _check_values(variables: Mapping[str, Any]) -> None:
    """A value is one line, so that none can begin a line of its own."""
    # In an order in which what is added to another value is named first.
    for key, value in sorted(variables.items(), reverse=True):
        if key not in slurm_override.SEVERAL_LINES and _UNUSABLE.search(str(value).replace("\\", "")):
            raise _unusable(
                f"SlurmSpawner.req_{key} is {value!r}: a line break or another control character cannot stand there."
            )


def _unusable(problem: str) -> StartFailed:
    return StartFailed(
        "The server's job cannot be written from this profile. Ask the administrator.",
        permanent=True,
        reason="job_settings",
        log_message=problem,
    )


_SAMPLE = LaunchSpec(
    launch_id="0" * 32,
    hub_id="hub",
    account=Account(
        "sample", "sample", 1000, 1000, (), "/home/sample", "/bin/sh", "none", datetime.min.replace(tzinfo=UTC)
    ),
    user_name="sample",
    server_name="",
    resources=Resources(),
    cmd=("jupyterhub-singleuser",),
    environment={"JUPYTERHUB_USER": "sample"},
    secrets={},
    mounts=(),
    service_prefix="/user/sample/",
)
"""For a look at the site's settings before anybody starts anything."""
