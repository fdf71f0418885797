"""How long to wait before trying again: the one helper for it (design.md, rule 8.1)."""

from __future__ import annotations

from collections.abc import Iterator


def delays(first_s: float, longest_s: float, *, factor: float = 2.0) -> Iterator[float]:
    """Waiting times in seconds, growing by ``factor`` from ``first_s`` to ``longest_s`` and then staying there.

    Endless: the caller bounds the whole by time. Where many wait for one thing, the caller adds jitter.
    """
    delay_s = first_s
    while True:
        yield delay_s
        delay_s = min(longest_s, delay_s * factor)
