"""A hub that is not root: the whole contract as its own uid, refusals of any other, and the shared uid of the demo.

Runs pytest as another account in a copy of the checkout that it can read, with a Python that it can run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.reachable_python import singleuser

REPO = Path(__file__).parents[2]
UID, GID = 54331, 54332
ROOM = "tests/contracts/test_backend_local.py::TestLocalAsOwnUid"
SHARED = "tests/faults/local_shared_uid.py"


@pytest.fixture
def copy() -> Iterator[Path]:
    """The checkout as another account sees it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        ignore = shutil.ignore_patterns("__pycache__", "node_modules", ".*")
        for folder in ("daas_hub", "tests"):
            shutil.copytree(REPO / folder, root / folder, ignore=ignore)
        shutil.copy(REPO / "pyproject.toml", root)
        subprocess.run(["chmod", "-R", "go+rX", root], check=True)
        (root / "home").mkdir()
        os.chown(root / "home", UID, GID)
        yield root


@pytest.mark.needs("root")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("what", [ROOM, SHARED])
def test_as_another_account(copy: Path, what: str) -> None:
    python = str(Path(singleuser()).with_name("python"))
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(copy / "home"), "PYTHONPATH": str(copy)}
    env |= {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", what],
        cwd=copy,
        env=env,
        user=UID,
        group=GID,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
