"""The contract of the SLURM backend, on real clusters of both versions."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contracts.backend import BackendContract
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm_place import SlurmPlace, slurm_place

pytestmark = pytest.mark.timeout(120)


class TestSlurm(BackendContract):
    """Ada's servers on the cluster's nodes."""

    made_of = frozenset({"interpreter"})
    stop_within_s = 30.0

    @pytest.fixture
    async def place(self, slurm_any: Slurm) -> AsyncIterator[SlurmPlace]:
        async with slurm_place(slurm_any) as place:
            yield place
