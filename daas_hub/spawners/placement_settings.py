"""DaasSpawner's settings about where servers go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from traitlets import Dict, Enum, Float, HasTraits, List, Unicode, validate

from daas_hub.core.errors import ConfigError
from daas_hub.core.layers import PLACE
from daas_hub.core.places import Policy, Wish, place
from daas_hub.core.slurm_choices import ACCOUNT, read


class PlacementSettings(HasTraits):
    """Traits of ``c.DaasSpawner`` about where servers go."""

    placement_policy = Enum(
        [wish.value for wish in Wish],
        Wish.NOW.value,
        help="Where a server goes whose profile leaves it open: `now`, where it starts first; `cheap`, where "
        "`placement_costs` is least; `preferred`, in the order of `placement_preferred`. `now`, because people wait.",
    ).tag(config=True)

    placement_preferred = List(
        Unicode(),
        help="Places (`kubernetes`, `slurm`, `slurm:gpu`), the best first; among equals it counts under the other "
        "policies, too. Those left out follow in the profile's order and then in that of `DaasHub.backends`. Empty, "
        "the default: that order alone.",
    ).tag(config=True)

    placement_costs = Dict(
        key_trait=Unicode(),
        value_trait=Float(min=0.0),
        help="Place → what a server there weighs, for `placement_policy` `cheap`; only their order matters. A "
        "partition that is not named weighs what its backend does, and that 1. 0 is the cheapest.",
    ).tag(config=True)

    placement_patience_s = Float(
        3600.0,
        min=0.0,
        help="Under `cheap` and `preferred`: for how long, in seconds, a better place that is full is waited for "
        "while another has room; its own estimate counts. 0: never. An hour, which many would spend on another task.",
    ).tag(config=True)

    placement_stale_s = Float(
        60.0,
        min=1.0,
        help="What a place said of its free room longer ago than this, in seconds, is not known any more, and is "
        "shown with its age. At least 1. 60: a look is some seconds old where all is well.",
    ).tag(config=True)

    project_slurm_accounts = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Slug of a project → the SLURM account to which its servers are charged. A server of a project that is "
        "not named here, and of none, is charged to the person's default, or to what its profile says. Who may not "
        "use that account is refused, and told both names. Empty, the default: no project has one.",
    ).tag(config=True)

    @validate("project_slurm_accounts")
    def _slurm_accounts(self, proposal: Any) -> Any:
        for project, account in proposal["value"].items():
            try:
                read(ACCOUNT, account)
            except ValueError as error:
                raise ConfigError(f"DaasSpawner.project_slurm_accounts[{project!r}] is {account!r}: {error}") from error
        return proposal["value"]

    @validate("placement_preferred", "placement_costs")
    def _places(self, proposal: Any) -> Any:
        for name in proposal["value"]:
            if not PLACE.fullmatch(name):
                raise ConfigError(
                    f"DaasSpawner.{proposal['trait'].name} has {name!r}, which is not a place: the name of a backend, "
                    "or of a partition as slurm:gpu."
                )
        return proposal["value"]

    def placement_rules(self) -> Policy:
        """How candidates are ranked."""
        return Policy(
            wish=Wish(self.placement_policy),
            preferred=tuple(self.placement_preferred),
            costs=dict(self.placement_costs),
            patience_s=self.placement_patience_s,
            stale_s=self.placement_stale_s,
        )


def unknown_places(settings: PlacementSettings, backends: Iterable[str]) -> list[str]:
    """Sentences about settings that name a backend which the hub does not have."""
    there = list(backends)
    return [
        f"DaasSpawner.{trait} names {name!r}, but DaasHub.backends has {', '.join(there)}."
        for trait in ("placement_preferred", "placement_costs")
        for name in getattr(settings, trait)
        if place(name).backend not in there
    ]
