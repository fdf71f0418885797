"""What `scripts/test` does besides running pytest."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.waiting import until

LIB = Path(__file__).resolve().parents[2] / "scripts" / "lib"
BUILD = """
import os, subprocess, sys
compiler = subprocess.Popen(["sleep", "1000"])
with open(sys.argv[1], "w") as file:
    file.write(f"{os.getpid()} {compiler.pid}\\n")
compiler.wait()
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("scripts_lib_test", LIB / "test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    monkeypatch.delenv("DAAS_TEST_KUBECONFIG", raising=False)
    return module


async def test_a_build_that_nobody_waits_for_ends_with_the_run(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = tmp_path / "began"
    monkeypatch.setattr(script, "BUILD", [sys.executable, "-c", BUILD, str(began)])
    with script.cluster_built_meanwhile(dict(os.environ)):
        pids = (await until(lambda: began.exists() and began.read_text().endswith("\n") and began.read_text())).split()
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    await until(lambda: not any(_runs(pid) for pid in pids), what="the build and its compiler are gone")


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("why", ["an existing cluster", "not root"])
def test_nothing_is_built_where_no_test_can_use_it(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(script, "BUILD", ["a program that does not exist"])
    if why == "not root":
        monkeypatch.setattr(script.os, "geteuid", lambda: 1000)
    else:
        monkeypatch.setenv("DAAS_TEST_KUBECONFIG", str(tmp_path))
    with script.cluster_built_meanwhile(dict(os.environ)):
        pass
