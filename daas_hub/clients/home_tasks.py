"""What is done in a home: make it (as root), carry settings out of it and back (as the user). Standard library only.

Run as ``python -I -S home_tasks.py`` with the same protocol as ``run_as.py``, whose ``become`` it uses: one line of
JSON on standard input, one on descriptor 3. A home may hang (NFS) or be full: that is this process's trouble, never
the hub's. Root never writes into a home; it only makes a missing one, step by step on directory descriptors.
"""

from __future__ import annotations

import errno
import importlib.util
import itertools
import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

REPORT_FD = 3
MAX_LINKS = 16
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

LAB_DEFAULTS = tuple(
    Path(root, "jupyter/labconfig/default_setting_overrides.json") for root in ("/etc", "/usr/local/etc")
)
"""Where a machine's administrator keeps defaults of JupyterLab's settings; ours would hide them."""
QUIET_LAB = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
"""Lab asks nobody "Would you like to get notified about official Jupyter news?" and looks for no newer version of
itself; a person's own setting, and what stands in her home, go before."""

PROFILE = "ipython/profile_default"
COPIED = (
    (".jupyter/lab/user-settings", "lab/user-settings", True, True),
    (".jupyter/lab/workspaces", "lab/workspaces", True, True),
    (f".{PROFILE}/startup", f"{PROFILE}/startup", True, False),
    (f".{PROFILE}/ipython_config.py", f"{PROFILE}/ipython_config.py", True, False),
    (f".{PROFILE}/ipython_kernel_config.py", f"{PROFILE}/ipython_kernel_config.py", True, False),
    (f".{PROFILE}/history.sqlite", f"{PROFILE}/history.sqlite", True, True),
    # Those of the home are found there (JUPYTER_PATH); only what was installed meanwhile must be kept.
    (".local/share/jupyter/kernels", "data/kernels", False, True),
)
"""In the home, in the launch's own folder, whether it is copied out, whether it is carried back."""
FOLDERS = ("runtime", "data", "config", "ipython", "lab/user-settings", "lab/workspaces")
MAX_FILE_BYTES = 20 * 2**20
MAX_FILES = 2000
PROBE_BYTES = 2**20

Task = dict[str, Any]


class Failed(Exception):
    """Raised when a home cannot be what it must be; the text goes to the person."""


# ---------------------------------------------------------------- as root


def make_home(task: Task) -> Task:
    """Make a missing home: 0700, of this uid and gid. An existing one is looked at, never touched."""
    path, uid, gid = task["home"], task["uid"], task["gid"]
    parts = [part for part in path.split("/") if part]
    if not path.startswith("/") or not parts or ".." in parts or "." in parts:
        raise Failed(f"The home {path} is not a plain absolute path.")
    try:
        parent = walk(parts[:-1], makeable(path, task["home_roots"]))
    except FileNotFoundError as error:
        raise Failed(f"The home {path} does not exist, nor does the folder it would be made in: {error}") from error
    try:
        found = look(parent, parts[-1])
        if found is None and task["home_roots"] and not below(path, task["home_roots"]):
            where = ", ".join(task["home_roots"])
            raise Failed(f"The home {path} does not exist, and homes are made only below {where}.")
        if found is None:
            make_folder(parent, parts[-1], uid, gid)
            found = look(parent, parts[-1])
    finally:
        os.close(parent)
    if found is not None and stat.S_ISLNK(found.st_mode):
        raise Failed(f"The home {path} is not a folder but a symbolic link, which is refused.")
    if found is None or not stat.S_ISDIR(found.st_mode):
        raise Failed(f"The home {path} is not a folder.")
    if found.st_uid != uid:
        raise Failed(
            f"The home {path} belongs to uid {found.st_uid}, but the account has uid {uid}. Nothing in it was touched. "
            f"Whoever administers this machine can give the folder to uid {uid}; whoever administers the accounts can "
            "correct uid or home there."
        )
    return {}


def below(path: str, roots: list[str]) -> str | None:
    """The home root that a path lies in, if any."""
    return next((root for root in roots if path.startswith(root.rstrip("/") + "/")), None)


def makeable(path: str, roots: list[str]) -> int:
    """How many leading parts of a path must exist: those of the home root above it, or all but the last."""
    root = below(path, roots)
    return len([part for part in (path if root is None else root).split("/") if part])


def walk(parts: list[str], must_exist: int) -> int:
    """Open a folder part by part from the root; parts after ``must_exist`` are made (root's, 0755) where missing.

    A symbolic link is followed only where root made it in a folder that nobody else can change (/home on another
    disk): whatever a user could have put there leads nowhere.
    """
    todo, done, links = list(parts), 0, 0
    fd = os.open("/", DIRECTORY)
    while todo:
        part = todo.pop(0)
        try:
            found = look(fd, part)
            if found is None and done < must_exist:
                raise FileNotFoundError(errno.ENOENT, "no such folder", part)
            if found is None:
                os.mkdir(part, 0o755, dir_fd=fd)
            elif stat.S_ISLNK(found.st_mode):
                links += 1
                if links > MAX_LINKS or not only_roots(os.fstat(fd)) or found.st_uid != 0:
                    raise Failed(f"{part} on the way to the home is a link that root did not make.")
                target = os.readlink(part, dir_fd=fd)
                todo = [piece for piece in target.split("/") if piece] + todo
                if target.startswith("/"):
                    os.close(fd)
                    fd = os.open("/", DIRECTORY)
                continue
            deeper = os.open(part, DIRECTORY, dir_fd=fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        fd, done = deeper, done + 1
    return fd


def only_roots(facts: os.stat_result) -> bool:
    """Whether only root can change the entries of a folder."""
    return facts.st_uid == 0 and not facts.st_mode & 0o022


def look(folder: int, name: str) -> os.stat_result | None:
    """The facts of an entry itself, or None."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def make_folder(parent: int, name: str, uid: int, gid: int) -> None:
    """Make a folder that is whole when it appears: a crash on the way leaves nothing under the home's name."""
    draft = f".daas-{secrets.token_hex(8)}"
    os.mkdir(draft, 0o700, dir_fd=parent)
    try:
        fd = os.open(draft, DIRECTORY, dir_fd=parent)
        try:
            if os.geteuid() == 0:
                os.fchown(fd, uid, gid)
            os.fchmod(fd, 0o700)
        finally:
            os.close(fd)
        os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.rmdir(draft, dir_fd=parent)
        raise


# ---------------------------------------------------------------- as the user


def carry_out(task: Task) -> Task:
    """Make Jupyter's folders outside the home, copy settings into them, and look how full the home is."""
    home, own = Path(task["home"]), Path(task["own"])
    for folder in FOLDERS:
        (own / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    skipped = copy_all([(home / there, own / here) for there, here, out, _ in COPIED if out])
    # What stands in the home's own configuration wins: it is read later.
    settings: Task = {"ServerApp": {"terminado_settings": {"shell_command": task["terminal"]}}}
    full = nearly_full(home, task["full_home_bytes"])
    if full:
        # The trash lies in the same full home: deleting must free room instead of asking for more.
        settings["FileContentsManager"] = {"delete_to_trash": False}
    (own / "config/jupyter_server_config.json").write_text(json.dumps(settings))
    if not any(place.exists() for place in LAB_DEFAULTS):
        (own / "config/labconfig").mkdir(mode=0o700, exist_ok=True)
        (own / "config/labconfig" / LAB_DEFAULTS[0].name).write_text(json.dumps(QUIET_LAB))
    return {"home_nearly_full": full, "skipped": skipped}


def carry_back(task: Task) -> Task:
    """Copy back what changed, while there is room; the first "no space" ends it and loses nothing that is there."""
    home, own = Path(task["home"]), Path(task["own"])
    pairs = [(own / here, home / there) for there, here, _, back in COPIED if back]
    return {"skipped": copy_all(pairs, newer_only=True)}


def remove_over(task: Task) -> Task:
    """Remove site tokens whose time is over: the hub, which would have done it before, may be away."""
    for expires in Path(task["site_tokens"]).glob("*.expires"):
        try:
            over = datetime.fromisoformat(expires.read_text().strip()).timestamp() <= time.time()
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            # What does not say when it is over is not kept either.
            over = True
        if over:
            expires.with_suffix("").unlink(missing_ok=True)
            expires.unlink(missing_ok=True)
    return {}


def nearly_full(home: Path, bytes_wanted: int) -> bool:
    """Whether less than that is free, or a quota refuses one more MiB. Leaves nothing behind."""
    facts = os.statvfs(home)
    if facts.f_bavail * facts.f_frsize < bytes_wanted:
        return True
    try:
        fd = os.open(home, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    try:
        os.posix_fallocate(fd, 0, PROBE_BYTES)
    except OSError as error:
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    finally:
        os.close(fd)
    return False


def copy_all(pairs: list[tuple[Path, Path]], *, newer_only: bool = False) -> list[str]:
    """Copy files, and trees of plain files; notes of what failed. Where there is no room left, that is the end."""
    notes: list[str] = []
    for source, target in pairs:
        try:
            files = list(itertools.islice(plain_files(source), MAX_FILES))
        except (OSError, RecursionError) as error:
            notes.append(f"{source}: {error}")
            continue
        for file in files:
            goal = target / file.relative_to(source) if file != source else target
            try:
                copy_file(file, goal, newer_only=newer_only)
            except OSError as error:
                notes.append(f"{goal}: {error.strerror}")
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    return notes
    return notes


def plain_files(path: Path) -> Iterator[Path]:
    """The regular files at or below a path, links not followed."""
    if path.is_symlink():
        return
    if path.is_file():
        yield path
    elif path.is_dir():
        for folder, _, names in os.walk(path, onerror=lambda _: None):
            yield from (path for name in names if not (path := Path(folder) / name).is_symlink())


def copy_file(source: Path, target: Path, *, newer_only: bool) -> None:
    """Copy one small file whole or not at all, with its time."""
    with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE_BYTES:
            return
        if newer_only and target.exists() and target.stat().st_mtime_ns >= facts.st_mtime_ns:
            return
        content = file.read()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = target.with_name(f".daas-{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.utime(draft, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        draft.rename(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


# ---------------------------------------------------------------- protocol

TASKS: dict[str, tuple[Callable[[Task], Task], bool]] = {
    "make": (make_home, False),
    "carry_out": (carry_out, True),
    "carry_back": (carry_back, True),
}
"""What can be asked for, and whether it is done as the user."""


def sibling_become() -> Callable[[Task], None]:
    """``run_as.become``, loaded from the file beside this one: nothing need be importable here."""
    spec = importlib.util.spec_from_file_location("run_as", Path(__file__).with_name("run_as.py"))
    if spec is None or spec.loader is None:
        raise Failed("run_as.py is not beside home_tasks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    become: Callable[[Task], None] = module.become
    return become


def main() -> None:
    """Do one task and report."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        sys.exit(0)
    task = json.loads(line)
    try:
        act, as_user = TASKS[task["do"]]
        os.umask(0o077 if as_user else 0o022)
        if as_user:
            sibling_become()(task)
        report = act(task)
    except Exception as error:
        # Whatever it was: the hub is told, and nothing was done half (each step above is whole or undone).
        known = isinstance(error, Failed)
        report = {"error": str(error) if known else f"{type(error).__name__}: {error}", "known": known}
    os.write(REPORT_FD, json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    main()
