"""Waiting for something to become true, with a deadline instead of a sleep."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE = 3.0 if os.environ.get("PYTEST_XDIST_WORKER") else 1.0
"""How much longer waiting may take where other tests run on the same cores: deadlines are for what never comes."""


OFTEN_S, SELDOM_S = 0.02, 0.1
"""How often what waits looks at first and after a while: looking takes the processor from what is waited for."""


LONG = os.environ.get("DAAS_TEST_LONG") == "1"
"""Whether this is a long run (``scripts/test --long``): the same code with larger numbers."""


async def until(
    condition: Callable[[], Any | Awaitable[Any]],
    *,
    within_s: float = 10.0,
    what: str = "",
    every_s: float | None = None,
) -> Any:
    """Await until ``condition()`` is true and return its value; fail with ``what`` after ``within_s`` seconds.

    Beside other workers only after ``PATIENCE`` times as many. It looks every ``every_s`` seconds: say how often for
    what does not last. Otherwise it looks more and more seldom: what has come is known a fortieth later than it came.
    """
    within_s *= PATIENCE
    began = time.monotonic()
    deadline = began + within_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"Not within {within_s} s: {what or condition!r}; last value {value!r}")
        await asyncio.sleep(every_s or _pause_s(now - began))


def until_blocking(
    condition: Callable[[], Any], *, refused: type[Exception], within_s: float = 60.0, what: str = ""
) -> Any:
    """The same for who may block; what raises ``refused`` counts as not yet."""
    within_s *= PATIENCE
    began = time.monotonic()
    while True:
        try:
            if value := condition():
                return value
            why = f"last value {value!r}"
        except refused as error:
            why = str(error)
        waited_s = time.monotonic() - began
        if waited_s > within_s:
            raise AssertionError(f"Not within {within_s:g} s: {what or condition!r}; {why}")
        time.sleep(_pause_s(waited_s))


def _pause_s(waited_s: float) -> float:
    return min(max(OFTEN_S, waited_s / 40), SELDOM_S)
