"""Whether a file lies on a file system where SQLite's locks and shared memory work."""

from __future__ import annotations

import os
import re
from pathlib import Path

from daas_hub.core.errors import ConfigError

NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "ceph", "lustre", "gpfs"),
        *("beegfs", "beegfs_nodev", "panfs", "pvfs2", "orangefs", "ocfs2", "gfs2", "glusterfs", "wekafs", "vboxsf"),
    }
)
"""Types that several machines can mount. File locks or shared memory do not hold there as WAL needs them."""

LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.bindfs", "fuse.ntfs-3g"})
"""Programs behind FUSE that serve this machine's own disks; every other one counts as a network."""


def refuse_network_files(path: Path, *, mountinfo: str | None = None) -> None:
    """Raise ConfigError where ``path`` (or the folder it will be in) lies on a network file system.

    ``mountinfo``: the text of /proc/self/mountinfo; read when not given. Where there is none (not Linux) nothing
    is refused.
    """
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
    kind = file_system(os.path.realpath(path), mountinfo)
    if kind in NETWORK or (kind.startswith("fuse.") and kind not in LOCAL_FUSE):
        raise ConfigError(
            f"The ledger {path} lies on a network file system ({kind}), where SQLite loses writes. Either put the "
            "file on a local disk of the machine that runs the hub and its services, or use PostgreSQL "
            "(postgresql+psycopg://user@host/name).",
            reason="ledger_on_network",
        )


def file_system(path: str, mountinfo: str) -> str:
    """The type of the file system that holds ``path``: that of the longest mount point, the last one of equals."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), right.split(" ", 1)[0]
    return kind
