"""Run by test_local_without_root.py as an account that is not root."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.core.errors import AccountRefused, StartFailed
from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.local_place import local_place

OTHER = 65001


async def test_an_account_of_another_uid_is_refused_and_both_are_named() -> None:
    async with local_place(uid=OTHER, gid=OTHER) as place:
        spec = place.spec(new_id())
        for act in (place.backend.prepare(spec), place.backend.start(spec, Saved())):
            with pytest.raises(AccountRefused) as refusal:
                await act
            assert str(OTHER) in refusal.value.message
            assert str(os.getuid()) in refusal.value.message
        assert not Path(place.account.home).exists()


async def test_with_a_shared_uid_everybody_has_a_home_and_it_is_said() -> None:
    async with local_place(uid=OTHER, gid=OTHER, allow_shared_uid=True) as place:
        (look,) = await place.backend.capacity()
        assert look.note.startswith("shared uid: no isolation")
        accounts = [place.account, replace(place.account, name="yuki", uid=OTHER + 1, home=str(place.root / "yuki"))]
        for account in accounts:
            spec, saved = place.spec(new_id(), account=account), Saved()
            await place.backend.prepare(spec)
            url = await place.backend.start(spec, saved)
            who = await place.get(url, spec, "whoami")
            assert who["resuid"] == [os.getuid()] * 3
            assert who["environment"]["HOME"] == who["cwd"] == account.home
            assert who["environment"]["USER"] == account.name
            assert saved.last["shared_uid"] is True
            assert saved.last["uid"] == os.getuid()
            assert Path(account.home).stat().st_mode & 0o777 == 0o700
            assert (await place.backend.stop(saved.last, within_s=10)).life is Life.ENDED


async def test_a_home_of_another_uid_is_not_used_by_a_shared_one() -> None:
    async with local_place(uid=OTHER, gid=OTHER, allow_shared_uid=True) as place:
        spec = place.spec(new_id(), account=replace(place.account, home="/root"))
        with pytest.raises(StartFailed, match=f"uid 0.*uid {os.getuid()}"):
            await place.backend.prepare(spec)


async def test_without_writable_cgroups_limits_are_said_to_be_off() -> None:
    async with local_place(uid=os.getuid(), gid=os.getgid()) as place:
        (look,) = await place.backend.capacity()
        assert not look.enforces_limits
        assert "limits not enforced here" in look.note
        spec, saved = place.spec(new_id()), Saved()
        await place.backend.prepare(spec)
        await place.backend.start(spec, saved)
        assert saved.last["enforces_limits"] is False
        assert saved.last["limits_note"]
