"""Where cgroups are found, what is written into them; on the real hierarchies where root may."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas_hub.clients import cgroups, systemd
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
    argv = systemd.scope(
        "daas-my-hub-abc.scope",
        systemd.slice_name("daas-my-hub", "abc"),
        cores=0.5,
        memory_bytes=2**30,
        processes=100,
        words=systemd.SURVIVES,
    )
    assert argv[:2] == ("systemd-run", "--scope")
    assert {"--unit=daas-my-hub-abc.scope", "--slice=daas-my_hub-abc.slice"} < set(argv)
    assert {"--property=MemoryMax=1073741824", "--property=MemorySwapMax=0"} < set(argv)
    assert {"--property=CPUQuota=50%", "--property=TasksMax=100", "--property=OOMPolicy=continue"} < set(argv)
    assert argv[-1] == "--"
    bare = systemd.scope("u.scope", "u.slice", cores=None, memory_bytes=None, processes=None)
    assert not [word for word in bare if "Memory" in word or "CPU" in word or "Tasks" in word or "OOM" in word]


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("program", "place"),
    [
        ("exit 0", Place("systemd", words=systemd.SURVIVES)),
        # As an old systemd, which does not know the word for scopes.
        ('case "$*" in *OOMPolicy*) echo "Unknown assignment" >&2; exit 1;; esac', Place("systemd")),
        # As in a container that sees its machine's /run.
        ("echo 'no bus' >&2; exit 1", Place("none", reason="systemd-run: no bus")),
    ],
)
def test_systemd_comes_first_where_it_makes_scopes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, place: Place
) -> None:
    """A stand-in for other versions of systemd; this machine's own is asked in tests/faults/test_local_systemd.py."""
    (tmp_path / "systemd-run").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    empty = tmp_path / "empty"
    empty.touch()
    assert cgroups.detect("daas-x", systemd_folder=tmp_path, mountinfo=empty, own=empty) == place


def test_nothing_is_a_reason(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    none = cgroups.detect("daas-x", systemd_folder=tmp_path / "no", mountinfo=empty, own=empty)
    assert none == Place("none", reason="no cgroup file system with the cpu and memory controllers")
    assert not none.enforces
    unreadable = cgroups.detect("daas-x", systemd_folder=tmp_path / "no", mountinfo=tmp_path / "no", own=empty)
    assert "cannot be read" in unreadable.reason


def test_where_nothing_can_be_written_the_place_is_named(tmp_path: Path) -> None:
    """/proc cannot be written by anybody: the place of a read-only cgroup mount."""
    mountinfo, own = tmp_path / "mountinfo", tmp_path / "own"
    mountinfo.write_text("1 1 0:1 / /proc/1 rw - cgroup cgroup rw,cpu,memory\n")
    own.write_text("1:cpu,memory:/\n")
    place = cgroups.detect("daas-x", systemd_folder=tmp_path / "no", mountinfo=mountinfo, own=own)
    assert place.kind == "none"
    assert "/proc/1/daas-x" in place.reason


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"], start_new_session=True)


@pytest.fixture
def unified() -> Iterator[Path]:
    """A v2 group of our own with controllers; this process has gone into a leaf for it."""
    here = cgroups.mounted(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    own = next(place.own for place in here if place.version == 2)
    base = cgroups.open_v2(own, f"daas-test-{uuid.uuid4().hex[:8]}", {"cpu", "memory"})
    group = base / "unified"
    group.mkdir()
    yield group
    for folder in sorted(group.rglob("*/"), reverse=True):
        cgroups.kill((str(folder),), within_s=5)
        cgroups.remove((str(folder),))
    assert cgroups.remove((str(group), str(base)))


@pytest.mark.cgroups("v2")
@pytest.mark.needs("root")
def test_v2_our_own_processes_move_to_a_leaf_first(unified: Path) -> None:
    """The rule that a group with controllers holds no process, on the real hierarchy."""
    available = cgroups.controllers(unified)
    assert {"cpu", "memory"} <= available
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


@pytest.mark.cgroups("v1", "v2")
@pytest.mark.needs("root")
def test_killing_a_group_reaches_what_forks_meanwhile() -> None:
    place = cgroups.detect(f"daas-test-{uuid.uuid4().hex[:8]}")
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
