"""Where a launch may run: candidates in order, with reasons. Pure; the widening by live capacity is part D's."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import NotAllowed


def candidates(wanted: Sequence[str], configured: Sequence[str]) -> tuple[str, ...]:
    """The backends to try, in the profile's order; ``auto`` and nothing mean every configured one.

    Raises NotAllowed where the profile's backends are all unknown here.
    """
    if not wanted or "auto" in wanted:
        return tuple(configured)
    usable = tuple(name for name in wanted if name in configured)
    if not usable:
        raise NotAllowed(
            f"This profile runs on {', '.join(wanted)}, but this hub has only {', '.join(configured)}. "
            "Ask the administrator.",
            reason="placement",
        )
    return usable
