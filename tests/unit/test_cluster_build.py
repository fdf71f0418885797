"""Building the programs of the tests' cluster: once, waited for, and with the reason where it fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.kubernetes import build
from tests.servers.kubernetes.build import ALL, MODULE, BuildFailed, Part

GO = """#!/bin/sh
# Stands for the compiler: the build's own steps are what is asked here.
if [ "$1" = env ]; then echo {version}; exit; fi
echo called >> {calls}
until [ -e {go_on} ]; do sleep 0.01; done
if [ -e {fault} ]; then echo "cannot find module providing package x" >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
mkdir -p "$2" && touch "$2/tool-a" "$2/server"
"""
PART = Part("sample", "example.test/x", ("example.test/x/tool-a", "example.test/server/v3"), rename=("server", "etcd"))


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
    module = tmp_path / "module"
    (module / "own").mkdir(parents=True)
    (module / "go.mod").write_text("module sample\nrequire (\n\texample.test/x v1.2.3\n)\n")
    (module / "go.sum").write_text("sums\n")
    (module / "own" / "main.go").write_text("package main\n")
    fake = FakeGo(tmp_path)
    monkeypatch.setattr(build, "MODULE", module)
    monkeypatch.setattr(build, "ALL", (PART,))
    monkeypatch.setenv("DAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{fake.bin}:/usr/bin:/bin")
    return fake


@pytest.mark.parametrize("source", ["go.mod", "go.sum", "own/main.go"])
def test_programs_are_built_once_for_the_same_sources(go: FakeGo, source: str) -> None:
    first = build.programs()
    assert {name: path.name for name, path in first.items()} == {"tool-a": "tool-a", "etcd": "etcd"}
    assert all(path.is_file() for path in first.values())
    assert build.programs() == first
    assert go.times == 1
    with (build.MODULE / source).open("a") as file:
        file.write("// Changed.\n")
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


def test_the_module_pins_its_sources_names_every_program_and_needs_no_newer_go() -> None:
    lines = (MODULE / "go.mod").read_text()
    needed = next(line.split()[1] for line in lines.splitlines() if line.startswith("go "))
    assert tuple(map(int, needed.split(".")[:2])) <= build.GO_VERSION
    for part in ALL:
        assert part.version.startswith("v")
        assert f"{part.package} {part.version} " in (MODULE / "go.sum").read_text()
        # Without a tool line of go.mod `go mod tidy` would drop what it needs; our own packages need none.
        assert all(f"\t{tool}\n" in lines for tool in part.tools if not tool.startswith("daas-hub.test/"))
