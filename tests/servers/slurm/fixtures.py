"""One SLURM cluster for a whole run of tests, in each process that needs it. Whoever changes something puts it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .rig import Slurm


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A real cluster, with every node idle."""
    cluster = Slurm().start()
    try:
        yield cluster
    finally:
        cluster.stop()
