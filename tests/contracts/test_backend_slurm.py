"""The contract of the SLURM backend, on real clusters of both versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from daas_hub.core.errors import BackendUnavailable
from tests.contracts.backend import BackendContract, Saved
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

    async def test_site_tokens_are_replaced_as_one_set_that_others_do_not_see(self, place: Any, saved: Saved) -> None:
        """There is no place for them on the cluster yet: whoever asks is told so, and nothing pretends."""
        await self.begin(place, saved)
        assert saved.last["site_tokens"] is False
        with pytest.raises(BackendUnavailable, match="On slurm servers get no site tokens"):
            await place.backend.hand_over(saved.last, {"storage": "t"})
        assert await place.backend.handed_over(saved.last) == {}
