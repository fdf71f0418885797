"""Which Python other accounts can run, judged by the file system and proved by running it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from daas_hub.clients.interpreters import find_reachable_python, reachable_by, software_of

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can pass."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def program(folder: Path, mode: int = 0o755) -> Path:
    path = folder / "program"
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_every_folder_and_the_file_itself_count(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir(mode=0o755)
    path = program(inner)
    assert reachable_by(NOBODY, path)
    inner.chmod(0o711)
    assert reachable_by(NOBODY, path)
    inner.chmod(0o700)
    assert not reachable_by(NOBODY, path)
    assert reachable_by(os.getuid(), path)
    inner.chmod(0o755)
    path.chmod(0o744)
    assert not reachable_by(NOBODY, path)
    assert not reachable_by(NOBODY, folder / "missing")


def test_groups_are_taken_into_account(folder: Path) -> None:
    path = program(folder, 0o750)
    gid = path.stat().st_gid
    assert not reachable_by(NOBODY, path)
    assert reachable_by(NOBODY, path, gids=[gid])
    # The class that matches first decides, also where it may less.
    path.chmod(0o705)
    assert not reachable_by(NOBODY, path, gids=[gid])


def test_links_are_followed_through_all_folders(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    (folder / "open").mkdir(mode=0o755)
    target = program(folder / "open")
    (folder / "closed/by-way").symlink_to(target)
    (folder / "link").symlink_to(folder / "closed/by-way")
    assert not reachable_by(NOBODY, folder / "link")
    (folder / "closed").chmod(0o711)
    assert reachable_by(NOBODY, folder / "link")
    (folder / "loop").symlink_to("loop")
    assert not reachable_by(NOBODY, folder / "loop")


def test_one_that_lies_below_a_closed_folder_is_passed_over(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "python3").symlink_to(find_reachable_python())
    assert find_reachable_python(candidates=[str(closed / "python3")]) != closed / "python3"


def test_one_that_does_not_run_is_passed_over(folder: Path) -> None:
    path = program(folder)
    assert find_reachable_python(candidates=[str(path), "/nowhere/python"]) not in {path, Path("/nowhere/python")}


@pytest.mark.needs("root")
def test_what_is_found_runs_as_nobody() -> None:
    python = find_reachable_python()
    asked = [str(python), "-c", "import os, ssl, venv; print(os.getuid())"]
    answer = subprocess.run(
        asked, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"{NOBODY}\n"


def test_what_a_program_is_made_of_is_asked_of_its_own_interpreter(tmp_path: Path) -> None:
    program = tmp_path / "serve"
    program.write_text(f"#!{sys.executable} -I\n")
    made = software_of(str(program))
    assert made["interpreter"] == sys.executable
    assert made["python"] == platform.python_version()
    assert made["packages"]["jupyterhub"] == metadata.version("jupyterhub")
    assert software_of(sys.executable)["packages"] == made["packages"]


def test_what_others_could_have_written_is_not_run(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    python.chmod(0o755)
    program = tmp_path / "serve"
    program.write_text(f"#!{python}\n")
    # It may be run, and is no Python.
    assert software_of(str(program)) == {}
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    for place, mode in ((python, 0o757), (program, 0o646), (tmp_path, 0o777)):
        before = place.stat().st_mode
        place.chmod(mode)
        assert software_of(str(program)) == {}
        assert not (tmp_path / "ran").exists()
        place.chmod(before)
    assert software_of("no-such-program") == {}
    assert software_of("/bin/sh") == {}
