"""A virtual machine with Debian's kernel that runs one command, for what this machine's kernel or pid 1 is not.

Its root is this machine's own, read-only, with a file system in memory over it: what it writes is gone afterwards.
It has no network and no disk, and is emulated, so it works where no virtualization is allowed; about ten times slower
than this machine. QEMU comes from the package qemu-system-x86, kernel and busybox from two packages that scripts/test
only downloads: nothing is installed that the machine would boot from.
"""

from __future__ import annotations

import fcntl
import io
import lzma
import os
import platform
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = Path("/var/tmp") / f"daas-hub-tests-{os.getuid()}" / "machine"
"""Where scripts/lib/engines.py puts the two packages."""
KERNEL_FILES = r"/boot/vmlinuz-|/kernel/(drivers/virtio|net/9p|fs/(9p|netfs|fscache|overlayfs))/"
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
MEMORY_MIB = 1024
CORES = 2
WAYS = ("systemd", "v2", "v1")
"""Who makes groups in it: systemd as pid 1, or else a script as pid 1 that has mounted this kind of cgroups."""


def available() -> bool:
    """Whether there is all that a machine needs."""
    there = shutil.which("qemu-system-x86_64") is not None and platform.machine() == "x86_64"
    return there and all(list(PACKAGES.glob(f"{name}_*.deb")) for name in ("linux-image-*", "busybox-static"))


# ---------------------------------------------------------------- what it boots from


def boot_files() -> tuple[Path, Path]:
    """Kernel and first root, unpacked and made at the first call and then kept."""
    kernel, first_root = PACKAGES / "vmlinuz", PACKAGES / "initrd"
    with (PACKAGES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not first_root.exists() or first_root.stat().st_mtime < Path(__file__).stat().st_mtime:
            files = unpack("linux-image-*", KERNEL_FILES)
            (vmlinuz,) = (name for name in files if name.startswith("vmlinuz-"))
            kernel.write_bytes(files.pop(vmlinuz))
            first_root.write_bytes(_first_root(files, unpack("busybox-static", "/bin/busybox$")["busybox"]))
    return kernel, first_root


def unpack(package: str, wanted: str) -> dict[str, bytes]:
    """The files of a package that are wanted, by name; kernel modules by the kernel's name for them."""
    path = max(PACKAGES.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
    found = {}
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE) as unpacked,
        tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar,
    ):
        for member in tar:
            if re.search(wanted, member.name) and (file := tar.extractfile(member)) is not None:
                name, packed = Path(member.name).name, member.name.endswith(".xz")
                if ".ko" in name:
                    name = name.split(".ko")[0].replace("-", "_")
                found[name] = lzma.decompress(file.read()) if packed else file.read()
    return found


def in_order(modules: Mapping[str, bytes], wanted: Sequence[str] = MODULES) -> list[str]:
    """The modules to load, each after those that it needs; what this kernel has built in is not among them."""
    order: list[str] = []

    def add(name: str) -> None:
        if name in order or name not in modules:
            return
        needed = re.search(rb"\0depends=([^\0]*)\0", modules[name])
        for other in needed[1].decode().replace("-", "_").split(",") if needed else ():
            add(other)
        order.append(name)

    for name in wanted:
        add(name)
    return order


FIRST_ROOT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in %s; do $b insmod /$module; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro root /lower &&
$b mount -t tmpfs -o size=50%% upper /upper && $b mkdir /upper/data /upper/work &&
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /root || $b poweroff -f
begin=$($b sed -n 's/.*daas.begin=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
$b umount /proc
$b mount --move /dev /root/dev
exec $b switch_root /root /bin/sh "$begin"
"""


def _first_root(modules: Mapping[str, bytes], busybox: bytes) -> bytes:
    """The archive (cpio, "newc") that the kernel unpacks into memory; its ``init`` mounts the real root."""
    order = in_order(modules)
    files = {name: (0o100644, modules[name]) for name in order}
    files |= {"bin/busybox": (0o100755, busybox), "init": (0o100755, (FIRST_ROOT % " ".join(order)).encode())}
    folders = dict.fromkeys(("bin", "proc", "dev", "lower", "upper", "root"), (0o040755, b""))
    archive = io.BytesIO()
    for number, (name, (mode, data)) in enumerate({**folders, **files, "TRAILER!!!": (0, b"")}.items(), 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        for part in (b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0", data):
            archive.write(part)
            archive.write(b"\0" * (-archive.tell() % 4))
    return archive.getvalue()


# ---------------------------------------------------------------- one run

MOUNTS = {
    "systemd": "",
    "v2": """
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As in a container: our own group is not the root of the hierarchy.
echo '+cpu +memory +pids' > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/hub
echo $$ > /sys/fs/cgroup/hub/cgroup.procs
""",
    "v1": """
mount -t tmpfs cgroup /sys/fs/cgroup
for name in cpu memory pids; do
    mkdir /sys/fs/cgroup/$name && mount -t cgroup -o $name $name /sys/fs/cgroup/$name
done
""",
}
BEGIN = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
"""
BY_SCRIPT = """
ip link set lo up
sh {folder}/job
echo o > /proc/sysrq-trigger
# A pid 1 that ends is a panic: wait for a key that nobody presses.
read -r _
"""
BY_SYSTEMD = """
mkdir -p /run/systemd/system
cp {folder}/job.service /run/systemd/system/
exec /lib/systemd/systemd --unit=job.service --log-target=console --show-status=no
"""
SERVICE = """[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh {folder}/job
ExecStopPost=/bin/sh -c 'echo o > /proc/sysrq-trigger'
"""


@dataclass(frozen=True)
class Finished:
    """What a command in a machine has left."""

    status: int | None
    """Its exit status; None: it did not come to its end, and the console may say why."""
    output: str
    console: str


class Machine:
    """One virtual machine; ``folder`` keeps its console's log and the command's output."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder = folder
        self.way = way
        self.console = folder / "console"
        self.output = folder / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], within_s: float) -> Finished:
        """Start, run the command as root, power off. A machine that does not end in time is killed."""
        kernel, first_root = boot_files()
        self._write(argv, cwd, env)
        with subprocess.Popen(self._argv(kernel, first_root), stdin=subprocess.DEVNULL) as process:
            self._process = process
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()
        return self._finished()

    def end(self) -> None:
        """Kill it where it still runs: nobody waits for what it says."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _write(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        words = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in env.items()), *argv])
        job = f'exec > /dev/ttyS1 2>&1\ncd {shlex.quote(str(cwd))}\n{words}\necho "exit status $?"\n'
        begin = BEGIN + MOUNTS[self.way] + (BY_SYSTEMD if self.way == "systemd" else BY_SCRIPT)
        (self.folder / "job").write_text(job)
        (self.folder / "job.service").write_text(SERVICE.format(folder=self.folder))
        (self.folder / "begin").write_text(begin.format(folder=self.folder))

    def _argv(self, kernel: Path, first_root: Path) -> list[str]:
        # What keeps people of one machine apart costs much here, and there is only one.
        words = "console=ttyS0 quiet panic=-1 mitigations=off systemd.unified_cgroup_hierarchy=1"
        words += f" daas.begin={self.folder}/begin"
        # A newer processor has wider registers, which cost more to emulate than they save.
        return [
            *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-m", str(MEMORY_MIB), "-smp", str(CORES)),
            *("-nodefaults", "-display", "none", "-nic", "none", "-no-reboot", "-sandbox", "on"),
            *("-kernel", str(kernel), "-initrd", str(first_root), "-append", words),
            *("-serial", f"file:{self.console}", "-serial", f"file:{self.output}"),
            *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"),
        ]

    def _finished(self) -> Finished:
        output, console = (
            path.read_text(errors="replace").replace("\r", "") if path.exists() else ""
            for path in (self.output, self.console)
        )
        status = re.search(r"exit status (\d+)\n\Z", output)
        return Finished(int(status[1]) if status else None, output, console)
