"""npm packages that the tests use, installed once from a committed lock file into the cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from daas_hub.demo.setup import cache_root

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "tests" / "browser"
PROXY = ROOT / "daas_hub" / "demo" / "proxy"


def npm_ci(folder: Path) -> Path:
    """``npm ci`` of a folder's package.json and package-lock.json; returns node_modules.

    The lock file has hashes but no addresses: it works with whatever registry npm is configured for. No package's
    scripts run. The result is keyed by the lock file, so it is made once per machine.
    """
    lock = (folder / "package-lock.json").read_bytes()
    key = hashlib.sha256(lock + (folder / "package.json").read_bytes()).hexdigest()[:16]
    target = cache_root() / f"tests-npm-{key}"
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (target / "complete").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(folder / name, target / name)
            subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"],
                cwd=target,
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=300,
            )
            (target / "complete").touch()
    return target / "node_modules"


def proxy_command() -> list[str]:
    """The argv of configurable-http-proxy on this machine's node."""
    node = shutil.which("node", path=os.environ.get("PATH"))
    assert node is not None
    return [node, str(npm_ci(PROXY) / "configurable-http-proxy" / "bin" / "configurable-http-proxy")]
