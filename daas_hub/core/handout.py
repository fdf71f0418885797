"""What a process of a launch fetches itself when it runs, where nothing could be put there before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .models import Json
from .site_tokens import first_end

FIRST_S = 2.0
"""When it asks again while nothing was ever handed over: the server has just begun."""
SHORTEST_S, LONGEST_S = 1.0, 60.0


@dataclass(frozen=True)
class Handout:
    """What a launch's own process is given for its claim code."""

    files: Mapping[str, str]
    """By name; secrets are among them."""
    names: tuple[str, ...] = ()
    """The names for which its certificate is to be made, now that it is known where it runs; none: it has none."""


@dataclass(frozen=True)
class TokenSet:
    """The site tokens that a server is to have from now on; what it has besides is to be gone."""

    files: Mapping[str, str]
    again_s: float
    """After so many seconds it asks again."""
    over_in_s: float | None = None
    """After so many seconds the first of them is over, and the whole set goes unless there is another; None: never."""

    def told(self) -> Json:
        """As the process is told."""
        return {"files": dict(self.files), "again_s": self.again_s, "over_in_s": self.over_in_s}


def token_set(files: Mapping[str, str] | None, *, now: float, margin_s: float) -> TokenSet:
    """What is told of a set. ``files``: None where nothing was ever handed over. ``now``: seconds since 1970.

    ``margin_s``: so long before a token's end the hub takes it out of the set. Who asks twice within that time has none
    that is over, though one question be lost.
    """
    if files is None:
        return TokenSet({}, FIRST_S)
    end = first_end(files)
    again_s = min(max(margin_s / 3, SHORTEST_S), LONGEST_S)
    return TokenSet(dict(files), again_s, None if end is None else max(0.0, end - now))
