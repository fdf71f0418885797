"""The real engines that the tests start (slapd, PostgreSQL, Chromium, …): had where possible, as root on Debian.

Runs before the tests' environment exists: only the standard library. What is there already is left alone.
"""

from __future__ import annotations

import os
import platform
import re
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
    "samba-ad-dc": lambda: _program("samba"),
    "samba-ad-provision": lambda: Path("/usr/share/samba/setup/provision.ldif").exists(),
    "python3-samba": lambda: _program("samba-tool"),
    "samba-dsdb-modules": lambda: bool(list(Path("/usr/lib").glob("*/samba/ldb/samba_dsdb.so"))),
    "samba-vfs-modules": lambda: bool(list(Path("/usr/lib").glob("*/samba/vfs/acl_xattr.so"))),
    "ldb-tools": lambda: _program("ldbmodify"),
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
    "default-jre-headless": lambda: _program("java"),
    "maven": lambda: _program("mvn"),
    "util-linux": lambda: _program("nsenter"),
    "libsss-idmap0": lambda: bool(list(Path("/usr/lib").glob("*/libsss_idmap.so.0"))),
    "munge": lambda: _program("munged"),
    "slurmctld": lambda: _program("slurmctld"),
    "slurmd": lambda: _program("slurmd"),
    "slurmdbd": lambda: _program("slurmdbd"),
    "slurm-client": lambda: _program("sbatch"),
    "slurm-wlm-mysql-plugin": lambda: bool(list(Path("/usr/lib").glob("*/slurm-wlm/accounting_storage_mysql.so"))),
    "slurmrestd": lambda: _program("slurmrestd"),
    "slurm-wlm-jwt-plugin": lambda: bool(list(Path("/usr/lib").glob("*/slurm-wlm/auth_jwt.so"))),
    "mariadb-server-core": lambda: _program("mariadbd"),
    "sudo": lambda: _program("sudo"),
    "environment-modules": lambda: Path("/usr/share/modules/init/sh").exists(),
    "systemd": lambda: _program("systemd-analyze"),
    "python3-venv": lambda: bool(list(Path("/usr/lib").glob("python3*/ensurepip/__init__.py"))),
    "qemu-system-x86": lambda: platform.machine() != "x86_64" or _program("qemu-system-x86_64"),
}
"""Debian package → whether what it brings is there."""
MACHINE = Path("/var/tmp") / f"daas-hub-tests-{os.getuid()}" / "machine"
"""What virtual machines of the tests boot from (tests/servers/machine.py): packages that are not installed."""

SSSD = MACHINE.with_name("sssd")
"""The private root of sssd (tests/servers/sssd.py)."""


def download_machine() -> None:
    """A kernel and a busybox, as packages: installed, the kernel would be what this machine boots next."""
    if platform.machine() != "x86_64" or not _program("apt-get"):
        return
    MACHINE.parent.mkdir(mode=0o755, exist_ok=True)
    if MACHINE.parent.lstat().st_uid != os.getuid():
        print(f"{MACHINE.parent} is somebody else's: no virtual machine.", file=sys.stderr)
        return
    MACHINE.mkdir(mode=0o755, exist_ok=True)
    about = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False)
    kernels = re.findall(r"^ *Depends: (linux-image-\S+)$", about.stdout, re.MULTILINE)
    if not kernels:
        print("The package linux-image-amd64 is not known here: no virtual machine.", file=sys.stderr)
        return
    # The kernel comes before what says that both are there; the last three are a file server's (tests/servers/nfs.py).
    wanted = [*kernels, "busybox-static", "nfs-kernel-server", "nfs-common", "libnfsidmap1"]
    for package in wanted:
        # One kernel is enough, whatever its version: of a second one the modules would be another's.
        if list(MACHINE.glob("linux-image-*.deb" if package in kernels else f"{package}_*.deb")):
            continue
        argv = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
        if subprocess.run(argv, cwd=MACHINE, stdout=sys.stderr, check=False).returncode:
            print(f"{package} cannot be downloaded: no virtual machine.", file=sys.stderr)
            return


def make_sssd() -> None:
    """Debian with sssd in a folder: installed here, its packages would change this machine's nsswitch.conf and PAM."""
    if os.geteuid() != 0 or not _program("mmdebstrap") or (SSSD / "usr/sbin/sssd").exists():
        return
    print("Making the root of sssd; once, a minute …", file=sys.stderr, flush=True)
    SSSD.parent.mkdir(mode=0o755, exist_ok=True)
    if SSSD.parent.lstat().st_uid != os.getuid():
        print(f"{SSSD.parent} is somebody else's: no sssd.", file=sys.stderr)
        return
    part = SSSD.with_name(f"sssd-{os.getpid()}")
    argv = ["mmdebstrap", "--variant=minbase", "--include=sssd-ldap,libnss-sss", "bookworm", str(part)]
    done = subprocess.run(argv, stdout=sys.stderr, check=False)
    if done.returncode or SSSD.exists():
        print("mmdebstrap failed: no sssd." if done.returncode else "Somebody else made it.", file=sys.stderr)
        shutil.rmtree(part, ignore_errors=True)
        return
    part.rename(SSSD)


def main() -> int:
    """Get what is missing where that is possible; the tests themselves say what they then leave out."""
    install()
    download_machine()
    make_sssd()
    return 0


def install() -> None:
    """Install packages, as root on Debian."""
    missing = [package for package, there in PACKAGES.items() if not there()]
    if not missing:
        return
    if os.geteuid() != 0 or not _program("apt-get"):
        print(f"Not here, and only root on Debian can install it: {', '.join(missing)}.", file=sys.stderr)
        return
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


if __name__ == "__main__":
    sys.exit(main())
