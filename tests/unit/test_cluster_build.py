"""Building the programs of the tests' cluster: once, waited for, and with the reason where it fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.kubernetes import build
from tests.servers.kubernetes.build import ALL, MODULES, BuildFailed, Module

GO = """#!/bin/sh
# Stands for the compiler: the build's own steps are what is asked here.
if [ "$1" = env ]; then echo {version}; exit; fi
echo called >> {calls}
until [ -e {go_on} ]; do sleep 0.01; done
if [ -e {fault} ]; then echo "cannot find module providing package x" >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
mkdir -p "$2" && touch "$2/tool-a" "$2/server"
"""
MODULE = Module("sample", "example.test/x", ("tool-a", "etcd"), rename=("server", "etcd"))


class FakeGo:
    def __init__(self, folder: Path) -> None:
        self.calls, self.go_on, self.fault = folder / "calls", folder / "go_on", folder / "fault"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.version("go1.26.3")
        self.go_on.touch()

    def version(self, version: str) -> None:
        program = self.bin / "go"
        program.write_text(GO.format(version=version, calls=self.calls, go_on=self.go_on, fault=self.fault))
        program.chmod(0o755)

    @property
    def times(self) -> int:
        return len(self.calls.read_text().split()) if self.calls.exists() else 0


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    modules = tmp_path / "modules"
    (modules / "sample").mkdir(parents=True)
    (modules / "sample" / "go.mod").write_text("module sample\nrequire (\n\texample.test/x v1.2.3\n)\n")
    (modules / "sample" / "go.sum").write_text("sums\n")
    fake = FakeGo(tmp_path)
    monkeypatch.setattr(build, "MODULES", modules)
    monkeypatch.setattr(build, "ALL", (MODULE,))
    monkeypatch.setenv("DAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{fake.bin}:/usr/bin:/bin")
    return fake


def test_programs_are_built_once_for_the_same_sources(go: FakeGo) -> None:
    first = build.programs()
    assert {name: path.name for name, path in first.items()} == {"tool-a": "tool-a", "etcd": "etcd"}
    assert all(path.is_file() for path in first.values())
    assert build.programs() == first
    assert go.times == 1
    (build.MODULES / "sample" / "go.sum").write_text("other sums\n")
    assert build.programs()["etcd"] != first["etcd"]
    assert go.times == 2


def test_a_build_in_progress_is_waited_for(go: FakeGo, monkeypatch: pytest.MonkeyPatch) -> None:
    go.go_on.unlink()
    waits = threading.Event()
    monkeypatch.setattr(build, "say", lambda text: waits.set() if "waiting for it" in text else None)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(build.programs) for _ in range(2)]
        assert waits.wait(20)
        go.go_on.touch()
        assert both[0].result(20) == both[1].result(20)
    assert go.times == 1


def test_a_failed_build_says_why_and_is_tried_again(go: FakeGo) -> None:
    go.fault.touch()
    with pytest.raises(BuildFailed, match=r"sample v1\.2\.3 failed.*\n.*cannot find module providing package x"):
        build.programs()
    go.fault.unlink()
    assert build.programs()["etcd"].is_file()


def test_an_old_go_is_not_used(go: FakeGo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert build.toolchain() == str(go.bin / "go")
    go.version("go1.19.8")
    monkeypatch.setattr(build, "ensure", lambda kind: tmp_path / kind / "bin" / "python")
    assert build.toolchain() == str(tmp_path / "tool-go" / "bin" / "go")


def test_every_module_pins_its_sources_and_needs_no_newer_go() -> None:
    assert {m.name for m in ALL} == {p.name for p in MODULES.iterdir()}
    for module in ALL:
        assert module.version.startswith("v")
        assert module.version in (module.folder / "go.sum").read_text()
        needed = next(w.split()[1] for w in (module.folder / "go.mod").read_text().splitlines() if w.startswith("go "))
        assert tuple(map(int, needed.split(".")[:2])) <= build.GO_VERSION
