"""One version, said in two places that cannot read each other."""

from __future__ import annotations

import tomllib
from pathlib import Path

import daas_hub


def test_the_package_and_its_metadata_agree() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert daas_hub.__version__ == project["version"]
