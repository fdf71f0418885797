"""How the console's pages are rendered: an environment that escapes everything, and filters for values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from daas_hub import pages
from daas_hub.core.launch import state_words
from daas_hub.core.models import Resource, Who
from daas_hub.core.units import format_amount, format_bytes, format_cores

RESOURCES: Mapping[str, str] = {
    Resource.SERVERS: "Servers",
    Resource.CORES: "CPU",
    Resource.MEMORY_BYTES: "Memory",
    Resource.GPUS: "GPUs",
}
KINDS: Mapping[str, str] = {
    Who.DEFAULT_EACH: "everybody, each person",
    Who.GROUP_EACH: "a group, each member",
    Who.USER: "one user",
    Who.GROUP_TOTAL: "a group, all members together",
    Who.PROJECT_TOTAL: "a project, all members together",
}


def resource(name: str) -> str:
    """The resource in a heading."""
    return RESOURCES.get(name, name)


def whose(who: str, name: str) -> str:
    """Whose rule a limit is, with its name."""
    match who:
        case Who.DEFAULT_EACH:
            return "everybody, each person"
        case Who.GROUP_EACH:
            return f"group {name}, each member"
        case Who.USER:
            return f"user {name}"
        case Who.GROUP_TOTAL:
            return f"group {name}, all members together"
        case Who.PROJECT_TOTAL:
            return f"project {name}, all members together"
    return f"{who} {name}"


def amount(value: float, of: str) -> str:
    """An amount with its unit, as refusals print it too."""
    return format_amount(of, value)


def share(line: Any) -> str:
    """The used part of a limit as a number from 0 to 100."""
    if line.amount <= 0:
        return "100"
    return f"{max(0.0, min(100.0, 100 * line.used / line.amount)):.1f}"


def value(of: Any) -> str:
    """An old or new value of the audit: an amount with its unit, else ``key: value`` for each fact."""
    if of is None or of == "":
        return "–"
    if not isinstance(of, Mapping):
        return str(of)
    if {"amount", "resource"} <= of.keys():
        return amount(of["amount"], of["resource"])
    return ", ".join(f"{key}: {_fact(of[key])}" for key in sorted(of))


def _fact(of: Any) -> str:
    return of if isinstance(of, str) else json.dumps(of, ensure_ascii=False, sort_keys=True)


def environment() -> Environment:
    """The templates' environment. Autoescape is on for every file name; an unknown variable is an error.

    Texts pass through ``_()``; until a catalogue is installed they stay as they are.
    """
    env = Environment(
        loader=FileSystemLoader(pages.TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
    )
    env.install_null_translations(newstyle=True)  # type: ignore[attr-defined]
    env.filters.update(
        resource=resource,
        whose=whose,
        amount=amount,
        share=share,
        value=value,
        state_words=state_words,
        bytes=format_bytes,
        cores=format_cores,
    )
    return env
