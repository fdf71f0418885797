"""What a process of a launch fetches itself when it runs, where nothing could be put there before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Handout:
    """What a launch's own process is given for its claim code."""

    files: Mapping[str, str]
    """By name; secrets are among them."""
    names: tuple[str, ...] = ()
    """The names for which its certificate is to be made, now that it is known where it runs; none: it has none."""
