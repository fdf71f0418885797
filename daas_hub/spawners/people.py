"""Whose account is whose: from the identity of a sign-in, or from a name that an administrator gives.

Both ways end in the same record under a lasting id; nothing is ever joined by an equal name alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daas_hub.accounts.allocator import Allocator, Known
from daas_hub.accounts.resolve import resolve
from daas_hub.clients import nss
from daas_hub.core.access import too_old
from daas_hub.core.errors import AccountRefused, DirectoryBusy, DirectoryUnavailable, InvalidOptions, NotFound
from daas_hub.core.models import Account, Identity
from daas_hub.db.accounts import AccountRow

from .runtime import DaasHub, utcnow
from .settings import SpawnerSettings

UNCLEAR = frozenset({"directory_ambiguous", "directory_incomplete", "other_directory", "other_provider"})
"""Reasons for which a source is there and what it says cannot be right: nothing starts by what was known."""


def identity_in(auth_state: Mapping[str, Any] | None) -> Identity | None:
    """What a sign-in asserted; None where this person never signed in here through one of our ways."""
    stored = (auth_state or {}).get("daas", {}).get("identity")
    if not stored:
        return None
    known = {name: stored[name] for name in Identity.__dataclass_fields__ if name in stored}
    return Identity(**{**known, "groups": tuple(known.get("groups", ()))})


@dataclass(frozen=True)
class Last:
    """How old the last good answer about somebody is, and for how long it counts, in seconds."""

    age_s: float
    good_for_s: float


def last_answer(site: DaasHub, auth_state: Mapping[str, Any] | None, *, admin: bool) -> Last | None:
    """What auth_state says of it; None where nothing was ever confirmed."""
    at = ((auth_state or {}).get("daas") or {}).get("confirmed_at")
    if not isinstance(at, int | float):
        return None
    return Last(max(0.0, site.now() - at), site.identity_limits().of(admin=admin))


async def renewed(
    authenticator: Any, identity: Identity, user_name: str, *, alone: bool = False, last: Last | None = None
) -> Identity:
    """The identity as its source has it now. Raises AccountRefused where it is gone, DirectoryUnavailable.

    ``alone``, for a start: AccountRefused as well where the source gives her uid to somebody else too. ``last``, too:
    while a source cannot be asked at all, what it said then is good for a time; an answer that is no clear one is not.
    """
    fresh = getattr(authenticator, "fresh_identity", None)
    try:
        now_known: Identity | None = await fresh(identity, alone=alone) if fresh is not None else identity
    except DirectoryUnavailable as error:
        if last is None or isinstance(error, DirectoryBusy) or error.reason in UNCLEAR:
            raise
        if last.age_s > last.good_for_s:
            text = too_old(last.age_s, last.good_for_s)
            raise DirectoryUnavailable(text, reason=error.reason, log_message=error.log_message) from error
        authenticator.log.warning("%s is started by what was known %d s ago: %s", user_name, last.age_s, error)
        return identity
    if now_known is None:
        raise AccountRefused(
            f"The site's directory no longer has an active account for {user_name}. Ask its administrator.",
            reason="account_gone",
        )
    return now_known


async def record(
    site: DaasHub,
    settings: SpawnerSettings,
    authenticator: Any,
    identity: Identity,
    user_name: str,
    *,
    proof: str = "sign-in",
) -> AccountRow:
    """The account of an identity from all sources, now, stored under its lasting id.

    Raises AccountRefused, AccountUnresolved, DirectoryUnavailable (before a number is given away), LedgerBusy.
    """
    rows = site.ledger.accounts
    key = (identity.issuer, identity.subject)
    account = await _resolved(site, settings, identity, _allocator(site, settings, authenticator))
    return await site.run(rows.upsert, account, key, user_name, now=utcnow(), proof=proof, share_uid=site.shares_uid())


async def looked_up(site: DaasHub, settings: SpawnerSettings, identity: Identity) -> Account:
    """The same for a page: nothing is stored, nobody is given a number. Raises AccountRefused, AccountUnresolved."""
    return await _resolved(site, settings, identity, None)


async def _resolved(
    site: DaasHub, settings: SpawnerSettings, identity: Identity, allocator: Allocator | None
) -> Account:
    return await resolve(
        identity,
        sources=settings.sources(),
        admin_row=lambda name: site.run(site.ledger.accounts.get_row, name),
        policy=settings.account_policy(),
        now=utcnow(),
        allocator=allocator,
        home=await _home(site, settings, (identity.issuer, identity.subject), identity.name),
    )


def _allocator(site: DaasHub, settings: SpawnerSettings, authenticator: Any) -> Allocator | None:
    ranges = settings.allocator_ranges()
    if not ranges:
        return None
    known: dict[str, Known] = {"NSS": nss.has_number} if settings.use_nss else {}
    directory = getattr(authenticator, "has_number", None)
    if directory is not None:
        known["the directory"] = directory
    return Allocator(site.ledger.allocations, site.run, ranges, known, site.turn)


async def _home(site: DaasHub, settings: SpawnerSettings, key: tuple[str, str], name: str) -> str | None:
    """Where she is at home if nobody says so: where she was before, else by the site's rule."""
    if not settings.fallback_home:
        return None
    stored = await site.run(site.ledger.accounts.by_identity, *key)
    return stored.home if stored is not None else settings.fallback_home.replace("{name}", name)


async def find(site: DaasHub, settings: SpawnerSettings, authenticator: Any, name: str, user: Any) -> AccountRow:
    """The account of the user ``name`` before her first start, recorded now; ``user`` is the hub's, if it has her.

    Who has signed in is who she was then. Anybody else is looked up in the directory by her login name: at her first
    sign-in she gets exactly this user name. Raises NotFound, InvalidOptions, AccountRefused, AccountUnresolved,
    DirectoryUnavailable, LedgerBusy.
    """
    identity = identity_in(await user.get_auth_state()) if user is not None else None
    if identity is not None:
        fresh = await renewed(authenticator, identity, user.name)
        return await record(site, settings, authenticator, fresh, user.name)
    identity = await _named(authenticator, name)
    user_name: str = authenticator.normalize_username(identity.name)
    stored = await site.run(site.ledger.accounts.by_identity, identity.issuer, identity.subject)
    called = (stored.user_name if stored is not None else "") or user_name
    if called != authenticator.normalize_username(name):
        # Renamed in the hub, or mapped: the name that was given may be somebody else's here.
        raise InvalidOptions(f"name: {name!r} of the directory is the user {called!r} here; give that.", field="name")
    return await record(site, settings, authenticator, identity, user_name, proof="directory entry")


async def _named(authenticator: Any, name: str) -> Identity:
    look_up = getattr(authenticator, "identity_named", None)
    if look_up is None:
        raise NotFound(
            f"name: no account of a user {name!r} is known, and nobody can be looked up by the way people sign in "
            "here; allowed are users who have started a server."
        )
    found: Identity | None = await look_up(name)
    if found is None:
        raise NotFound(
            f"name: no account of a user {name!r} is known here, and the site's directory has no active one of this "
            "name; allowed are users of this hub and login names of the directory."
        )
    return found
