"""spawners/placement_settings.py: settings about places that cannot work are named."""

from __future__ import annotations

from typing import Any

import pytest

from daas_hub.core.errors import ConfigError
from daas_hub.core.places import Wish
from daas_hub.spawners.placement_settings import PlacementSettings, unknown_places


@pytest.mark.parametrize("trait", ["placement_preferred", "placement_costs"])
@pytest.mark.parametrize("wrong", ["slurm gpu", "slurm:gpu:x", "", ":gpu", "-x"])
def test_what_is_no_place_is_refused(trait: str, wrong: str) -> None:
    value: Any = [wrong] if trait == "placement_preferred" else {wrong: 1.0}
    with pytest.raises(ConfigError, match=f"DaasSpawner.{trait} has '{wrong}', which is not a place"):
        PlacementSettings(**{trait: value})


def test_a_backend_that_the_hub_has_not_is_named() -> None:
    settings = PlacementSettings(
        placement_preferred=["slurm:gpu", "cloud"], placement_costs={"local": 1.0, "moon": 2.0}
    )
    assert unknown_places(settings, ("local", "slurm")) == [
        "DaasSpawner.placement_preferred names 'cloud', but DaasHub.backends has local, slurm.",
        "DaasSpawner.placement_costs names 'moon', but DaasHub.backends has local, slurm.",
    ]


def test_settings_are_the_rules() -> None:
    rules = PlacementSettings(placement_policy="cheap", placement_costs={"slurm": 2.0}, placement_stale_s=5.0)
    assert rules.placement_rules().wish is Wish.CHEAP
    assert rules.placement_rules().costs == {"slurm": 2.0}
    assert rules.placement_rules().stale_s == 5.0
