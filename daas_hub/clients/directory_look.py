"""One look at one server of the directory, for whoever administers the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from daas_hub.core.directory import first

from .directory_session import Session


@dataclass(frozen=True)
class Seen:
    """What one server shows the service account."""

    bases: tuple[tuple[str, str, bool], ...]
    """Setting, DN, and whether it can be read."""
    certificate_until: datetime | None = None
    ahead_s: float | None = None
    """Seconds by which this machine's clock is ahead of the server's; None where it does not say its time."""


def see(service: Session, bases: Sequence[tuple[str, str]]) -> Seen:
    """Look, in a conversation that is bound. Raises DirectoryUnavailable."""
    there = tuple((name, dn, bool(service.search(dn, "(objectClass=*)", ["1.1"], subtree=False))) for name, dn in bases)
    root = service.search("", "(objectClass=*)", ["currentTime"], subtree=False)
    told = first(root[0], "currentTime") if root else None
    return Seen(there, service.certificate_until, ahead(told, datetime.now(UTC)))


def ahead(told: str | None, now: datetime) -> float | None:
    """Seconds by which ``now`` is after what a server says (GeneralizedTime, as Active Directory writes it)."""
    try:
        theirs = datetime.strptime(told or "", "%Y%m%d%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (now - theirs).total_seconds()
