"""Whose groups count: the directory's, those of this hub (local) and those of projects, each with its source. Pure.

A name means one thing: a local group cannot be made under the name of a group of the directory or of a project. Where
the directory brings a group of that name later, the local one keeps the name and the directory's is left out: else
whoever may name groups there would give its members what an administrator gave to the local group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .errors import InvalidOptions

_LOCAL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
LOCAL_ALLOWED = "lower-case letters, digits and . _ -, a letter or digit first, at most 63"


class GroupSource(StrEnum):
    """Who says that somebody is in a group."""

    DIRECTORY = "directory"
    """The directory or the identity provider of her sign-in."""
    LOCAL = "local"
    """An administrator of this hub, in the console."""
    PROJECT = "project"
    """The membership in a project that runs now."""


@dataclass(frozen=True)
class SiteGroups:
    """What the ledger says about one account."""

    local: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    """Slugs of her projects that run now."""
    taken: frozenset[str] = frozenset()
    """Of the directory's names that were asked about, those that local groups have."""


@dataclass(frozen=True)
class Union:
    """The groups of a person in this hub."""

    sources: Mapping[str, tuple[GroupSource, ...]] = field(default_factory=dict)
    """Name → who says so; a project and a group of the directory may have one name."""
    left_out: tuple[str, ...] = ()
    """Groups of the directory that do not count, because a local group has the name."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted(self.sources))


def union(directory: Iterable[str], site: SiteGroups) -> Union:
    """The groups of somebody whom the directory puts into ``directory`` and the ledger into those of ``site``."""
    told = set(directory)
    by_source = {
        GroupSource.DIRECTORY: told - site.taken,
        GroupSource.LOCAL: set(site.local),
        GroupSource.PROJECT: set(site.projects),
    }
    names = set().union(*by_source.values())
    sources = {name: tuple(s for s, members in by_source.items() if name in members) for name in sorted(names)}
    return Union(sources, tuple(sorted(told & site.taken)))


def may_be_local(name: str) -> bool:
    """Whether a local group can be called so at all."""
    return _LOCAL.fullmatch(name) is not None


def runs(starts_at: datetime | None, ends_at: datetime | None, now: datetime) -> bool:
    """Whether something with half-open dates is on; None is unbounded."""
    return (starts_at is None or starts_at <= now) and (ends_at is None or now < ends_at)


def require_free(name: str, *, local: Iterable[str], projects: Iterable[str], directory: Iterable[str]) -> None:
    """Raise InvalidOptions where no local group can have this name: not a name, or somebody's already.

    Letters count as equal in either case, as directories take them.
    """
    if not may_be_local(name):
        raise InvalidOptions(f"name: {name[:80]!r} is not allowed; give {LOCAL_ALLOWED}.", field="name")
    for others, what in (
        (local, "is a local group already"),
        (projects, "is a project; its members are its group"),
        (directory, "is a group of the directory; who belongs to it is changed there"),
    ):
        same = [other for other in others if other.casefold() == name]
        if same:
            raise InvalidOptions(f"name: {same[0]!r} {what}. Give another name.", field="name")
