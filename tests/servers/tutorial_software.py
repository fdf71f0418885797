"""What the tutorial about SLURM installs, had from the registries once: then its commands ask nobody outside."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path("/var/tmp") / f"daas-hub-tests-{os.getuid()}"
INSTALL = """
set -e
umask 022
mount --bind "$1/srv" /srv
python3 -m venv /srv/daas-hub
/srv/daas-hub/bin/pip install --quiet --constraint "$1/versions" 'daas-hub[ldap,slurm]' jupyterlab
/srv/daas-hub/bin/pip uninstall --quiet --yes daas-hub
npm install --global --prefix /srv/daas-hub "configurable-http-proxy@$2"
"""


def wheel(folder: Path) -> Path:
    """A folder with daas_hub as a wheel, made of the files as they are now."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
    return folder


class Software:
    """Packages of the locked versions that the tests run with, installed at /srv/daas-hub, but not daas_hub."""

    def __init__(self, wheels: Path, proxy_version: str) -> None:
        lock_file = (ROOT / "requirements" / "test.txt").read_text()
        locked = re.findall(r"^([A-Za-z0-9].*?) *\\\\?$", lock_file, re.MULTILINE)
        # pip takes no extras in constraints.
        versions = "\n".join(re.sub(r"\[.*?\]", "", line) for line in locked)
        wanted = "\n".join([versions, proxy_version, INSTALL])
        self._wheels = wheels
        self.folder = CACHE / f"tutorial-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
        CACHE.mkdir(mode=0o755, exist_ok=True)
        assert CACHE.lstat().st_uid == os.getuid(), f"{CACHE} is somebody else's"
        with self.folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.folder / "complete").exists():
                self._install(versions, proxy_version)

    def _install(self, versions: str, proxy_version: str) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "srv").mkdir(parents=True)
        (self.folder / "versions").write_text(versions)
        links = f"{self._wheels} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
        env = {**os.environ, "PIP_FIND_LINKS": links, "npm_config_cache": str(self.folder / "npm")}
        env["PATH"] = f"/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:{env['PATH']}"
        argv = ["unshare", "--mount", "sh", "-c", INSTALL, "sh", str(self.folder), proxy_version]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        (self.folder / "complete").touch()

    def put(self, srv: Path) -> None:
        """Lay it out below another ``/srv``. What commands write in place is copied, all else shares its disk space."""
        there = srv / "daas-hub"
        there.mkdir(mode=0o755)
        for entry in (self.folder / "srv" / "daas-hub").iterdir():
            how = "-al" if entry.name in ("lib", "share") else "-a"
            subprocess.run(["cp", how, str(entry), str(there)], check=True)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which pip and npm ask nobody outside."""
        return {
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self._wheels), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "npm_config_cache": str(self.folder / "npm"), "npm_config_offline": "true",
        }  # fmt: skip
