"""What is put into the folder of a job before it is submitted: the launcher and what it reads. Pure but for reading.

<home>/.daas/<launch_id>/       the account's, 0700
    launch.py, launch.json      0600; the launcher and this launch's values, the token among them
    home_tasks.py               0600; how settings are copied out of the home and back
    keyfile, certfile, cafile   0600; where the hub has internal_ssl
    log                         what the job prints
    claimer.py, keeper.py       0600; where the job claims its files: see ``slurm_keeper.py``
    claimed.json                0600; there, by what it may ask the hub for more
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from daas_hub.clients import home_tasks
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import LaunchSpec
from daas_hub.core.site_tokens import VARIABLE

from .local_launch import terminal

VERSION = 1
LAUNCHER, CLAIMER_TEXT, KEEPER_TEXT = (
    Path(__file__).with_name(f"slurm_{name}.py").read_text() for name in ("launcher", "claimer", "keeper")
)
LAUNCH, VALUES, TASKS = "launch.py", "launch.json", "home_tasks.py"
CLAIMER, KEEPER = "claimer.py", "keeper.py"
HOME_TASKS = Path(home_tasks.__file__).read_text()
FULL_HOME_BYTES = 64 * 2**20
"""As ``LocalBackend.full_home_bytes``."""
CERTIFICATES = {
    "keyfile": "JUPYTERHUB_SSL_KEYFILE",
    "certfile": "JUPYTERHUB_SSL_CERTFILE",
    "cafile": "JUPYTERHUB_SSL_CLIENT_CA",
}
"""File in the launch's folder → the variable by which JupyterHub's programs find it."""
OF_THE_HUB = ("PATH", "PYTHONPATH", "CONDA_ROOT", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
"""What JupyterHub hands on from its own environment (``Spawner.env_keep``): on another machine it leads nowhere."""
OWN = "{own}"
"""In argv the folder that the launcher has made on the node."""
_UNBINDABLE = re.compile(r"[,:]")


def launch_files(
    spec: LaunchSpec,
    *,
    report_url: str,
    ports: tuple[int, int] | None,
    claims: bool = False,
    full_home_bytes: int = FULL_HOME_BYTES,
    hub_environment: Mapping[str, str] = os.environ,
) -> Mapping[str, str]:
    """The files of the launch's folder, by name. Reads the certificates: call it in a thread where there are any.

    ``report_url``: where the launcher tells its port. ``ports``: the lowest and the highest that a server may use;
    None: any that is free. ``claims``: the job claims these files, and fetches its site tokens itself, too, onto the
    node. ``full_home_bytes``: a home with less room is nearly full. Raises
    StartFailed(permanent=True) where the profile's software and the home do not go together.
    """
    found = {kind: Path(path).read_text() for kind, path in (spec.certificates or {}).items() if kind in CERTIFICATES}
    software: Mapping[str, Any] = spec.override.get("software") or {}
    values = {
        "version": VERSION,
        "launch_id": spec.launch_id,
        "account": {
            "name": spec.account.name,
            "uid": spec.account.uid,
            "gid": spec.account.gid,
            "groups": sorted({spec.account.gid, *(group.gid for group in spec.account.groups)}),
            "home": spec.account.home,
            "shell": spec.account.shell,
        },
        "argv": _argv(spec, software),
        "path_first": _path_first(spec.cmd, software),
        "environment": _environment(spec.environment, software, hub_environment) | _site_tokens(spec, claims=claims),
        "own_paths": {VARIABLE: "site_tokens"} if claims and spec.site_tokens else {},
        "beside": [KEEPER, "tokens"] if claims and spec.site_tokens else [],
        "secrets": dict(spec.secrets),
        "certificates": {CERTIFICATES[kind]: kind for kind in found},
        "scheme": "https" if spec.certificates else "http",
        "service_prefix": spec.service_prefix,
        "report_url": report_url,
        "ports": list(ports) if ports is not None else None,
        "terminal": terminal(spec.account.shell),
        "full_home_bytes": full_home_bytes,
    }
    more = {CLAIMER: CLAIMER_TEXT, KEEPER: KEEPER_TEXT} if claims else {}
    return {LAUNCH: LAUNCHER, VALUES: json.dumps(values), TASKS: HOME_TASKS, **more, **found}


def _site_tokens(spec: LaunchSpec, *, claims: bool) -> dict[str, str]:
    """Where the helper will put its tokens for other services (``slurm_tokens.py``)."""
    if claims or not spec.site_tokens:
        return {}
    return {VARIABLE: f"{spec.account.home}/.daas/{spec.launch_id}/site_tokens"}


def _environment(
    given: Mapping[str, str], software: Mapping[str, Any], hub_environment: Mapping[str, str]
) -> dict[str, str]:
    """The hub's and the profile's variables, less those that are the hub's machine's own."""
    env = {k: v for k, v in given.items() if k not in OF_THE_HUB or hub_environment.get(k) != v}
    if venv := software.get("venv"):
        env["VIRTUAL_ENV"] = venv
    return env


def _path_first(cmd: Sequence[str], software: Mapping[str, Any]) -> list[str]:
    """Folders before those of the node: kernels find the programs that were installed with the server."""
    program = PurePath(cmd[0])
    paths = [str(PurePath(software["venv"]) / "bin")] if software.get("venv") else []
    if program.is_absolute() and not software.get("apptainer"):
        paths.append(str(program.parent))
    return list(dict.fromkeys(paths))


def _argv(spec: LaunchSpec, software: Mapping[str, Any]) -> list[str]:
    """The server's argv, in the profile's image where it names one."""
    image, home = software.get("apptainer"), spec.account.home
    if not image:
        return list(spec.cmd)
    if _UNBINDABLE.search(home):
        raise StartFailed(
            f"The home {home!r} cannot be mounted by Apptainer, because it has a comma or a colon in its name. Ask the "
            "administrator.",
            permanent=True,
            reason="home",
        )
    gpus = ["--nv"] if spec.resources.gpus else []
    return ["apptainer", "exec", "--bind", home, "--bind", OWN, "--pwd", home, *gpus, image, *spec.cmd]
