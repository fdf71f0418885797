"""One SLURM cluster of each version for a whole run of tests, in each process that needs it.

Whoever changes something puts it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.waiting import LONG

from . import debian
from .rig import Slurm

VERSIONS = {"slurm": None, "slurm24": debian.ensure}
"""Engine → what gives the folder of its Debian; None: this machine's."""


@pytest.fixture(scope="session")
def slurm_clusters() -> Iterator[Callable[[str], Slurm]]:
    """Gives the cluster of an engine, with every node idle; it starts when it is asked for first."""
    started: dict[str, Slurm] = {}
    with ExitStack() as ends:

        def cluster(engine: str) -> Slurm:
            if engine not in started:
                root = VERSIONS[engine]
                started[engine] = Slurm(debian=root() if root else None).start()
                ends.callback(started[engine].stop)
            return started[engine]

        yield cluster


@pytest.fixture(scope="session")
def slurm(slurm_clusters: Callable[[str], Slurm]) -> Slurm:
    """SLURM of this machine's Debian: 22.05 in Debian 12. Its tests say ``needs("root", "slurm")``."""
    return slurm_clusters("slurm")


@pytest.fixture(scope="session")
def slurm24(slurm_clusters: Callable[[str], Slurm]) -> Slurm:
    """SLURM 24.11, of Debian 13. Its tests say ``needs("root", "slurm24")``."""
    return slurm_clusters("slurm24")


def _params(engines: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.needs("root", name)) for name in engines]


@pytest.fixture(scope="session", params=_params(VERSIONS))
def slurm_any(request: pytest.FixtureRequest, slurm_clusters: Callable[[str], Slurm]) -> Slurm:
    """Each version in turn: a test that takes it runs twice and needs no mark of its own."""
    return slurm_clusters(request.param)


newer_when_long = pytest.mark.parametrize("slurm_any", _params(VERSIONS if LONG else list(VERSIONS)[:1]), indirect=True)
"""Of a test that takes ``slurm_any`` and minutes: on 24.11 in the long run alone."""
