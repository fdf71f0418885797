"""Volumes as the console tells of them, as synchronous functions over the ledger (see queries)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from daas_hub.core.errors import InvalidOptions
from daas_hub.core.models import Json
from daas_hub.core.units import quantity_bytes
from daas_hub.core.volumes import CLAIM_GROWTH, growth_words
from daas_hub.db.accounts import AccountRow
from daas_hub.db.ledger import Ledger
from daas_hub.db.rows import Place
from daas_hub.db.volumes import Volume, VolumeState

from . import models as m
from .access import Person
from .queries import place, place_text


def mine(ledger: Ledger, person: Person) -> m.MyVolumes:
    """The volumes of her account and of her projects; those that are gone for good are left out."""
    account = ledger.accounts.by_user_name(person.name) if person.kind == "user" else None
    if account is None:
        return m.MyVolumes(volumes=[])
    found = ledger.volumes.seen_by(account.id)
    people = {account.id: account}
    return m.MyVolumes(
        volumes=[_model(row, slug, people) for row, slug in found if row.state is not VolumeState.EXPIRED]
    )


def volumes(ledger: Ledger, user: str, state: str, growth: str, before: str, limit: int) -> m.VolumeList:
    """A page of everybody's volumes. An unknown user has none; an unknown state is refused."""
    wanted = VolumeState(_one_of("state", state, VolumeState)) if state else None
    if growth:
        _one_of("growth", growth, CLAIM_GROWTH)
    account_id = None
    if user:
        account = ledger.accounts.by_user_name(user)
        if account is None:
            return m.VolumeList(volumes=[], next=None)
        account_id = account.id
    rows = ledger.volumes.page(
        account_id=account_id, state=wanted, growth=growth, limit=limit + 1, before=place(before)
    )
    owners = (ledger.accounts.by_id(id) for id in {row.account_id for row, _ in rows if row.account_id})
    people = {owner.id: owner for owner in owners if owner is not None}
    last = rows[limit - 1][0] if len(rows) > limit else None
    return m.VolumeList(
        volumes=[_model(row, slug, people) for row, slug in rows[:limit]],
        next=place_text(Place(last.created_at, last.id)) if last is not None else None,
    )


def _one_of(field: str, given: str, allowed: type[StrEnum] | tuple[str, ...]) -> str:
    if given not in tuple(allowed):
        message = f"{field}: {given[:40]!r} is not a {field} of a volume; there are: {', '.join(allowed)}."
        raise InvalidOptions(message, field=field)
    return given


def _model(row: Volume, project: str | None, people: Mapping[str, AccountRow]) -> m.VolumeModel:
    owner = people.get(row.account_id or "")
    server, path = row.place.get("server"), row.place.get("path")
    return m.VolumeModel(
        id=row.id,
        name=row.name,
        # Of a user who is gone the account's name is left.
        user_name=(owner.user_name or owner.name) if owner is not None else None,
        project=project,
        backend=row.backend,
        folder=f"{server}:{path}" if server else path,
        claim=(row.made or {}).get("claim"),
        state=row.state.value,
        created_at=row.created_at,
        retained_at=row.retained_at,
        expires_at=row.expires_at,
        size_bytes=size_bytes(row.made or {}),
        growth=_growth((row.made or {}).get("growth")),
    )


def size_bytes(made: Json) -> int | None:
    """Of a volume's disk: as the last start that looked at its claim saw it, else as it was when it was kept.

    What the cluster says of a folder of the site is not its size, only what was written there.
    """
    if made.get("static"):
        return None
    seen = (made.get("growth") or {}).get("has") or ((made.get("shape") or {}).get("capacity") or {}).get("storage")
    try:
        return quantity_bytes(seen) if seen else None
    except ValueError:
        return None


def _growth(told: Json | None) -> m.GrowthModel | None:
    if told is None:
        return None
    return m.GrowthModel(
        state=told["state"],
        has_bytes=quantity_bytes(told["has"]),
        to_bytes=quantity_bytes(told["to"]),
        why=told.get("why", ""),
        words=growth_words(told),
        at=datetime.fromisoformat(told["at"]) if "at" in told else None,
    )
