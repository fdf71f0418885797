"""One version, said in two places that cannot read each other; and which packages are not taken."""

from __future__ import annotations

import tomllib
from pathlib import Path

import daas_hub


def test_the_package_and_its_metadata_agree() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert daas_hub.__version__ == project["version"]


def test_what_is_slow_to_import_is_in_no_hub_and_no_jupyterlab_of_ours() -> None:
    """Decision 0140: jsonschema imports it where it is there, and jupyter_events imports jsonschema."""
    clone = Path(__file__).parents[2]
    locks = [*(clone / "requirements").glob("*.txt"), *(clone / "images").glob("*/*.txt")]
    with_hub = [lock for lock in locks if "\njupyter-events==" in lock.read_text()]
    assert clone / "images/hub/requirements.txt" in with_hub
    # Where a lock holds an older one, pip 23.2 finds it only by the name that jupyter_events asks for.
    assert all("\njsonschema[format-nongpl]==" in lock.read_text() for lock in with_hub)
    slow = [lock.name for lock in with_hub if "\nrfc3987-syntax==" in lock.read_text()]
    # What it is compared with asks for it.
    assert slow == ["peer-usage-quotas.txt"]
