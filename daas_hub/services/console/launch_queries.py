"""One launch, for its owner or an administrator, as synchronous functions over the ledger (see queries)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from daas_hub.core.errors import NotFound
from daas_hub.core.models import LaunchState
from daas_hub.core.placement import stored
from daas_hub.core.profiles import PLACEMENT
from daas_hub.db.ledger import LaunchRow, Ledger

from . import models as m
from .access import Person
from .placement_models import PlacementModel
from .queries import launch_model


def of(ledger: Ledger, launch_id: str, person: Person, scope: str) -> LaunchRow:
    """A launch of this person's account, or anybody's for who holds ``scope``. Raises NotFound, alike for a launch
    that is somebody else's and for one that does not exist."""
    row = ledger.get(launch_id)
    if row is not None and not person.may(scope):
        # By the account, not by the name: whoever gets the name of a user who left gets none of her launches.
        account = ledger.accounts.by_user_name(person.name) if person.kind == "user" else None
        row = row if account is not None and account.id == row.account_id else None
    if row is None:
        raise NotFound("There is no such launch of yours.")
    return row


def detail(ledger: Ledger, launch_id: str, person: Person, scope: str) -> m.LaunchDetail:
    """One launch and its steps."""
    row = of(ledger, launch_id, person, scope)
    events = [m.EventModel(at=e.at, message=e.message, detail=e.detail) for _, e in ledger.events(row.id)]
    kept = _log_place(ledger, row)
    has_log = kept.ask_the_hub or kept.kept is not None
    sums = ledger.counted(row.id)
    used = m.UsedModel(
        server_s=sums["server_s"],
        core_s=sums["core_ms"] / 1000,
        memory_byte_s=sums["memory_byte_s"],
        gpu_s=sums["gpu_s"],
    )
    return m.LaunchDetail(
        launch=launch_model(row), events=events, has_log=has_log, placement=_placement(row), used=used
    )


def _placement(row: LaunchRow) -> PlacementModel | None:
    """Why it went there; None where that was not kept, or as another version does."""
    kept = stored(row.request)
    try:
        return PlacementModel.model_validate(kept) if kept is not None else None
    except ValidationError:
        return None


@dataclass(frozen=True)
class LogPlace:
    """Where the log of a launch is."""

    ask_the_hub: bool
    """A server that has not ended has it."""
    kept: str | None


def log_place(ledger: Ledger, launch_id: str, person: Person, scope: str) -> LogPlace:
    """Where to read the log, and what was kept of it."""
    return _log_place(ledger, of(ledger, launch_id, person, scope))


def _log_place(ledger: Ledger, row: LaunchRow) -> LogPlace:
    ask = row.state is not LaunchState.ENDED and row.handle is not None
    return LogPlace(ask, ledger.kept(row.id).log)


def recipe(ledger: Ledger, launch_id: str, person: Person, scope: str) -> m.Recipe:
    """What a launch was started with and made of, as far as it was written down."""
    row = of(ledger, launch_id, person, scope)
    kept = ledger.kept(row.id)
    options = {str(key): str(value) for key, value in _mapping(row.request.get("options")).items()}
    slug = options.pop("profile", row.profile)
    # Where it ran is ``backend``; what she named is in the launch's placement.
    options.pop(PLACEMENT, None)
    software = {**_mapping(kept.software)} | ({"image_digest": kept.image_digest} if kept.image_digest else {})
    return m.Recipe(
        launch=row.id,
        user_name=row.user_name,
        server_name=row.server_name,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        profile=m.RecipeProfile(slug=slug, display_name=str(row.request.get("profile_display_name") or row.profile)),
        choices=options,
        resources=_resources(row),
        backend=row.backend,
        software=_software(software),
        versions={str(key): str(value) for key, value in _mapping(row.request.get("versions")).items()},
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _resources(row: LaunchRow) -> m.RecipeResources:
    stored = _mapping(row.request.get("resources"))
    if not stored:
        # Of an earlier version of the hub: what it counts for is known.
        return m.RecipeResources(
            cpu_limit=row.charge.cores, mem_limit_bytes=row.charge.memory_bytes, gpus=row.charge.gpus
        )
    return m.RecipeResources.model_validate(
        {key: stored[key] for key in m.RecipeResources.model_fields if key in stored}
    )


def _software(stored: Mapping[str, Any]) -> m.RecipeSoftware:
    """What a backend of any version wrote; a field that is not as it is now counts as not reported."""
    made = {}
    for key in m.RecipeSoftware.model_fields.keys() & stored.keys():
        try:
            made[key] = getattr(m.RecipeSoftware(**{key: stored[key]}), key)
        except ValidationError:
            continue
    return m.RecipeSoftware(**made)
