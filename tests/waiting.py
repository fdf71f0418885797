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


LONG = os.environ.get("DAAS_TEST_LONG") == "1"
"""Whether this is a long run (``scripts/test --long``): the same code with larger numbers."""


async def until(
    condition: Callable[[], Any | Awaitable[Any]],
    *,
    within_s: float = 10.0,
    what: str = "",
    every_s: float = 0.02,
) -> Any:
    """Await until ``condition()`` is true and return its value; fail with ``what`` after ``within_s`` seconds.

    Beside other workers only after ``PATIENCE`` times as many.
    """
    within_s *= PATIENCE
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {within_s} s: {what or condition!r}; last value {value!r}")
        await asyncio.sleep(every_s)
