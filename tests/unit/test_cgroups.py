"""Where cgroups are found, what is written into them; on the real hierarchies where root may."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas_hub.clients import cgroups
from daas_hub.clients.cgroups import Limits, Mounted, Place

V1 = """\
25 20 0:22 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 /docker/abc /sys/fs/cgroup/memory rw master:3 - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
29 25 0:26 / /sys/fs/cgroup/with\\040blank rw - cgroup2 cgroup2 rw,nsdelegate
"""
V1_OWN = """\
4:memory:/docker/abc/inner
3:cpu,cpuacct:/hub
2:name=systemd:/x
0::/../sibling
"""


def test_every_hierarchy_is_found_with_our_place_in_it() -> None:
    assert cgroups.mounted(V1, V1_OWN) == [
        Mounted(frozenset({"cpu", "cpuacct"}), 1, Path("/sys/fs/cgroup/cpu,cpuacct/hub")),
        # Without a cgroup namespace the mount begins at the container's own group.
        Mounted(frozenset({"memory"}), 1, Path("/sys/fs/cgroup/memory/inner")),
        Mounted(frozenset({"name=systemd"}), 1, Path("/sys/fs/cgroup/systemd/x")),
        # Outside the namespace's root: only what is mounted can be used.
        Mounted(frozenset(), 2, Path("/sys/fs/cgroup/with blank")),
    ]


def test_settings_of_v1_and_v2() -> None:
    limits = Limits(cores=1.5, memory_bytes=2**20, processes=7)
    assert cgroups.v1_settings(limits) == [
        ("memory.limit_in_bytes", "1048576"),
        ("memory.memsw.limit_in_bytes", "1048576"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "150000"),
        ("pids.max", "7"),
    ]
    assert cgroups.v2_settings(limits) == [
        ("memory.max", "1048576"),
        ("memory.swap.max", "0"),
        ("cpu.max", "150000 100000"),
        ("pids.max", "7"),
    ]
    assert cgroups.v1_settings(Limits()) == cgroups.v2_settings(Limits()) == []
    assert Limits(cores=0.001).cpu_quota_us() == 1000


def test_the_argv_of_a_systemd_scope() -> None:
    argv = cgroups.systemd_scope("daas-hub-abc.scope", Limits(cores=0.5, memory_bytes=2**30, processes=100))
    assert argv[:2] == ("systemd-run", "--scope")
    assert "--unit=daas-hub-abc.scope" in argv
    assert {"--property=MemoryMax=1073741824", "--property=MemorySwapMax=0"} < set(argv)
    assert {"--property=CPUQuota=50%", "--property=TasksMax=100"} < set(argv)
    assert argv[-1] == "--"
    bare = cgroups.systemd_scope("u.scope", Limits())
    assert not [word for word in bare if "Memory" in word or "CPU" in word or "Tasks" in word]


def test_systemd_comes_first_and_nothing_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "systemd-run").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    empty = tmp_path / "empty"
    empty.touch()
    where = {"mountinfo": empty, "own": empty}
    if os.geteuid() == 0:
        assert cgroups.detect("daas-x", systemd=tmp_path, **where) == Place("systemd")
    none = cgroups.detect("daas-x", systemd=tmp_path / "no", **where)
    assert none.kind == "none"
    assert not none.enforces
    assert "no cgroup file system" in none.reason
    unreadable = cgroups.detect("daas-x", systemd=tmp_path / "no", mountinfo=tmp_path / "no", own=empty)
    assert "cannot be read" in unreadable.reason


def test_where_nothing_can_be_written_the_place_is_named(tmp_path: Path) -> None:
    """/proc cannot be written by anybody: the place of a read-only cgroup mount."""
    mountinfo, own = tmp_path / "mountinfo", tmp_path / "own"
    mountinfo.write_text("1 1 0:1 / /proc/1 rw - cgroup cgroup rw,cpu,memory\n")
    own.write_text("1:cpu,memory:/\n")
    place = cgroups.detect("daas-x", systemd=tmp_path / "no", mountinfo=mountinfo, own=own)
    assert place.kind == "none"
    assert "/proc/1/daas-x" in place.reason


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"], start_new_session=True)


@pytest.fixture
def unified() -> Iterator[Path]:
    """A v2 group of our own, below the one that this process is in."""
    here = cgroups.mounted(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    own = next((place.own for place in here if place.version == 2), None)
    if own is None or not os.access(own, os.W_OK):
        pytest.skip("needs a writable cgroup v2 hierarchy")
    handed_down = own / "cgroup.subtree_control"
    before = set(handed_down.read_text().split())
    group = own / f"daas-test-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    yield group
    for folder in sorted(group.rglob("*/"), reverse=True):
        cgroups.kill((str(folder),), within_s=5)
        cgroups.remove((str(folder),))
    assert cgroups.remove((str(group),))
    for name in set(handed_down.read_text().split()) - before:
        handed_down.write_text(f"-{name}")


@pytest.mark.needs("root")
def test_v2_our_own_processes_move_to_a_leaf_first(unified: Path) -> None:
    """The rule that a group with controllers holds no process, on the real hierarchy with what it has to offer."""
    available = cgroups.controllers(unified.parent)
    (unified.parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in available))
    child = sleeper()
    try:
        cgroups.add((str(unified),), child.pid)
        base = cgroups.open_v2(unified, "daas-x", available)
        assert cgroups.members((str(unified),)) == set()
        assert cgroups.members((str(unified / cgroups.SELF_LEAF),)) == {child.pid}
        assert cgroups.controllers(base) == available
        # A hub that starts again finds itself in the leaf, and the same place.
        assert cgroups.open_v2(unified / cgroups.SELF_LEAF, "daas-x", available) == base
        (group,) = groups = cgroups.make(Place("v2", (base,)), "abc", Limits(memory_bytes=2**20))
        cgroups.add(groups, child.pid)
        assert group in cgroups.groups_of(child.pid)
        assert cgroups.kill(groups, within_s=5)
        assert child.wait(5) == -9
        assert cgroups.remove((*groups, str(base)))
        # Our folder went with its last group: it is made again with all that it had.
        assert cgroups.make(Place("v2", (base,)), "abc", Limits()) == groups
        assert set((base / "cgroup.subtree_control").read_text().split()) == available
    finally:
        child.kill()
        child.wait()


@pytest.mark.needs("root")
def test_killing_a_group_reaches_what_forks_meanwhile() -> None:
    place = cgroups.detect(f"daas-test-{uuid.uuid4().hex[:8]}")
    if place.kind != "v1":
        pytest.skip("needs writable cgroup v1 hierarchies")
    groups = cgroups.make(place, "forks", Limits(processes=50))
    loop = "import os, time\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(0.001)"
    child = subprocess.Popen(["/usr/bin/env", "python3", "-c", f"input()\n{loop}"], stdin=subprocess.PIPE)
    try:
        cgroups.add(groups, child.pid)
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.close()
        assert cgroups.kill(groups, within_s=20)
        assert child.wait(5) == -9
        assert cgroups.members(groups) == set()
    finally:
        child.kill()
        child.wait()
        assert cgroups.remove(groups)
        assert cgroups.remove([str(base) for base in place.bases])


def test_a_group_that_is_gone_has_no_members_and_is_removed() -> None:
    groups = ("/sys/fs/cgroup/no-such-group",)
    assert cgroups.members(groups) == set()
    assert cgroups.kill(groups, within_s=0)
    assert cgroups.remove(groups)
    assert cgroups.oom_kills(groups) == 0
