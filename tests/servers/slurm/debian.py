"""SLURM 24.11: Debian 13 in a folder, made once into the cache folder from the mirror that this machine's apt has.

``python -m tests.servers.slurm.debian`` only makes what is missing; ``scripts/test`` does that while other tests run.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from daas_hub.demo.setup import cache_root, say
from tests.servers.priority import below_the_tests

SUITE = "trixie"
PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurmdbd",
    "slurmrestd",
    "slurm-wlm-mysql-plugin",
    "slurm-wlm-jwt-plugin",
    "munge",
    "mariadb-server-core",
    "sudo",
    "openssl",
    "python3",
)
"""What a cluster is made of and the tutorial asks for; Python is what launchers on its nodes are run by."""
UNREAD = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
SETTINGS = ("Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Check-Valid-Until", "Acquire::Check-Date")
"""How this machine's apt reaches its mirror."""


class DebianFailed(Exception):
    """Raised when the folder cannot be made; the text has the end of mmdebstrap's words and names the log."""


def possible() -> bool:
    """Whether this machine has it, or can make it."""
    return made() or shutil.which("mmdebstrap") is not None


def made() -> bool:
    """Whether the cache has it whole."""
    return (_target() / "complete").exists()


def _target() -> Path:
    digest = hashlib.sha256(repr((SUITE, PACKAGES, UNREAD, platform.machine())).encode())
    return cache_root() / f"slurm-{SUITE}-{digest.hexdigest()[:8]}"


def ensure() -> Path:
    """The root, made first where the cache lacks it: some 150 MB from the mirror. Blocks. Raises DebianFailed."""
    target = _target()
    if not made():
        target.mkdir(parents=True, exist_ok=True)
        with (target / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if not made():
                say(f"Making Debian's {SUITE} with SLURM in {target} (once; a minute).")
                _make(target)
                (target / "complete").touch()
    return target / "root"


@functools.cache
def wait() -> None:
    """Wait, once, until it is made or cannot be: who uses it then says why. Blocks."""
    with suppress(DebianFailed):
        ensure()


def _make(target: Path) -> None:
    root, log, settings = target / "root", target / "make.log", target / "apt.conf"
    shutil.rmtree(root, ignore_errors=True)
    settings.write_text(_said("apt-config", "dump", "--format", '%F "%v";%n', *SETTINGS))
    # Killed in the midst of it, mmdebstrap leaves what it has mounted into the folder; here that ends with it.
    argv = [
        "unshare",
        "--mount",
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        f"--aptopt={settings}",
    ]
    argv += [f"--dpkgopt=path-exclude={path}" for path in UNREAD]
    with log.open("wb") as out:
        done = subprocess.run(
            [*argv, SUITE, str(root), *_mirror()], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise DebianFailed(f"mmdebstrap ended with {done.returncode}. The end of {log}:\n{tail}")


def _mirror() -> list[str]:
    """Where this machine gets its own Debian from; nothing, for mmdebstrap's default, where it is none."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    return mirror_of(release, _said("apt-get", "update", "--print-uris"))


def mirror_of(release: str, planned: str) -> list[str]:
    """The first mirror of a release among what ``apt-get update --print-uris`` says; empty where there is none."""
    return re.findall(rf"^'(\S+?)/?/dists/{re.escape(release)}/InRelease'", planned, re.MULTILINE)[:1]


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def main() -> int:
    """Make what is missing, below the priority of the tests that run meanwhile."""
    if os.geteuid() != 0 or not possible():
        return 0
    below_the_tests()
    try:
        ensure()
    except DebianFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
