"""What a launch on this machine consists of, as values: ids, environment, the helper's request. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from daas_hub.clients.processes import ProcessId
from daas_hub.core.errors import AccountRefused
from daas_hub.core.models import Account, Handle, Json, LaunchSpec
from daas_hub.core.site_tokens import VARIABLE
from daas_hub.core.units import format_bytes

from .local_folder import LaunchFolder
from .local_probe import HOST, own_host

VERSION = 1
MARK = "DAAS_LAUNCH_ID"
"""A variable of every server, by which its descendants are found where there are no cgroups."""
SHARED = "shared uid: no isolation"

POSIX_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})
_REMEMBER_PATH = """export _daas_path="$PATH"; exec "$0" -l -c 'exec /bin/sh -c "$1" "$0"' "$0" "$1\""""
_BRING_PATH_BACK = """lost=; IFS=:
for folder in $_daas_path; do
  case ":$PATH:" in *":$folder:"*) ;; *) lost="$lost$folder:" ;; esac
done
unset _daas_path IFS
export PATH="$lost$PATH"
exec "$0\""""


@dataclass(frozen=True)
class Ids:
    """Who the process will be."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    shared: bool = False
    """It is the hub's own uid, which everybody has here."""


@dataclass(frozen=True)
class Hub:
    """Who the hub is, and what it may do."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    allow_shared_uid: bool
    min_uid: int


def ids_of(account: Account, hub: Hub) -> Ids:
    """The ids a server of this account gets; raises AccountRefused with both uids where that cannot be."""
    if hub.uid == 0:
        groups = tuple(sorted({account.gid, *(group.gid for group in account.groups)}))
        if account.uid < max(1, hub.min_uid) or 0 in groups:
            raise AccountRefused(
                f"Servers may not run as uid {account.uid} with groups {list(groups)} here: allowed are uids from "
                f"{hub.min_uid} on, and never group 0.",
                reason="forbidden_id",
            )
        return Ids(account.uid, account.gid, groups)
    if hub.allow_shared_uid or account.uid == hub.uid:
        # Where everybody may have it, it is shared, also with those whom the directory gives it (as the demo does).
        return Ids(hub.uid, hub.gid, hub.groups, shared=hub.allow_shared_uid)
    raise AccountRefused(
        f"This hub runs as uid {hub.uid} and can start servers as that uid only, but your account {account.name} has "
        f"uid {account.uid}. Ask the administrator.",
        reason="not_root",
    )


def groups_warning(account: Account, ids: Ids) -> list[str]:
    """Where the hub cannot set groups (it is not root): which ones of the account the server lacks."""
    lacking = sorted({account.gid, *(group.gid for group in account.groups)} - {ids.gid, *ids.groups})
    return [] if ids.shared or not lacking else [f"groups_missing: the hub's own user is not in {lacking}"]


def process_of(handle: Handle) -> ProcessId:
    """The recorded process; raises ValueError where the handle is not one of ours, in a form that we know."""
    if handle.get("backend") != "local" or handle.get("version") != VERSION:
        raise ValueError(f"not a handle of this version of the local backend: {handle.get('version')!r}")
    values = (handle.get("boot_id"), handle.get("pid"), handle.get("start_time"))
    match values:
        case (str(boot_id), int(pid), int(start_time)) if pid > 1:
            return ProcessId(boot_id, pid, start_time)
    raise ValueError(f"the handle names no process: {values!r}")


def groups_of(handle: Handle) -> tuple[str, ...]:
    """The recorded cgroup folders; only such that carry the launch's own id, whatever else a handle may say."""
    launch_id = str(handle["launch_id"])
    return tuple(group for group in handle.get("groups", ()) if launch_id in PurePath(group).name)


def environment(
    spec: LaunchSpec, folder: LaunchFolder, *, inherited: Mapping[str, str], certificates: Mapping[str, str]
) -> dict[str, str]:
    """The server's variables less secrets and address. Ours come last: no profile can move the home."""
    account, own = spec.account, folder.own
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", **inherited, **spec.environment}
    program = PurePath(spec.cmd[0])
    if program.is_absolute() and str(program.parent) not in env["PATH"].split(":"):
        # Kernels find the programs that were installed with the server; terminals: see ``terminal``.
        env["PATH"] = f"{program.parent}:{env['PATH']}"
    return env | {
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "lab/user-settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "lab/workspaces"),
        "IPYTHONDIR": str(own / "ipython"),
        # What she installed and configured in her home still counts.
        "JUPYTER_PATH": _joined(f"{account.home}/.local/share/jupyter", env.get("JUPYTER_PATH")),
        "JUPYTER_CONFIG_PATH": _joined(f"{account.home}/.jupyter", env.get("JUPYTER_CONFIG_PATH")),
        MARK: spec.launch_id,
        **({VARIABLE: str(folder.site_tokens)} if spec.site_tokens else {}),
        **certificates,
    }


def terminal(shell: str) -> list[str]:
    """The command of a terminal: a login shell's variables, and the server's own programs before those of the PATH.

    A login shell (Jupyter's default) reads the machine's profile, which sets the PATH anew: the server's folders that
    are then missing are put back. A shell that does not speak POSIX is begun without login and so keeps the PATH.
    """
    if PurePath(shell).name not in POSIX_SHELLS:
        return [shell]
    return ["/bin/sh", "-c", _REMEMBER_PATH, shell, _BRING_PATH_BACK]


def address(spec: LaunchSpec, port: int) -> dict[str, str]:
    """The variable that tells the server where to listen."""
    scheme = "https" if spec.certificates else "http"
    return {"JUPYTERHUB_SERVICE_URL": f"{scheme}://{host_of(spec)}:{port}{spec.service_prefix}"}


def host_of(spec: LaunchSpec) -> str:
    """The address where the server is to listen: one of its own where its certificate names it."""
    return own_host(spec.launch_id) if spec.certificates else HOST


def handle(spec: LaunchSpec, ids: Ids, process: ProcessId, *, port: int, path: PurePath) -> Handle:
    """What is saved: enough to find, judge and stop the server from any process of the hub."""
    return {
        "backend": "local",
        "version": VERSION,
        "launch_id": spec.launch_id,
        "boot_id": process.boot_id,
        "pid": process.pid,
        "start_time": process.start_time,
        "uid": ids.uid,
        "shared_uid": ids.shared,
        "host": host_of(spec),
        "port": port,
        "tls": bool(spec.certificates),
        "service_prefix": spec.service_prefix,
        "dir": str(path),
        "memory_bytes": spec.resources.mem_limit_bytes,
        "program": spec.cmd[0],
        "site_tokens": spec.site_tokens,
        "gid": ids.gid,
        "warnings": [],
    }


def _joined(first: str, rest: str | None) -> str:
    return f"{first}:{rest}" if rest else first


def identity_request(ids: Ids, hub: Hub, *, no_new_privs: bool) -> Json:
    """The part of a helper's request that says who to become."""
    return {
        "uid": ids.uid,
        "gid": ids.gid,
        "groups": list(ids.groups),
        "floor": hub.min_uid if hub.uid == 0 else 1,
        "no_new_privs": no_new_privs,
    }


def how_it_ended(code: int | None, *, oom_kills: int, memory_limit_bytes: int | None) -> str:
    """For a person: why a server ended by itself."""
    if oom_kills and code in {None, -signal.SIGKILL, 128 + signal.SIGKILL}:
        limit = f": it used more than its {format_bytes(memory_limit_bytes)}" if memory_limit_bytes else ""
        return f"out of memory{limit}"
    if code is None:
        return "it ended; its exit status is not known, because an earlier run of the hub had started it"
    if code < 0:
        return f"it was ended by {_signal_name(-code)}"
    return "it ended by itself" if code == 0 else f"it failed with exit status {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
