"""A loop that nothing may block: file, socket and process calls of daas_hub raise there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

try:
    from blockbuster import blockbuster_ctx
except ModuleNotFoundError:  # in the small environment of other accounts
    blockbuster_ctx = None


@contextmanager
def no_blocking() -> Iterator[None]:
    """For the length of a block."""
    with blockbuster_ctx("daas_hub") if blockbuster_ctx else nullcontext():
        yield
