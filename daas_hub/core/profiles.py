"""Profiles: what a person may choose from, and what her choice comes to.

``profile_config.py`` reads KubeSpawner's format into these values once; ``spawners/options.py`` reads what users
send. A profile, an option or a choice with ``allowed_groups`` exists only for members of one of those groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .layers import Layer
from .models import LaunchRequest, Resource
from .patterns import Pattern
from .slurm_override import COUNTED

UNLISTED = "unlisted-choice"
"""The choice that stands for a text of the user's own, as in KubeSpawner's form."""
UNLISTED_SUFFIX = f"--{UNLISTED}"
"""``<option>--unlisted-choice`` carries that text."""
PLACEMENT = "placement"
"""The option of every profile under which a user names a place (``core/placement.py``)."""
PROJECT = "project"
"""The option of every profile under which a user names the project that a server is for."""

Groups = frozenset[str]


@dataclass(frozen=True)
class Choice:
    """One of the values of an option."""

    key: str
    display_name: str
    layer: Layer
    default: bool = False
    allowed_groups: Groups | None = None
    """None: open to everybody who sees the option."""


@dataclass(frozen=True)
class Unlisted:
    """A text of the user's own instead of a listed choice."""

    display_name: str
    display_name_in_choices: str
    template: Mapping[str, Any]
    """kubespawner_override in which ``{value}`` stands for the text."""
    pattern: Pattern | None = None
    validation_message: str = ""
    allowed_groups: Groups | None = None
    slurm_template: Mapping[str, Any] = field(default_factory=dict)
    """The same of slurm_override."""

    def templates(self) -> dict[str, Mapping[str, Any]]:
        """Key of a profile → what a text sets of it."""
        return {"kubespawner_override": self.template, "slurm_override": self.slurm_template}


@dataclass(frozen=True)
class Option:
    """Something to choose within a profile. ``choices`` may be empty when a text is asked for."""

    key: str
    display_name: str
    choices: tuple[Choice, ...]
    description: str = ""
    unlisted: Unlisted | None = None
    allowed_groups: Groups | None = None

    def choice(self, key: str) -> Choice | None:
        """The choice of that key, or None."""
        return next((c for c in self.choices if c.key == key), None)

    @property
    def default(self) -> Choice | None:
        """The choice that counts when none is made: the marked one, else the first; None where only text is asked."""
        return next((c for c in self.choices if c.default), self.choices[0] if self.choices else None)


@dataclass(frozen=True)
class Profile:
    """One card of the spawn page."""

    slug: str
    display_name: str
    layer: Layer
    description: str = ""
    default: bool = False
    options: tuple[Option, ...] = ()
    allowed_groups: Groups | None = None
    slurm_choices: tuple[str, ...] = ()
    """What of SLURM people choose themselves (``core/slurm_choices.py``)."""

    def option(self, key: str) -> Option | None:
        """The option of that key, or None."""
        return next((o for o in self.options if o.key == key), None)


Profiles = tuple[Profile, ...]


# ---------------------------------------------------------------- who sees what


def is_open(allowed_groups: Groups | None, groups: Collection[str], admin: bool = False) -> bool:
    """Whether something with these ``allowed_groups`` exists for a member of ``groups``."""
    return admin or allowed_groups is None or not allowed_groups.isdisjoint(groups)


def visible(profiles: Iterable[Profile], groups: Collection[str], admin: bool = False) -> Profiles:
    """The profiles of a person in ``groups``, with the options and choices that are open to her.

    An option that is closed to her, or has no choice left, is taken out and adds nothing to her server.
    ``admin`` (decided by the caller: by default administrators are judged as everybody is) opens everything.
    """
    return tuple(
        replace(profile, options=_visible_options(profile, groups, admin))
        for profile in profiles
        if is_open(profile.allowed_groups, groups, admin)
    )


def _visible_options(profile: Profile, groups: Collection[str], admin: bool) -> tuple[Option, ...]:
    options = []
    for option in profile.options:
        choices = tuple(c for c in option.choices if is_open(c.allowed_groups, groups, admin))
        unlisted = option.unlisted
        if unlisted is not None and not is_open(unlisted.allowed_groups, groups, admin):
            unlisted = None
        if is_open(option.allowed_groups, groups, admin) and (choices or unlisted):
            options.append(replace(option, choices=choices, unlisted=unlisted))
    return tuple(options)


def find(profiles: Iterable[Profile], slug: str) -> Profile | None:
    """The profile of that slug, or None."""
    return next((p for p in profiles if p.slug == slug), None)


def default_profile(profiles: Sequence[Profile]) -> Profile | None:
    """The profile that counts when none is chosen: the marked one, else the first; None where there is none."""
    return next((p for p in profiles if p.default), profiles[0] if profiles else None)


# ---------------------------------------------------------------- what a choice comes to


def combined(
    profile: Profile, layers: Iterable[Layer], choices: Mapping[str, str], placement: str = "", project: str = ""
) -> LaunchRequest:
    """What ``profile`` with the layers of its choices, in the order of its options, gives a server.

    Raises ValueError where choices contradict each other (a guarantee above a limit).
    """
    layer = profile.layer
    for top in layers:
        layer = layer.under(top)
    return LaunchRequest(
        profile=profile.slug,
        profile_display_name=profile.display_name,
        choices=dict(choices),
        resources=layer.as_resources(),
        backends=layer.backends or (),
        environment={k: v for k, v in layer.environment.items() if v is not None},
        volumes=layer.volumes,
        override=layer.override,
        project=project or None,
        placement=placement,
    )


def default_layer(profile: Profile) -> Layer:
    """What ``profile`` sets with the default choice of every option."""
    layer = profile.layer
    for option in profile.options:
        if option.default is not None:
            layer = layer.under(option.default.layer)
    return layer


def missing_limits(profiles: Iterable[Profile], limited: Collection[Resource]) -> list[str]:
    """Sentences about profiles that say no amount of a resource on which the ledger has a limit.

    Such a start could not be counted, so the hub refuses to start. Every combination of choices is covered,
    also those that remain when options or choices are closed to somebody.
    """
    kinds = {
        Resource.CORES: ("cpu_limit", "cpu_guarantee"),
        Resource.MEMORY_BYTES: ("mem_limit_bytes", "mem_guarantee_bytes"),
    }
    shown = {
        Resource.CORES: "resources.cpu_limit (or cpu_guarantee)",
        Resource.MEMORY_BYTES: "resources.mem_limit (or mem_guarantee)",
    }
    return [
        f"Profile {profile.slug!r} can be started without {shown[resource]}, but there is a limit on "
        f"{resource.value}: set it on the profile."
        for profile in profiles
        for resource, keys in kinds.items()
        if resource in limited and _may_lack(profile, keys)
    ]


def unknown_volumes(profiles: Iterable[Profile], known: Collection[str]) -> list[str]:
    """Sentences about profiles and choices that name a volume which no backend has."""
    there = ", ".join(sorted(known)) or "none"
    found = []
    for profile in profiles:
        named = dict.fromkeys(profile.layer.volumes)
        for option in profile.options:
            for choice in option.choices:
                named |= dict.fromkeys(choice.layer.volumes)
        found += [
            f"Profile {profile.slug!r} names the volume {v!r}; there is {there}." for v in named if v not in known
        ]
    return found


def _may_lack(profile: Profile, keys: tuple[str, str]) -> bool:
    """Whether some combination of choices leaves both ``keys`` unset."""
    Has = tuple[bool, bool]

    def over(state: Has, layer: Layer) -> Has:
        a, b = (layer.resources[k] is not None if k in layer.resources else s for k, s in zip(keys, state, strict=True))
        return a, b

    states = {over((False, False), profile.layer)}
    for option in profile.options:
        after = {over(state, choice.layer) for state in states for choice in option.choices}
        if option.unlisted is not None:
            after |= {over(state, Layer(resources=_template_keys(option.unlisted))) for state in states}
        inside = [choice.allowed_groups for choice in option.choices]
        inside += [option.unlisted.allowed_groups] if option.unlisted is not None else []
        closable = option.allowed_groups is not None or None not in inside
        states = after | states if closable else after
    return (False, False) in states


def _template_keys(unlisted: Unlisted) -> dict[str, float | int | None]:
    """Which resources a text sets; the amount does not matter here."""
    sizes = {"mem_limit": "mem_limit_bytes", "mem_guarantee": "mem_guarantee_bytes"}
    counted = {COUNTED[k]: v for k, v in unlisted.slurm_template.items() if k in COUNTED}
    return {sizes.get(k, k): None if v is None else 1 for k, v in {**unlisted.template, **counted}.items()}
