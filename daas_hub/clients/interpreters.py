"""Which Python other accounts can execute (one below a 0700 folder is of no use to them), and what one has."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

LOWEST = (3, 11)
ASK_WITHIN_S = 20
_QUESTION = """import json, sys, sysconfig
print(json.dumps([sys.version_info[:2], sys.base_prefix, sys.executable, sysconfig.get_path("stdlib")]))"""


def reachable_by(uid: int, path: Path, *, gids: Iterable[int] = ()) -> bool:
    """Whether an account may pass every folder on the way to ``path``, links included, and read and run it there.

    Looks at permission bits only (no ACLs): may say no where an ACL would say yes, and never blocks on anything but
    the file system. ``gids`` are the account's groups; without them it counts as "other".
    """
    groups = frozenset(gids)
    try:
        return all(_allows(uid, groups, step, last=step == final) for final in _ends(path) for step in _steps(final))
    except OSError:
        return False


def _ends(path: Path) -> Iterator[Path]:
    """The path as it is written and as every link on it leads: folders on all of them must be passable."""
    seen: set[Path] = set()
    todo = [Path(os.path.abspath(path))]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        for part in (one, *one.parents):
            if part.is_symlink():
                target = part.parent / part.readlink()
                todo.append(Path(os.path.abspath(target / one.relative_to(part))))


def _steps(path: Path) -> Iterator[Path]:
    yield from reversed(path.parents)
    yield path


def _allows(uid: int, groups: frozenset[int], path: Path, *, last: bool) -> bool:
    facts = path.stat()
    shift = 6 if facts.st_uid == uid else 3 if facts.st_gid in groups else 0
    wanted = 0o5 if last else 0o1
    return facts.st_mode >> shift & wanted == wanted


def find_reachable_python(uid: int = 65534, *, candidates: Iterable[str] = ()) -> Path:
    """A Python from 3.11 on that this account can run, with its standard library; by default: that anybody can.

    The one that runs now is preferred, then its base, then those of the PATH and the usual places. Raises
    FileNotFoundError that names all that were looked at. Blocks: call it in a thread.
    """
    looked_at = []
    for candidate in dict.fromkeys((*candidates, *_usual())):
        why_not = _unfit(uid, Path(candidate))
        if why_not is None:
            return Path(candidate)
        looked_at.append(f"{candidate} ({why_not})")
    raise FileNotFoundError(f"No Python that uid {uid} can run. Looked at: {'; '.join(looked_at) or 'nothing'}.")


def _usual() -> Iterator[str]:
    yield sys.executable
    yield getattr(sys, "_base_executable", sys.executable)
    for minor in ("3", "3.14", "3.13", "3.12", "3.11"):
        for folder in ("/usr/local/bin", "/usr/bin", "/opt/python/bin"):
            yield f"{folder}/python{minor}"
        if (found := shutil.which(f"python{minor}")) is not None:
            yield found


def _unfit(uid: int, python: Path) -> str | None:
    """Why this one will not do, or None."""
    if not python.exists():
        return "does not exist"
    if not reachable_by(uid, python):
        return "lies where others cannot go"
    try:
        asked = [str(python), "-I", "-c", _QUESTION]
        answer = subprocess.run(asked, capture_output=True, check=True, timeout=ASK_WITHIN_S, text=True)
        version, base, executable, stdlib = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"does not run: {type(error).__name__}"
    if tuple(version) < LOWEST:
        return f"is {version[0]}.{version[1]}, needed is {LOWEST[0]}.{LOWEST[1]}"
    # A launcher (pyenv's shims) may stand anywhere: what counts is what it leads to.
    for place in (base, executable, stdlib):
        if not reachable_by(uid, Path(place)):
            return f"needs {place}, where others cannot go"
    return None


# ---------------------------------------------------------------- what a program is made of

_PACKAGES = """import importlib.metadata as m, json, platform, sysconfig
names = {d.metadata["Name"]: d.version for d in m.distributions() if d.metadata["Name"]}
print(json.dumps([platform.python_version(), sysconfig.get_path("purelib"), dict(sorted(names.items()))]))"""
_asked: dict[str, tuple[Path, int, Mapping[str, Any]]] = {}
"""Interpreter → its site-packages, when something was installed there last, and its answer."""


def software_of(program: str) -> dict[str, Any]:
    """The interpreter of an installed Python program, its version, and every package with its version.

    ``program`` is an argv[0]: a path, or a name in this process's PATH. Empty where it is no Python program, cannot be
    asked within 20 s, or could have been changed by somebody who is neither root nor this process's own user: then it
    is not run. Each interpreter is asked once, and again after something was installed. Blocks.
    """
    try:
        interpreter = _interpreter_of(Path(shutil.which(program) or program))
        if interpreter is None:
            return {}
        known = _asked.get(str(interpreter))
        if known is None or known[0].stat().st_mtime_ns != known[1]:
            known = _asked[str(interpreter)] = _ask_packages(interpreter)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return dict(known[2])


def _ask_packages(interpreter: Path) -> tuple[Path, int, Mapping[str, Any]]:
    asked = [str(interpreter), "-I", "-c", _PACKAGES]
    answer = subprocess.run(asked, capture_output=True, check=True, timeout=ASK_WITHIN_S, text=True)
    version, place, packages = json.loads(answer.stdout)
    made = {"interpreter": str(interpreter), "python": version, "packages": packages}
    return Path(place), Path(place).stat().st_mtime_ns, made


def _interpreter_of(program: Path) -> Path | None:
    """Who runs a script, from its first line; the program itself where it is a Python."""
    if not _ours(program):
        return None
    with program.open("rb") as file:
        first = file.read(1024).split(b"\n", 1)[0]
    if first.startswith(b"#!"):
        words = first[2:].decode(errors="replace").split()
        if len(words) > 1 and Path(words[0]).name == "env":
            words = [shutil.which(words[1]) or ""]
        program = Path(words[0]) if words else Path()
    return program if program.name.startswith("python") and _ours(program) else None


def _ours(program: Path) -> bool:
    """Whether nobody but root and this user can have written it, or put something else in its place."""
    for end in _ends(program):
        for step in _steps(end):
            facts = step.stat()
            sticky_folder = facts.st_mode & stat.S_ISVTX and step != end
            if facts.st_uid not in {0, os.geteuid()} or (facts.st_mode & stat.S_IWOTH and not sticky_folder):
                return False
    return program.is_absolute()
