"""How often a server that is to listen soon is looked at. Pure."""

from __future__ import annotations

LOOK_EVERY_S, SELDOM_LOOK_S = 0.03, 0.1
"""Between two looks at a server that does not listen yet, at first and later. A look is one connection."""
SHARE = 0.05
"""Of the time that it was waited for already: who loads for long can be found a little later."""
LOOKS_PER_S = 400
"""Of all starts together: with more of them each one's server is looked at less often, not the hub's core used up."""


def look_every_s(starts: int, waited_s: float) -> float:
    """Seconds between two looks at one server that was looked at for ``waited_s``, while so many starts wait."""
    return max(LOOK_EVERY_S, min(SELDOM_LOOK_S, waited_s * SHARE), starts / LOOKS_PER_S)
