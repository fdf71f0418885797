"""What people, root and the home service may do on NFS: runs in a virtual machine, as root, and prints JSON.

Standard library only. Its argument is JSON: the mounts (argv of ``mount``, as kubelet makes them), and where the
project's own files are.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

UID, GID, CREW = 20001, 20001, 20002
OTHER = 20009
MANY = range(30000, 30020)
Facts = dict[str, Any]


def as_person(uid: int, gid: int, groups: list[int], act: Callable[[], Any]) -> Any:
    """What ``act`` says, done by a process of that uid, gid and groups; an OSError by its name."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            said = act()
        except OSError as error:
            said = type(error).__name__
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = json.loads(answer.read())
    os.wait()
    return said


def facts(path: Path) -> list[int]:
    """Owner, group and mode; nothing where there is no such file."""
    if not path.exists():
        return []
    found = path.stat()
    return [found.st_uid, found.st_gid, found.st_mode & 0o7777]


def folder(path: Path, uid: int, gid: int, mode: int) -> None:
    """What the site does on its server."""
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)


def writes(path: Path) -> Callable[[], str]:
    """A write of one file."""

    def act() -> str:
        path.write_text("mine\n")
        return "written"

    return act


def mount(argv: list[str]) -> Facts:
    """One mount, as kubelet asks for it."""
    target = Path(argv[-1])
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return {"status": done.returncode, "said": (done.stdout + done.stderr).strip()}


def homes(server: Path, mounted: Path) -> Facts:
    """A home of 0700 below an export that trusts no root."""
    mine, result = mounted / "zora", mounted / "zora" / "result"
    return {
        "written": as_person(UID, GID, [GID], writes(result)),
        "file": facts(server / "zora" / "result"),
        "read_by_other": as_person(OTHER, OTHER, [OTHER], lambda: result.read_text()),
        "listed_by_other": as_person(OTHER, OTHER, [OTHER], lambda: os.listdir(mine)),
        "listed_by_root": as_person(0, 0, [0], lambda: os.listdir(mine)),
        "written_by_root": as_person(0, 0, [0], writes(mine / "roots")),
        "given_away_by_root": as_person(0, 0, [0], lambda: os.chown(result, OTHER, OTHER)),
        "other_home": as_person(UID, GID, [GID], lambda: os.listdir(mounted / "bob")),
        "others_own_home": as_person(OTHER, OTHER, [OTHER], lambda: os.listdir(mounted / "bob")),
    }


def groups(server: Path, mounted: Path) -> Facts:
    """A folder of a group, and groups that do not fit into AUTH_SYS."""
    ours = mounted / "crew" / "result"
    said = {
        "written": as_person(UID, GID, [GID, CREW], writes(ours)),
        "file": facts(server / "crew" / "result"),
        "by_other": as_person(OTHER, OTHER, [OTHER], writes(mounted / "crew" / "others")),
    }
    for number, name in ((MANY[3], "early"), (MANY[18], "late")):
        said[name] = as_person(UID, GID, list(MANY), writes(mounted / str(number) / "result"))
    return said


def service(program: Path, root: Path) -> Facts:
    """The home service's answer to the hub, with this mount as its root."""
    spec = importlib.util.spec_from_file_location("home_service", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["home_service"] = module
    spec.loader.exec_module(module)
    limits = module.Limits(str(root), (UID, UID + 20), (UID, UID + 20))
    asked = json.dumps({"name": "carol", "uid": UID + 7, "gid": GID}).encode()
    status, answer = module.answer(asked, limits, module.home_tasks())
    made = root / "carol"
    return {"status": status, "answer": answer, "home": facts(made),
            "left": sorted(os.listdir(root))}  # fmt: skip


def main(given: Facts) -> Facts:
    """Make what the site has, mount, look."""
    server = Path("/export/home")
    folder(server / "zora", UID, GID, 0o700)
    folder(server / "bob", OTHER, OTHER, 0o700)
    projects = Path("/export/projects")
    folder(projects / "crew", 0, CREW, 0o2770)
    for number in (MANY[3], MANY[18]):
        folder(projects / str(number), 0, number, 0o770)
    mounts = {name: mount(argv) for name, argv in given["mounts"].items()}
    at = {name: Path(argv[-1]) for name, argv in given["mounts"].items()}
    program = Path(given["home_service"])
    return {
        "mounts": mounts,
        "types": {name: _type(str(path)) for name, path in at.items()},
        "home": as_person(UID, GID, [GID], writes(at["home"] / "from-the-pod")),
        "home_file": facts(server / "zora" / "from-the-pod"),
        "homes": homes(server, at["homes"]),
        "groups": groups(projects, at["projects"]),
        "service": {name: service(program, at[name]) for name in ("homes", "trusted")},
    }


def _type(path: str) -> str:
    """The kind and version of what is mounted there; empty: nothing."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if where == path:
            return " ".join([kind, *(word for word in options.split(",") if word.startswith("vers="))])
    return ""


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
