"""The contract of backends on this machine: as root with real accounts, and as the hub's own uid."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.backends.local import LocalBackend
from daas_hub.clients import cgroups
from daas_hub.core.errors import ConfigError
from tests.contracts.backend import BackendContract
from tests.servers.local_place import LocalPlace, local_place


@pytest.mark.needs("root")
class TestLocalAsRoot(BackendContract):
    made_of = frozenset({"interpreter", "python", "packages"})

    @pytest.fixture
    async def place(self) -> AsyncIterator[LocalPlace]:
        async with local_place() as place:
            yield place


@pytest.mark.needs("root")
class TestLocalWithoutCgroups(BackendContract):
    """The same where limits cannot be enforced: what a server leaves behind is found by its mark."""

    made_of = TestLocalAsRoot.made_of

    @pytest.fixture
    async def place(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalPlace]:
        nowhere = cgroups.Place("none", reason="the test takes them away")
        monkeypatch.setattr(cgroups, "detect", lambda family: nowhere)
        async with local_place() as place:
            yield place


def test_a_place_belongs_to_one_ledger(tmp_path: Path) -> None:
    def backend(hub_id: str) -> LocalBackend:
        return LocalBackend(runtime_dir=str(tmp_path / "run"), hub_id=hub_id)

    backend("beam").claim("one")
    backend("beam").claim("one")
    backend("other").claim("two")
    with pytest.raises(ConfigError, match=f"^{tmp_path}/run/beam belongs to a hub with another ledger: give this hub"):
        backend("beam").claim("two")
    backend("beam").claim("one")


if os.geteuid() != 0:  # Run as another uid by tests/faults/test_local_without_root.py.

    class TestLocalAsOwnUid(BackendContract):
        # Its Python belongs to another uid than root's and its own, or not: as that is, it may not be run.
        made_of = frozenset[str]()

        @pytest.fixture
        async def place(self) -> AsyncIterator[LocalPlace]:
            async with local_place(uid=os.geteuid(), gid=os.getegid()) as place:
                yield place
