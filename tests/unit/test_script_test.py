"""What `scripts/test` does besides running pytest."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.waiting import until

CLONE = Path(__file__).resolve().parents[2]
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
    files = [tmp_path / name for name in ("BUILD", "IMAGES")]
    for file in files:
        monkeypatch.setattr(script, file.name, [sys.executable, "-c", BUILD, str(file)])
    with script.cluster_built_meanwhile(dict(os.environ)):
        for file in files:
            await until(lambda file=file: file.exists() and file.read_text().endswith("\n"), what=f"{file.name} began")
        pids = [pid for file in files for pid in file.read_text().split()]
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
    for name in ("BUILD", "IMAGES"):
        monkeypatch.setattr(script, name, ["a program that does not exist"])
    if why == "not root":
        monkeypatch.setattr(script.os, "geteuid", lambda: 1000)
    else:
        monkeypatch.setenv("DAAS_TEST_KUBECONFIG", str(tmp_path))
    with script.cluster_built_meanwhile(dict(os.environ)):
        pass


@pytest.mark.parametrize(
    ("arguments", "given", "cores", "count"),
    [
        ([], "", 4, 3),
        ([], "auto", 1, 2),
        ([], "auto", 2, 2),
        ([], "auto", 4, 3),
        ([], "auto", 64, 6),
        (["--durations=60", "-q"], "auto", 2, 2),
        (["tests/faults", "tests/flow"], "auto", 2, 2),
        (["tests/unit/test_naming.py"], "auto", 2, 0),
        (["tests/unit", "-k", "naming"], "auto", 2, 0),
        (["--pdb"], "auto", 2, 0),
        (["tests/unit/test_naming.py"], "4", 2, 4),
        ([], "0", 2, 0),
    ],
)
def test_workers_are_for_what_is_large(
    script: ModuleType, arguments: list[str], given: str, cores: int, count: int
) -> None:
    assert script.workers(arguments, given, cores) == count


def test_a_number_of_workers_that_is_none_is_refused(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAAS_TEST_WORKERS", "many")
    assert script.main([]) == 1
    wrong = "DAAS_TEST_WORKERS is 'auto' or a number of processes, 0 for none, and not 'many'."
    assert wrong in capsys.readouterr().err


RUN = """
import os, runpy, sys
test = runpy.run_path(sys.argv[1])
sys.exit(test["run"]([sys.executable, "-m", "pytest", *sys.argv[2:]], dict(os.environ)))
"""
CONFTEST = """
from tests import parallel
from tests.conftest import (ENGINES, pytest_configure, pytest_runtest_logreport, pytest_runtest_makereport,
                            pytest_runtest_setup, pytest_sessionfinish, pytest_terminal_summary)
parallel.prepare = lambda: None
"""
ENDLESS = """
import asyncio, os, pathlib, subprocess
import pytest

@pytest.fixture(scope="session")
def server():
    process = subprocess.Popen(["sleep", "1000"])
    try:
        yield process.pid
    finally:
        # What ends something may take a while; nobody may interrupt it.
        process.kill()
        process.wait()
        pathlib.Path({folder!r}, f"ended-{{process.pid}}").touch()

@pytest.fixture
def careless():
    # It would not end what it has started if it were interrupted here.
    pathlib.Path({folder!r}, f"careless-{{os.getpid()}}").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))

async def test_endless(server, careless):
    began = pathlib.Path({folder!r}, f"began-{{server}}")
    began.touch()
    try:
        await asyncio.sleep(1000)
    finally:
        began.rename(began.with_name(f"left-{{server}}"))
"""


def a_suite(folder: Path, **files: str) -> list[str]:
    """A suite of its own with this one's conftest; the words that make pytest run it."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nmarkers = needs(engine): as here\n")
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return ["-p", "no:cacheprovider", "-c", str(folder / "pytest.ini"), "--rootdir", str(folder), str(folder)]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 2])
async def test_an_interrupted_run_ends_what_its_tests_have_started(
    tmp_path: Path, how: signal.Signals, workers: int, background: bool
) -> None:
    words = a_suite(tmp_path, **{f"test_{n}": ENDLESS.format(folder=str(tmp_path)) for n in range(max(workers, 1))})
    # As a shell starts it that has no jobs: SIGINT is ignored.
    how_begun = ["env", "--ignore-signal=INT"] if background else ["env", "--default-signal=INT"]
    argv = [*how_begun, sys.executable, "-c", RUN, str(LIB / "test.py"), "-n", str(workers), *words]
    env = {**os.environ, "PYTHONPATH": str(CLONE)}

    def those(what: str) -> list[str]:
        return sorted(path.name.partition("-")[2] for path in tmp_path.glob(f"{what}-*"))

    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as run:
        try:
            await until(lambda: len(those("began")) == max(workers, 1), within_s=50, what="the tests run")
            began = those("began")
            run.send_signal(how)
            said, _ = run.communicate()
        finally:
            run.kill()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, said
    assert those("ended") == those("left") == began
    forgotten = [path.read_text() for path in tmp_path.glob("careless-*")]
    assert len(forgotten) == len(began)
    assert not any(_runs(pid) for pid in began + forgotten)


WANTING = """
import pytest

@pytest.mark.needs("an oven")
def test_bread():
    raise AssertionError

def test_salad():
    pass
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("required", [False, True])
def test_what_was_left_out_is_told_once_at_the_end(tmp_path: Path, workers: int, required: bool) -> None:
    words = a_suite(tmp_path, test_a=WANTING, test_b=WANTING)
    (tmp_path / "conftest.py").write_text(f"{CONFTEST}\nENGINES['an oven'] = lambda: False\n")
    env = {**os.environ, "PYTHONPATH": str(CLONE), "DAAS_TEST_REQUIRE": "all" if required else ""}
    argv = [sys.executable, "-m", "pytest", "-n", str(workers), *words]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=CLONE)
    *_, last = done.stdout.splitlines()
    if required:
        assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
        assert "2 passed, 2 errors in " in last
        assert "needs an oven, which this machine lacks (DAAS_TEST_REQUIRE=all)" in done.stdout
    else:
        assert done.returncode == 0, done.stdout
        assert "2 passed, 2 skipped in " in last
        assert done.stdout.count("NOT RUN: 2 tests need an oven, which this machine lacks") == 1
        assert {"  test_a.py::test_bread", "  test_b.py::test_bread"} < set(done.stdout.splitlines())


DEADLY = """
import os, pytest
pytestmark = pytest.mark.needs("an oven")

def test_before():
    pass

def test_deadly():
    os._exit(3)

def test_after():
    pass

def test_refused():
    from daas_hub.core.errors import BackendUnavailable
    raise BackendUnavailable("Not now.", log_message="daas-runas is in its bath")
"""


def test_a_worker_that_dies_fails_one_test_and_the_others_run_and_say_why_they_fail(tmp_path: Path) -> None:
    words = a_suite(tmp_path, test_a=DEADLY, test_b=DEADLY.replace("os._exit(3)", "pass"))
    (tmp_path / "conftest.py").write_text(f"{CONFTEST}\nENGINES['an oven'] = lambda: True\n")
    argv = [sys.executable, "-m", "pytest", "-n", "2", *words]
    env = {**os.environ, "PYTHONPATH": str(CLONE)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=CLONE)
    assert "3 failed, 5 passed in " in done.stdout.splitlines()[-1], done.stdout
    assert "crashed while running 'test_a.py::test_deadly'" in done.stdout
    assert "daas-runas is in its bath" in done.stdout
