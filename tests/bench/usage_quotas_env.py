"""An environment for jupyterhub-usage-quotas 0.2.1: its source does not compile before Python 3.12.

Its f-strings use the quotes they are in (PEP 701), though nothing in its metadata asks for a newer Python. So it gets
the newest Python ≥ 3.12 of this machine, and the same lock file as every peer.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from daas_hub.demo.setup import CLONE, cache_root

OLDEST = (3, 12)
LOCK = CLONE / "requirements" / "peer-usage-quotas.txt"


class NoPeer(Exception):
    """Raised when the peer cannot run here; the text says why."""


def python() -> Path:
    """The Python of the peer's environment; made the first time, then kept. Raises NoPeer."""
    base = _base()
    key = hashlib.sha256(LOCK.read_bytes() + str(base).encode()).hexdigest()[:12]
    folder = cache_root() / f"bench-usage-quotas-{key}"
    mark, program = folder / "complete", folder / "bin" / "python"
    if mark.exists():
        return program
    shutil.rmtree(folder, ignore_errors=True)
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet", "--require-hashes"]
    for argv in (
        [str(base), "-m", "venv", str(folder)],
        [str(program), "-m", "pip", "install", *quiet, "-r", str(LOCK)],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise NoPeer(f"its environment could not be made: {(done.stderr or done.stdout).strip()[-200:]}")
    mark.touch()
    return program


def _base() -> Path:
    """The newest Python that can run it."""
    names = [f"python3.{minor}" for minor in range(14, OLDEST[1] - 1, -1)]
    homes = [path for name in names for path in glob.glob(os.path.expanduser(f"~/.pyenv/versions/*/bin/{name}"))]
    candidates = [sys.executable, *(found for name in names if (found := shutil.which(name))), *homes]
    for candidate in candidates:
        check = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {OLDEST!r})"
        if subprocess.run([candidate, "-I", "-c", check], capture_output=True, check=False).returncode == 0:
            return Path(candidate).resolve()
    raise NoPeer("0.2.1 does not compile before Python 3.12, and this machine has no newer Python")
