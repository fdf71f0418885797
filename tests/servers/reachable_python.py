"""A Python that every account of this machine can run, alone or with jupyterhub-singleuser."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from daas_hub.clients.interpreters import find_reachable_python

PACKAGES = ("jupyterhub", "jupyterlab", "ipykernel", "jsonschema", "pytest", "pytest-asyncio", "pytest-timeout")


@functools.cache
def reachable_python() -> str:
    """The path of an interpreter."""
    return str(find_reachable_python())


@functools.cache
def singleuser() -> str:
    """The path of a jupyterhub-singleuser with JupyterLab, in an environment that is kept between runs.

    ``DAAS_TEST_SINGLEUSER`` names another one. The versions are those of the environment that the tests run in.
    """
    if given := os.environ.get("DAAS_TEST_SINGLEUSER"):
        return given
    wanted = [f"{name}=={version(name)}" for name in PACKAGES]
    key = hashlib.sha256(" ".join([reachable_python(), *wanted, "compiled"]).encode()).hexdigest()[:12]
    cache = Path("/var/tmp") / f"daas-hub-tests-{os.getuid()}"
    cache.mkdir(mode=0o755, exist_ok=True)
    assert cache.lstat().st_uid == os.getuid(), f"{cache} is somebody else's"
    cache.chmod(0o755)
    folder = cache / key
    with (cache / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            build(folder, wanted)
    return str(folder / "bin/jupyterhub-singleuser")


def build(folder: Path, wanted: list[str]) -> None:
    """Make the environment, compiled: the accounts that run it cannot keep what they compile, and would at each start.

    The base Python may lack ensurepip.
    """
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([reachable_python(), "-m", "venv", "--without-pip", folder], check=True, umask=0o022)
    python = str(folder / "bin/python")
    if (uv := shutil.which("uv")) is not None:
        argv = [uv, "pip", "install", "--quiet", "--link-mode=copy", "--compile-bytecode", "--python", python, *wanted]
    else:
        argv = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *wanted]
    subprocess.run(argv, check=True, umask=0o022)
    (folder / "complete").touch()
