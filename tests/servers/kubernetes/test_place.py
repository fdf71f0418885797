"""Two runs never take the same addresses, and none takes addresses that this machine uses."""

from __future__ import annotations

import ipaddress
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from . import place
from .place import MOST, Place

pytestmark = pytest.mark.needs("kube_rig")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Places that are nobody else's: their interfaces and cgroups have names of this test."""
    monkeypatch.setenv("DAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(place, "LOCKS", tmp_path)
    monkeypatch.setattr(place, "_routes", list)
    monkeypatch.setattr(Place, "interface", property(lambda self: f"test{self.number}"))
    monkeypatch.setattr(Place, "cgroup", property(lambda self: f"daas-test-{self.number}"))
    return tmp_path


@pytest.mark.usefixtures("elsewhere")
def test_every_place_is_held_by_one() -> None:
    with ExitStack() as held:
        places = [held.enter_context(closing(Place())) for _ in range(MOST)]
        assert len({p.node for p in places}) == len({p.root for p in places}) == MOST
        with pytest.raises(RuntimeError, match=f"No place for a cluster of {MOST}"):
            Place()
        places[3].close()
        with closing(Place()) as again:
            assert again.number == 3


def test_one_machine_with_two_cache_folders_has_one_set_of_places(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Place()) as first:
        monkeypatch.setenv("DAAS_CACHE", str(elsewhere / "other"))
        with closing(Place()) as second:
            assert (first.number, second.number) == (0, 1)


@pytest.mark.usefixtures("elsewhere")
def test_addresses_that_the_machine_uses_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    used = [ipaddress.IPv4Network("10.200.7.0/24"), ipaddress.IPv4Network("10.201.0.0/16")]
    monkeypatch.setattr(place, "_routes", lambda: used)
    with closing(Place()) as taken:
        assert taken.node.startswith("10.202.")


@pytest.mark.usefixtures("elsewhere")
def test_what_a_killed_run_left_is_removed() -> None:
    with closing(Place()) as first:
        first.make_cgroups()
        inner = [cgroup / "pods" / "one" for cgroup in first.cgroups()]
        for folder in inner:
            folder.mkdir(parents=True)
        (first.data / "file").write_text("left")
        # As the kernel does it for a process that was killed.
        first._let_go()
        with closing(Place(first.number)) as again:
            assert list(again.data.iterdir()) == []
            assert [cgroup for cgroup in again.cgroups() if cgroup.exists()] == []


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("size", "kept"), [(4096, True), (3 * 4096, False)])
def test_images_are_kept_while_they_are_small(monkeypatch: pytest.MonkeyPatch, size: int, kept: bool) -> None:
    monkeypatch.setattr(place, "KEEP_IMAGES_BYTES", 2 * 4096)
    with closing(Place()) as taken:
        taken.images.mkdir()
        (taken.images / "layer").write_bytes(b"x" * size)
        (taken.images / "link").symlink_to("/nowhere")
    assert (taken.images / "layer").exists() is kept


@pytest.mark.usefixtures("elsewhere")
def test_large_images_of_a_killed_run_go_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "KEEP_IMAGES_BYTES", 2 * 4096)
    with closing(Place()) as first:
        first.images.mkdir()
        (first.images / "layer").write_bytes(b"x" * 3 * 4096)
        first._let_go()
        with closing(Place(first.number)) as again:
            assert not again.images.exists()
