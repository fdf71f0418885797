"""The cache folder does not grow without limit, and nothing goes that somebody uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daas_hub.demo import prune, setup

NOW = 1_800_000_000.0
DAY = 24 * 3600.0


def name(kind: str, number: int) -> str:
    return f"{kind}-{number:012x}"


def environment(cache: Path, kind: str, number: int, *, days: float) -> Path:
    """An environment that was last used so many days ago."""
    folder = cache / name(kind, number)
    (folder / "bin").mkdir(parents=True)
    (folder / "complete").touch()
    (folder / prune.USED).touch()
    os.utime(folder / prune.USED, (NOW - days * DAY,) * 2)
    return folder


def test_the_newest_three_of_each_kind_stay() -> None:
    kinds = ("check", "test", "demo", "tool-go", "peer-idle-culler")
    gone = prune.choose({name(kind, n): NOW - n for kind in kinds for n in range(5)}, NOW)
    assert sorted(gone) == sorted(name(kind, n) for kind in kinds for n in (3, 4))


def test_what_was_not_used_for_two_weeks_goes_also_where_it_is_the_only_one() -> None:
    used = {name("test", 1): NOW - 14.1 * DAY, name("test", 2): NOW - 13.9 * DAY}
    assert prune.choose(used, NOW) == [name("test", 1)]


def test_nothing_else_of_the_folder_is_looked_at() -> None:
    others = ["go-kubernetes-cdc5f787e420", "tests-npm-23d6e00d84cdf675", "base-3.11.2-12345678", "images", "clusters",
              "bench-usage-quotas-5abd82fea295", "test-1", "my-test-0123456789ab"]  # fmt: skip
    assert prune.choose(dict.fromkeys(others, 0.0), NOW) == []


def test_pruning_removes_the_old_and_says_so(tmp_path: Path) -> None:
    folders = [environment(tmp_path, "test", n, days=n) for n in range(5)]
    said: list[str] = []
    assert prune.prune(tmp_path, now=NOW, say=said.append) == [folders[4], folders[3]]
    assert [folder.exists() for folder in folders] == [True, True, True, False, False]
    assert len(said) == 2
    assert str(folders[4]) in said[0]


HOLDER = """
import os, pathlib, runpy, sys
runpy.run_path(sys.argv[1])["hold"](pathlib.Path(sys.argv[2]))
# As the scripts do it: another program, and the lock stays.
os.execv("/bin/cat", ["cat"])
"""


@pytest.mark.parametrize("how", ["lock", "argv"])
def test_an_environment_in_use_stays(tmp_path: Path, how: str) -> None:
    folder = environment(tmp_path, "test", 1, days=0)
    argv = {
        "lock": [sys.executable, "-c", HOLDER, prune.__file__, str(folder)],
        # Of an older version, which holds no lock.
        "argv": ["/bin/sh", "-c", "echo; read -r _", f"{folder}/bin/python"],
    }[how]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as user:
        assert user.stdin is not None
        assert user.stdout is not None
        if how == "lock":
            # The answer of the program that it has become.
            user.stdin.write(b"\n")
            user.stdin.flush()
        assert user.stdout.readline() == b"\n"
        os.utime(folder / prune.USED, (NOW - 30 * DAY,) * 2)
        assert prune.prune(tmp_path, now=NOW) == []
        assert (folder / "complete").exists()
        user.stdin.close()
    assert prune.prune(tmp_path, now=NOW) == [folder]


def test_an_environment_that_is_being_made_stays(tmp_path: Path) -> None:
    folder = environment(tmp_path, "test", 1, days=30)
    with setup.locked(tmp_path / f"{folder.name}.lock"):
        assert prune.prune(tmp_path, now=NOW) == []
    assert prune.prune(tmp_path, now=NOW) == [folder]


def test_a_use_counts_from_then_on(tmp_path: Path) -> None:
    folder = environment(tmp_path, "test", 1, days=30)
    os.close(prune.hold(folder))
    assert prune.prune(tmp_path) == []


def test_what_cannot_be_removed_hinders_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = environment(tmp_path, "test", 1, days=30)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(prune.shutil, "rmtree", refuse)
    assert prune.prune(tmp_path, now=NOW) == []
    assert not (folder / "complete").exists(), "half of it would be taken for whole"


def test_a_start_prunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that makes an environment replaced: it is there already."""
    monkeypatch.delenv("DAAS_PYTHON", raising=False)
    monkeypatch.setenv("DAAS_CACHE", str(tmp_path))
    monkeypatch.setattr(setup, "reachable", lambda path: True)
    monkeypatch.setattr(setup, "base_python", lambda cache, for_everybody: Path(sys.executable))
    for step in ("bring_proxy", "_install_project"):
        monkeypatch.setattr(setup, step, lambda folder: None)
    monkeypatch.setattr(setup, "_build", lambda kind, folder, base, lock: folder.mkdir())
    old = environment(tmp_path, "test", 1, days=0)
    os.utime(old / prune.USED, (0, 0))
    python = setup.ensure("test")
    assert not old.exists()
    assert (python.parents[1] / prune.USED).exists()
