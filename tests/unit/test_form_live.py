"""spawners/form.py with what is known of just now: escaped, named as options, and asked for anew."""

from __future__ import annotations

from daas_hub.core.availability import Badge, State, told
from daas_hub.core.profile_config import read_profiles
from daas_hub.core.slurm_offers import Offer
from daas_hub.spawners import available, form

BADGES = (Badge("gpu", "GPU", State.SOON, "Busy, free in about 12 minutes"),)
HOSTILE = '"><script>x</script>'
PROFILES = read_profiles(
    [{"display_name": "GPU", "slug": "gpu", "slurm_choices": ["partition", "runtime"]}], setting="profiles"
)


def page(**asked: str) -> str:
    offers = (
        Offer("partition", "Partition", (("", "Any"), ("gpu", f"gpu {HOSTILE}")), "Partitions: as of 3 min ago"),
        Offer("runtime", "Walltime", help="At most 1-00:00:00."),
    )
    live = form.Live(BADGES, "/hub/daas/availability/ada", {"gpu": offers}, (("p-1", HOSTILE),))
    places = {"gpu": [("auto", "Automatic"), ("slurm:gpu", "gpu"), ("slurm:cpu", "cpu")]}
    return form.render(PROFILES, (), last={"profile": "gpu", **asked}, live=live, places=places)


def test_a_card_has_its_badge_its_fields_and_the_next_question() -> None:
    shown = page(partition="gpu", runtime="2:00:00", project="p-1")
    assert 'id="daas-availability-gpu">Busy, free in about 12 minutes</span>' in shown
    assert 'hx-get="/hub/daas/availability/ada?seen=' in shown
    assert '<option value="gpu" selected>' in shown
    assert '<option value="p-1" selected>' in shown
    assert 'name="profile-option-gpu--runtime" id="profile-option-gpu--runtime" value="2:00:00"' in shown
    # A partition has a field of its own: none is offered twice.
    assert "slurm:cpu" not in shown
    assert HOSTILE not in shown


def test_what_replaces_it_has_the_same_parts_by_their_ids() -> None:
    parts = available.fragment(list(BADGES), "/hub/daas/availability/ada", HOSTILE)
    assert parts.count('hx-swap-oob="true"') == 2
    assert '<div id="daas-availability-said" hx-swap-oob="innerHTML">' in parts
    assert HOSTILE not in parts
    assert told(list(BADGES)).split(",")[0] in parts
    assert "daas-availability-said" not in available.fragment(list(BADGES), "/x", "")


def test_without_anything_of_it_the_form_is_as_it_was() -> None:
    assert "daas-availability" not in form.render(PROFILES, ())
