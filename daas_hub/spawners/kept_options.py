"""What may be kept of options at all, before anybody has judged them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from daas_hub.core.patterns import MAX_TEXT

from .options import MAX_FIELDS, VERY_LARGE


def shrunk(user_options: Mapping[Any, Any]) -> dict[str, Any]:
    """Options as they may lie in memory and in the hub's database until somebody judges them: small and flat.

    The hub stores what REST sends before any spawner sees it, and 960 levels of nesting that it can write it cannot
    read again: every page that lists servers fails, and the hub does not start. ``parse`` refuses what this made of
    something with the same words and the same field; what it accepts stays as it is.
    """
    fields = islice(user_options.items(), MAX_FIELDS + 1)
    return {
        # JupyterHub's column reads {"__jupyterhub_bytes__": true, …} back as bytes, which no spawner can be made of.
        str(name)[: MAX_TEXT + 1]: "" if str(name).startswith("__jupyterhub_") else _shrunk(value)
        for name, value in fields
    }


def _shrunk(value: Any) -> Any:
    if isinstance(value, str):
        return value[: MAX_TEXT + 1]
    if isinstance(value, Mapping):
        return {}
    if isinstance(value, int):
        return value if -VERY_LARGE < value < VERY_LARGE else VERY_LARGE
    return value if value is None or isinstance(value, float) else []
