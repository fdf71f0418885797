"""The real engines that the tests start (slapd, PostgreSQL, Chromium, …): installed where possible, as root on Debian.

Runs before the tests' environment exists: only the standard library. What is there already is left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _program(name: str) -> bool:
    return shutil.which(name, path=PATH) is not None


PACKAGES: dict[str, Callable[[], bool]] = {
    "slapd": lambda: _program("slapd"),
    "ldap-utils": lambda: _program("ldapsearch"),
    "postgresql": lambda: bool(list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))),
    "chromium": lambda: _program("chromium"),
    "nodejs": lambda: _program("node"),
    "npm": lambda: _program("npm"),
    "procps": lambda: _program("ps"),
    "iproute2": lambda: _program("ss"),
    "runc": lambda: _program("runc"),
    "containernetworking-plugins": lambda: Path("/usr/lib/cni/bridge").exists(),
    "iptables": lambda: _program("iptables"),
    "busybox-static": lambda: Path("/bin/busybox").exists(),
    "buildah": lambda: _program("buildah"),
    "mmdebstrap": lambda: _program("mmdebstrap"),
    "openssl": lambda: _program("openssl"),
    "mount": lambda: _program("mount"),
    "util-linux": lambda: _program("nsenter"),
}
"""Debian package → whether what it brings is there."""


def main() -> int:
    """Install what is missing where that is possible; the tests themselves say what they then leave out."""
    missing = [package for package, there in PACKAGES.items() if not there()]
    if not missing:
        return 0
    if os.geteuid() != 0 or not _program("apt-get"):
        print(f"Not here, and only root on Debian can install it: {', '.join(missing)}.", file=sys.stderr)
        return 0
    print(f"Installing {', '.join(missing)} …", file=sys.stderr, flush=True)
    # No package may start a daemon or ask a question: the tests start their own servers on their own ports.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "PATH": PATH}
    options = ["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3", "-qq"]
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for words in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", *options, *words], env=environment, stdout=sys.stderr, check=False)
            if done.returncode:
                print(f"apt-get {words[0]} failed; going on with what is here.", file=sys.stderr)
    finally:
        if ours:
            policy.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
