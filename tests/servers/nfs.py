"""A real NFS server and client, Linux's own of Debian's kernel, in a virtual machine; this machine's kernel has none.

The packages nfs-kernel-server, nfs-common and libnfsidmap1 are only downloaded (scripts/lib/engines.py): installed,
they would start daemons here. Modules and programs are unpacked beside the machine's own files and read from there.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import machine
from .machine import PACKAGES, Machine

DEBS = ("nfs-kernel-server", "nfs-common", "libnfsidmap1")
UNPACKED = PACKAGES / "nfs"
MODULES = ("nfsd", "nfs", "nfsv4", "nfsv3")
KERNEL_FILES = (
    r"/kernel/(net/(sunrpc/(sunrpc|auth_gss/auth_rpcgss)|dns_resolver/)|fs/(nfs/nfs|nfsd/|nfs_common/|lockd/))"
)
"""Without fscache and netfs, which the machine has loaded for its own root."""

START = """
set -e
for module in {modules}; do /bin/busybox insmod $module; done
export LD_LIBRARY_PATH={libraries} PATH={unpacked}/sbin:{unpacked}/usr/sbin:$PATH
cp {unpacked}/sbin/mount.nfs /sbin/mount.nfs
mkdir -p /var/lib/nfs/rpc_pipefs /var/lib/nfs/v4recovery
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t nfsd nfsd /proc/fs/nfsd
# Nobody was here before this start: no client is waited for.
echo 10 > /proc/fs/nfsd/nfsv4leasetime
echo 10 > /proc/fs/nfsd/nfsv4gracetime
"""


def available() -> bool:
    """Whether there is a machine to run it in, and the packages."""
    return machine.available() and all(list(PACKAGES.glob(f"{name}_*.deb")) for name in DEBS)


def unpack() -> list[Path]:
    """Programs and libraries below ``UNPACKED``, once; the modules' files in the order of loading."""
    kernel, _ = machine.boot_files()
    folder, order = UNPACKED / "modules", UNPACKED / "modules" / "order"
    if not order.exists() or order.stat().st_mtime < kernel.stat().st_mtime:
        for name in DEBS:
            package = max(PACKAGES.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
            subprocess.run(["dpkg-deb", "-x", package, UNPACKED], check=True)
        files = machine.unpack("linux-image-*", KERNEL_FILES)
        folder.mkdir(exist_ok=True)
        names = machine.in_order(files, MODULES)
        for name in names:
            (folder / f"{name}.ko").write_bytes(files[name])
        order.write_text("\n".join(names))
    return [folder / f"{name}.ko" for name in order.read_text().split()]


def run(folder: Path, program: Path, exports: Mapping[str, str], *words: str, within_s: float) -> Any:
    """Start the server in a machine, run a Python program (standard library only) there as root; the JSON that it
    printed last. ``exports``: folder → options, each made before, root's and 0755; a parent before what is in it."""
    libraries = UNPACKED / "usr/lib/x86_64-linux-gnu"
    modules = " ".join(str(path) for path in unpack())
    lines = [START.format(modules=modules, libraries=libraries, unpacked=UNPACKED)]
    for path, options in exports.items():
        # Each a file system of its own: what lies in the one of another export is that export's.
        lines += [f"mkdir -p {path}", f"mount -t tmpfs -o mode=755 export {path}"]
        lines += [f"echo '{path} *({options})' >> /etc/exports"]
    lines += ["exportfs -ra", "rpc.nfsd --no-nfs-version 3 --grace-time 10 4", "rpc.mountd --no-nfs-version 3"]
    lines += ["echo Y > /proc/fs/nfsd/v4_end_grace", shlex.join([sys.executable, "-I", str(program), *words])]
    job = folder / "nfs"
    job.write_text("\n".join(lines))
    done = Machine(folder, "v2").run(["sh", str(job)], cwd=Path("/"), env=_environment(), within_s=within_s)
    assert done.status == 0, f"{done.output}\n--- console:\n{done.console[-3000:]}"
    return json.loads(_last(done.output.splitlines()))


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def _last(lines: Sequence[str]) -> str:
    return next(line for line in reversed(lines) if line.startswith("{"))
