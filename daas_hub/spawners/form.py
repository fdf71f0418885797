"""The spawn page's form: cards of profiles, their options, filled with what was last accepted, posted or linked.

The hub puts the HTML into its own ``spawn.html`` (``Spawner.options_form``). Everything works without JavaScript;
every word of a profile is escaped, also its description.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template

from daas_hub.core.availability import Badge, told
from daas_hub.core.layers import Layer
from daas_hub.core.patterns import MAX_TEXT
from daas_hub.core.places import AUTO, place
from daas_hub.core.profiles import (
    PLACEMENT,
    PROJECT,
    UNLISTED,
    UNLISTED_SUFFIX,
    Option,
    Profile,
    default_layer,
    default_profile,
    visible,
)
from daas_hub.core.slurm_choices import PARTITION
from daas_hub.core.slurm_offers import Offer
from daas_hub.core.units import format_bytes, format_cores

from .options import FORM_PREFIX, lenient

TEMPLATES = Path(__file__).parent.parent / "pages" / "templates"


@dataclass(frozen=True)
class Filled:
    """What this request asked to fill in."""

    options: Mapping[str, Any]
    by_link: bool


@dataclass(frozen=True)
class Live:
    """What is known of just now (``available.py``)."""

    badges: tuple[Badge, ...] = ()
    """What there is room for."""
    url: str = ""
    """Where they are asked for anew."""
    slurm: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """Slug → the fields that the profile leaves to people."""
    projects: tuple[tuple[str, str], ...] = ()
    """Those that she can start for: (slug, words)."""


_filled: ContextVar[Filled | None] = ContextVar("daas_filled", default=None)


def remember(options: Mapping[str, Any], *, by_link: bool) -> None:
    """Keep what was posted or linked for the form that this same request may show.

    The hub renders the form of the *default* server's spawner after a refused post (handlers/pages.py), so the
    spawner is no place for it. Each request is a task of its own, so nobody else sees it. Must be called before
    the first await: ``options_from_form`` and ``options_from_query`` are plain functions for that reason.
    """
    _filled.set(Filled(options, by_link))


def render(
    profiles: Sequence[Profile],
    groups: Collection[str],
    *,
    admin: bool = False,
    last: object = None,
    backends: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    places: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    live: Live | None = None,
) -> str:
    """The form for somebody in ``groups``, as HTML. ``last`` are stored options, which are not trusted.

    ``backends`` are the site's, for profiles that name none; ``notes`` are sentences by slug (limits, queues).
    ``places`` are what can be chosen by slug, as (value, words), where there is a choice; ``live`` what else is known
    of just now.
    """
    asked = _filled.get()
    given = asked.options if asked is not None else last or {}
    filled, problems = lenient(given, profiles, groups, admin)
    if asked is not None and not asked.by_link:
        # A text that was refused comes back to be mended.
        filled |= {k: v for k, v in asked.options.items() if k.endswith(UNLISTED_SUFFIX) and _mendable(v)}
    seen = visible(profiles, groups, admin)
    default = default_profile(seen)
    chosen = filled.get("profile") or (default.slug if default is not None else "")
    live = live or Live()
    shown = [(p, filled if p.slug == chosen else {}) for p in seen]
    return _template().render(
        cards=[
            _card(p, mine, backends, (notes or {}).get(p.slug, ""))
            | {"places": _places(p, mine, (places or {}).get(p.slug, ()))}
            | {"slurm": [_slurm_field(p, offer, mine) for offer in live.slurm.get(p.slug, ())]}
            for p, mine in shown
        ],
        chosen=chosen,
        badges={one.slug: one for one in live.badges},
        told=told(live.badges),
        badges_url=live.url,
        projects=live.projects,
        project=filled.get(PROJECT, ""),
        problems=problems if asked is None or asked.by_link else (),
        by_link=asked is not None and asked.by_link,
        groups=sorted(groups),
        UNLISTED=UNLISTED,
    )


def _mendable(text: object) -> bool:
    return isinstance(text, str) and len(text) <= MAX_TEXT and text.isprintable()


@cache
def environment() -> Environment:
    """Where our parts of the hub's pages are made; every value is escaped."""
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _template() -> Template:
    return environment().get_template("daas/spawn_form.html")


def _card(profile: Profile, filled: Mapping[str, str], backends: Sequence[str], note: str) -> dict[str, Any]:
    layer = default_layer(profile)
    where = " or ".join(place(name).words for name in layer.backends or backends)
    return {
        "slug": profile.slug,
        "id": f"daas-profile-{profile.slug}",
        "display_name": profile.display_name,
        "description": profile.description,
        "facts": [*_size(layer), *([f"on {where}"] if where else [])],
        "varies": any(c.layer.resources for option in profile.options for c in option.choices),
        "note": note,
        "options": [_field(profile, option, filled) for option in profile.options],
    }


def _places(profile: Profile, filled: Mapping[str, str], places: Sequence[tuple[str, str]]) -> dict[str, Any] | None:
    """The field in which a place is chosen; None where there is no choice."""
    if PARTITION in profile.slurm_choices:
        # A partition has a field of its own, with those alone that she may use.
        places = [(value, words) for value, words in places if not place(value).partition]
        if len(places) <= 2:
            return None
    if not places:
        return None
    return {
        "name": f"{FORM_PREFIX}{profile.slug}--{PLACEMENT}",
        "choices": places,
        "selected": filled.get(PLACEMENT, AUTO),
    }


def _slurm_field(profile: Profile, offer: Offer, filled: Mapping[str, str]) -> dict[str, Any]:
    """A field of what SLURM lets her choose; what was chosen once and is not offered now is left out."""
    return {
        "name": f"{FORM_PREFIX}{profile.slug}--{offer.field}",
        "label": offer.label,
        "choices": offer.choices,
        "value": filled.get(offer.field, ""),
        "help": offer.help,
    }


def _size(layer: Layer) -> list[str]:
    """What a server gets, for people: the limit, or what is kept for it where no limit is set."""
    try:
        resources = layer.as_resources()
    except ValueError:
        # Only with choices closed to this person can the defaults contradict each other; the start will say so.
        return []
    facts = []
    if resources.cpu_limit is not None:
        facts.append(format_cores(resources.cpu_limit))
    elif resources.cpu_guarantee is not None:
        facts.append(f"at least {format_cores(resources.cpu_guarantee)}")
    if resources.mem_limit_bytes is not None:
        facts.append(f"{format_bytes(resources.mem_limit_bytes)} memory")
    elif resources.mem_guarantee_bytes is not None:
        facts.append(f"at least {format_bytes(resources.mem_guarantee_bytes)} memory")
    if resources.gpus:
        facts.append(f"{resources.gpus} GPU" + ("s" if resources.gpus > 1 else ""))
    return facts


def _field(profile: Profile, option: Option, filled: Mapping[str, str]) -> dict[str, Any]:
    name = f"{FORM_PREFIX}{profile.slug}--{option.key}"
    text = filled.get(option.key + UNLISTED_SUFFIX, "")
    default = option.default.key if option.default is not None else UNLISTED
    return {
        "name": name,
        "display_name": option.display_name,
        "description": option.description,
        "choices": [(c.key, c.display_name) for c in option.choices],
        "selected": UNLISTED if text else filled.get(option.key, default),
        "unlisted": option.unlisted,
        "text_name": name + UNLISTED_SUFFIX,
        "text": text,
    }
