"""Homes on this machine: made for the right account, never taken from another, full ones included."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.core.errors import AccountRefused, HomeRefused, StartFailed
from daas_hub.core.models import LaunchSpec, Mount
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.local_place import GID, UID, LocalPlace, local_place

pytestmark = pytest.mark.needs("root")


@pytest.fixture
async def place() -> AsyncIterator[LocalPlace]:
    async with local_place() as place:
        yield place


def with_home(place: LocalPlace, home: Path | str) -> LaunchSpec:
    return place.spec(new_id(), account=replace(place.account, home=str(home)))


def facts(path: Path) -> tuple[int, int, int]:
    seen = path.lstat()
    return seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)


async def test_a_missing_home_is_made_for_her_alone(place: LocalPlace) -> None:
    await asyncio.gather(*(place.backend.prepare(place.spec(new_id())) for _ in range(5)))
    home = Path(place.account.home)
    assert facts(home) == (UID, GID, 0o700)
    assert sorted(entry.name for entry in place.root.iterdir()) == ["zora"], "a draft was left"


async def test_an_existing_home_is_not_touched(place: LocalPlace) -> None:
    home = Path(place.account.home)
    home.mkdir()
    os.chown(home, UID, 4)
    home.chmod(0o755)
    await place.backend.prepare(place.spec(new_id()))
    assert facts(home) == (UID, 4, 0o755)


async def test_a_home_of_somebody_else_is_refused_with_both_uids(place: LocalPlace) -> None:
    home = Path(place.account.home)
    home.mkdir(mode=0o700)
    os.chown(home, UID + 7, GID)
    with pytest.raises(HomeRefused, match=f"{home} belongs to uid {UID + 7}.*uid {UID}.*administers") as failure:
        await place.backend.prepare(place.spec(new_id()))
    assert failure.value.permanent
    assert facts(home) == (UID + 7, GID, 0o700)


@pytest.mark.parametrize("kind", ["file", "fifo", "link"])
async def test_what_is_not_a_folder_is_refused(place: LocalPlace, kind: str) -> None:
    home, other = Path(place.account.home), place.root / "other"
    if kind == "file":
        home.touch()
    elif kind == "fifo":
        os.mkfifo(home)
    else:
        other.mkdir()
        os.chown(other, UID, GID)
        home.symlink_to(other)
    os.lchown(home, UID, GID)
    with pytest.raises(StartFailed, match="not a folder") as failure:
        await place.backend.prepare(place.spec(new_id()))
    assert failure.value.permanent


async def test_a_link_on_the_way_counts_only_if_it_is_roots(place: LocalPlace) -> None:
    real, roots, hers = place.root / "disk", place.root / "home", place.root / "writable"
    real.mkdir(mode=0o755)
    roots.symlink_to("disk")
    await place.backend.prepare(with_home(place, roots / "a"))
    assert facts(real / "a") == (UID, GID, 0o700)
    hers.mkdir()
    os.chown(hers, UID, GID)
    (hers / "link").symlink_to(real)
    os.lchown(hers / "link", UID, GID)
    with pytest.raises(StartFailed, match="link that root did not make"):
        await place.backend.prepare(with_home(place, hers / "link" / "b"))
    # Root's own link, but in a folder where she could have put another one.
    os.lchown(hers / "link", 0, 0)
    with pytest.raises(StartFailed, match="link that root did not make"):
        await place.backend.prepare(with_home(place, hers / "link" / "b"))
    assert not (real / "b").exists()
    (place.root / "round").symlink_to("round")
    with pytest.raises(StartFailed, match="link"):
        await place.backend.prepare(with_home(place, place.root / "round" / "c"))


async def test_parents_are_made_only_below_a_home_root(place: LocalPlace) -> None:
    home = place.root / "homes" / "physics" / "zora"
    with pytest.raises(StartFailed, match="does not exist"):
        await place.backend.prepare(with_home(place, home))
    place.backend.home_roots = [str(place.root / "homes")]
    with pytest.raises(StartFailed, match="does not exist"):
        await place.backend.prepare(with_home(place, home))
    (place.root / "homes").mkdir(mode=0o755)
    await place.backend.prepare(with_home(place, home))
    assert facts(home.parent) == (0, 0, 0o755)
    assert facts(home) == (UID, GID, 0o700)
    # Once roots are named, a missing home elsewhere is not made, though its parent exists; one that exists is used.
    elsewhere = place.root / "elsewhere"
    with pytest.raises(StartFailed, match=f"made only below {place.root}/homes"):
        await place.backend.prepare(with_home(place, elsewhere))
    elsewhere.mkdir(mode=0o700)
    os.chown(elsewhere, UID, GID)
    await place.backend.prepare(with_home(place, elsewhere))
    # A name that only begins like a home root is not below it.
    with pytest.raises(StartFailed, match="does not exist"):
        await place.backend.prepare(with_home(place, place.root / "homes2" / "x" / "y"))


@pytest.mark.parametrize("home", ["relative", "/", "/x/../etc/zora", "/with:colon/z", "/line\nbreak"])
async def test_a_home_that_is_not_a_plain_path_is_refused(place: LocalPlace, home: str) -> None:
    with pytest.raises((StartFailed, AccountRefused)):
        await place.backend.prepare(with_home(place, home))


async def test_a_mount_that_cannot_be_had_is_refused(place: LocalPlace) -> None:
    spec = replace(place.spec(new_id()), mounts=(Mount("v", "/data/x", "/x"),))
    with pytest.raises(StartFailed, match="/data/x"):
        await place.backend.prepare(spec)


async def test_settings_go_out_and_come_back(place: LocalPlace) -> None:
    spec, saved = place.spec(new_id()), Saved()
    await place.backend.prepare(spec)
    home = Path(place.account.home)
    settings = home / ".jupyter/lab/user-settings/theme"
    settings.parent.mkdir(parents=True)
    settings.write_text("light")
    (home / ".jupyter/lab/user-settings/secret-link").symlink_to("/etc/hostname")
    for path in (home, *home.rglob("*")):
        os.chown(path, UID, GID, follow_symlinks=False)
    await place.backend.start(spec, saved)
    own = Path(saved.last["dir"]) / "own"
    out = own / "lab/user-settings"
    assert (out / "theme").read_text() == "light"
    assert facts(out / "theme")[0] == UID
    assert not (out / "secret-link").exists()
    (out / "theme").write_text("dark")
    (own / "lab/workspaces/default").write_text("tabs")
    (own / "data/kernels/mine").mkdir(parents=True)
    (own / "data/kernels/mine/kernel.json").write_text("{}")
    (own / "lab/workspaces/trap").symlink_to("/etc/shadow")
    for path in own.rglob("*"):
        os.chown(path, UID, GID, follow_symlinks=False)
    await place.backend.stop(saved.last, within_s=10)
    await place.backend.cleanup(saved.last)
    assert settings.read_text() == "dark"
    assert facts(settings)[:2] == (UID, GID)
    workspaces = home / ".jupyter/lab/workspaces"
    assert [path.name for path in workspaces.iterdir()] == ["default"]
    assert (home / ".local/share/jupyter/kernels/mine/kernel.json").read_text() == "{}"
    assert not Path(saved.last["dir"]).exists()
