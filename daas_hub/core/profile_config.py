"""From ``c.DaasSpawner.profile_list`` to profiles: read once, every mistake a ConfigError that names its place.

The format is KubeSpawner's, plus ``allowed_groups`` on a profile, an option, a choice or an unlisted_choice, and
``backend``, ``resources``, ``environment``, ``volumes``, ``slurm_override`` and ``software`` on a profile or a choice.
"""

from __future__ import annotations

import difflib
import html
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .errors import ConfigError
from .layers import Layer, check_override, check_placeholders, read_layer, substituted
from .patterns import Pattern
from .profiles import PLACEMENT, PROJECT, UNLISTED, Choice, Groups, Option, Profile, Profiles, Unlisted, default_layer
from .slurm_choices import FIELDS
from .slurm_override import SCRIPT
from .turns import MAIL_FIELD

_LAYER = ("kubespawner_override", "slurm_override", "software", "resources", "environment", "volumes", "backend")
_PROFILE = (
    "display_name",
    "description",
    "slug",
    "default",
    "allowed_groups",
    "profile_options",
    "slurm_choices",
    *_LAYER,
)
_OPTION = ("display_name", "description", "allowed_groups", "choices", "unlisted_choice")
_CHOICE = ("display_name", "default", "allowed_groups", *_LAYER)
_UNLISTED = (
    "enabled",
    "display_name",
    "display_name_in_choices",
    "validation_regex",
    "validation_message",
    "kubespawner_override",
    "slurm_override",
    "allowed_groups",
)
_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._]|-(?!-))*", re.ASCII)
MAX_KEY = 63
MAX_PROFILES = 200


class _Place:
    """Where in the setting we are, for messages: ``DaasSpawner.profile_list, profile 'gpu', option 'image'``."""

    def __init__(self, words: str) -> None:
        self.words = words

    def at(self, kind: str, key: object) -> _Place:
        return _Place(f"{self.words}, {kind} {key!r}")

    def error(self, key: str, problem: str) -> ConfigError:
        return ConfigError(f"{self.words}: {key} {problem}")

    def check_keys(self, raw: object, allowed: Sequence[str]) -> Mapping[str, Any]:
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{self.words}: a dict is needed, not {type(raw).__name__}.")
        for key in raw:
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, n=1)
                hint = f" Was {near[0]} meant?" if near else ""
                raise self.error(str(key), f"is unknown.{hint} Allowed are {', '.join(allowed)}.")
        return raw

    def text(self, raw: Mapping[str, Any], key: str, default: str | None = None) -> str:
        value = raw.get(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.error(key, f"is {value!r}; text is needed.")
        return value

    def flag(self, raw: Mapping[str, Any], key: str) -> bool:
        value = raw.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, f"is {value!r}; True or False is needed.")
        return value

    def groups(self, raw: Mapping[str, Any]) -> Groups | None:
        value = raw.get("allowed_groups")
        if value is None:
            return None
        if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(g, str) and g for g in value):
            raise self.error("allowed_groups", f"is {value!r}; a list of group names is needed.")
        if not value:
            raise self.error("allowed_groups", "is empty: name groups, or leave it out to open it to everybody.")
        return frozenset(value)


def read_profiles(
    raw: object, *, backends: Collection[str] | None = None, setting: str = "DaasSpawner.profile_list"
) -> Profiles:
    """The profiles in ``raw``, a list of dicts or KubeSpawner's dict of dicts (taken in the order of its keys).

    ``backends`` are the names that the site has; None leaves them unchecked. Raises ConfigError.
    """
    place = _Place(setting)
    if isinstance(raw, Mapping):
        raw = [raw[key] for key in sorted(raw)]
    if not isinstance(raw, (list, tuple)) or not raw:
        raise ConfigError(f"{setting}: a list with at least one profile is needed, not {raw!r:.100}.")
    if len(raw) > MAX_PROFILES:
        raise ConfigError(f"{setting}: {len(raw)} profiles; at most {MAX_PROFILES} are allowed.")
    profiles = tuple(_profile(item, place.at("profile", _label(item, i)), backends) for i, item in enumerate(raw, 1))
    slugs = [p.slug for p in profiles]
    if twice := next((slug for slug in slugs if slugs.count(slug) > 1), None):
        raise ConfigError(f"{setting}: two profiles have the slug {twice!r}; give each its own.")
    if len(defaults := [p.slug for p in profiles if p.default]) > 1:
        raise ConfigError(f"{setting}: {', '.join(defaults)} are all marked default; one at most can be.")
    return profiles


def _label(raw: object, number: int) -> object:
    """What to call a profile in a message before it is known to be one."""
    if isinstance(raw, Mapping):
        return raw.get("slug") or raw.get("display_name") or number
    return number


def derived_slug(display_name: str) -> str:
    """The slug of a profile that has none, as KubeSpawner makes it: ``GPU (large)`` → ``gpu-large``."""
    plain = unicodedata.normalize("NFKD", html.unescape(display_name)).casefold()
    ascii_only = plain.encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=\d),(?=\d)", "", ascii_only)).strip("-")


def _profile(raw: object, place: _Place, backends: Collection[str] | None) -> Profile:
    raw = place.check_keys(raw, _PROFILE)
    display_name = place.text(raw, "display_name")
    slug = raw["slug"] if "slug" in raw else derived_slug(display_name)[:MAX_KEY].strip("-")
    options = raw.get("profile_options") or {}
    if not isinstance(options, Mapping):
        raise place.error("profile_options", f"is {type(options).__name__}; a dict is needed.")
    profile = Profile(
        slug=_key(slug, "slug", place),
        display_name=display_name,
        layer=_layer(raw, place, backends),
        description=place.text(raw, "description", ""),
        default=place.flag(raw, "default"),
        options=tuple(_option(k, v, place.at("option", k), backends) for k, v in options.items()),
        allowed_groups=place.groups(raw),
        slurm_choices=_slurm_choices(raw.get("slurm_choices", ()), place),
    )
    if twice := [key for key in profile.slurm_choices if profile.option(key) is not None]:
        raise place.error("slurm_choices", f"has {twice[0]}, and so has profile_options: one of them only.")
    _check_combinations(profile, place)
    return profile


def _slurm_choices(value: object, place: _Place) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(one in FIELDS for one in value):
        raise place.error("slurm_choices", f"is {value!r:.100}; a list of any of {', '.join(FIELDS)} is needed.")
    return tuple(name for name in FIELDS if name in value)


def _key(key: object, what: str, place: _Place) -> str:
    if not isinstance(key, str) or len(key) > MAX_KEY or not _KEY.fullmatch(key):
        raise place.error(
            what,
            f"is {key!r}; letters, digits, . _ and single - are allowed, beginning with a letter or digit, "
            f"at most {MAX_KEY}.",
        )
    return key


def _layer(raw: Mapping[str, Any], place: _Place, backends: Collection[str] | None) -> Layer:
    layer = read_layer(raw, place.error)
    for name in layer.backends or ():
        if backends is not None and name.partition(":")[0] not in backends:
            known = ", ".join(sorted(backends)) or "none"
            raise place.error("backend", f'is {name!r}; this hub has {known}, and "auto" for any of them.')
    return layer


def _option(key: object, raw: object, place: _Place, backends: Collection[str] | None) -> Option:
    name = _key(key, "its key", place)
    if name == "profile":
        raise place.error("its key", "is the name under which the profile itself is sent; choose another.")
    if name == PLACEMENT:
        raise place.error("its key", "is the name under which the place to run at is sent; choose another.")
    if name == PROJECT:
        raise place.error("its key", "is the name under which the project is sent; choose another.")
    if name == MAIL_FIELD:
        raise place.error("its key", "is the name under which a mail is wished for; choose another.")
    raw = place.check_keys(raw, _OPTION)
    choices = raw.get("choices") or {}
    if not isinstance(choices, Mapping):
        raise place.error("choices", f"is {type(choices).__name__}; a dict is needed.")
    option = Option(
        key=name,
        display_name=place.text(raw, "display_name"),
        choices=tuple(_choice(k, v, place.at("choice", k), backends) for k, v in choices.items()),
        description=place.text(raw, "description", ""),
        unlisted=_unlisted(raw.get("unlisted_choice") or {}, place.at("key", "unlisted_choice")),
        allowed_groups=place.groups(raw),
    )
    if not option.choices and option.unlisted is None:
        raise place.error("choices", "is empty, and no unlisted_choice is enabled: there is nothing to choose.")
    if len(defaults := [c.key for c in option.choices if c.default]) > 1:
        raise place.error("choices", f"has several defaults ({', '.join(defaults)}); one at most can be.")
    return option


def _choice(key: object, raw: object, place: _Place, backends: Collection[str] | None) -> Choice:
    name = _key(key, "its key", place)
    if name == UNLISTED:
        raise place.error("its key", "stands for a text of the user's own; choose another.")
    raw = place.check_keys(raw, _CHOICE)
    return Choice(
        key=name,
        display_name=place.text(raw, "display_name"),
        layer=_layer(raw, place, backends),
        default=place.flag(raw, "default"),
        allowed_groups=place.groups(raw),
    )


def _unlisted(raw: object, place: _Place) -> Unlisted | None:
    raw = place.check_keys(raw, _UNLISTED)
    templates = {}
    for key in ("kubespawner_override", "slurm_override"):
        templates[key] = raw.get(key) or {}
        if not isinstance(templates[key], Mapping):
            raise place.error(key, f"is {type(templates[key]).__name__}; a dict is needed.")
        check_placeholders(templates[key], key, place.error)
    override, slurm = templates["kubespawner_override"], templates["slurm_override"]
    check_override(override, place.error)
    if scripts := [key for key in SCRIPT if "{value}" in str(slurm.get(key))]:
        raise place.error(f"slurm_override.{scripts[0]}", "is part of a shell script: no text of a user may be in it.")
    # "1" is a number, a size and a text: whatever is wrong with it is wrong with the template.
    read_layer({key: substituted(template, "1") for key, template in templates.items()}, place.error)
    regex = place.text(raw, "validation_regex", "")
    try:
        pattern = Pattern(regex) if regex else None
    except ValueError as error:
        raise place.error("validation_regex", f"{regex!r:.120} cannot be used: {error}.") from error
    unlisted = Unlisted(
        display_name=place.text(raw, "display_name", "Other"),
        display_name_in_choices=place.text(raw, "display_name_in_choices", "Other..."),
        template=override,
        slurm_template=slurm,
        pattern=pattern,
        validation_message=place.text(raw, "validation_message", ""),
        allowed_groups=place.groups(raw),
    )
    return unlisted if place.flag(raw, "enabled") else None


def _check_combinations(profile: Profile, place: _Place) -> None:
    """The defaults, and each choice alone, must be possible; other contradictions show when they are chosen."""
    layers = [("resources", profile.layer)]
    for option in profile.options:
        for choice in option.choices:
            layers.append((f"option {option.key!r}, choice {choice.key!r}", profile.layer.under(choice.layer)))
    for label, layer in [*layers, ("the default choices", default_layer(profile))]:
        try:
            layer.as_resources()
        except ValueError as error:
            raise place.error(label, f"cannot work: {error}.") from error
