"""The only reader of what users send as options: REST bodies, stored options, forms and links.

The shape is KubeSpawner's: ``{"profile": slug, "<option>": choice, "<option>--unlisted-choice": text}``. Whatever is
in there otherwise is refused with InvalidOptions (400, names the field) or NotAllowed (403, names the groups), and
nothing of it is ever shown or logged at length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from daas_hub.core.errors import DaasError, InvalidOptions, NotAllowed
from daas_hub.core.layers import PLACE, Layer, read_layer, substituted
from daas_hub.core.models import LaunchRequest
from daas_hub.core.naming import MAX_NAME, safe_name
from daas_hub.core.patterns import MAX_TEXT
from daas_hub.core.places import AUTO
from daas_hub.core.profiles import (
    PLACEMENT,
    PROJECT,
    UNLISTED,
    UNLISTED_SUFFIX,
    Groups,
    Option,
    Profile,
    Unlisted,
    combined,
    default_profile,
    find,
    is_open,
    visible,
)
from daas_hub.core.slurm_choices import FIELDS, read

FORM_PREFIX = "profile-option-"
"""Form fields are named ``profile-option-<slug>--<option>``, as KubeSpawner's."""
MAX_FIELDS = 100
"""More fields are refused before any is looked at."""
MAX_SHOWN = 100
"""Characters of a user's value in a message."""
MAX_LISTED = 20
"""Names of a list in a message."""

VERY_LARGE = 10**20
"""Numbers from here on are not written out."""

Refuse = Callable[[DaasError], None]
"""Raises what it is given, or notes it and goes on."""


@dataclass
class _Chosen:
    """What was read: the profile, and of each of its options what was given and what that sets."""

    profile: Profile
    given: dict[str, str] = field(default_factory=dict)
    """What the user said, as far as it can be accepted."""
    choices: dict[str, str] = field(default_factory=dict)
    """The same with the defaults filled in."""
    layers: list[Layer] = field(default_factory=list)
    slurm: dict[str, str] = field(default_factory=dict)
    """Her own settings for SLURM: they are laid over all others."""
    placement: str = ""
    project: str = ""


def parse(
    user_options: object, profiles: Sequence[Profile], groups: Collection[str], admin: bool = False
) -> LaunchRequest:
    """What ``user_options`` ask for, checked against all ``profiles`` and what is open to ``groups``.

    Raises InvalidOptions or NotAllowed, whatever it is given; no other exception.
    """

    def refuse(error: DaasError) -> None:
        raise error

    chosen = _read(user_options, profiles, groups, admin, refuse)
    if chosen is None:
        raise NotAllowed("No profile is open to you. " + _ask(groups))
    for option in chosen.profile.options:
        if option.default is None and option.key + UNLISTED_SUFFIX not in chosen.choices:
            name = option.key + UNLISTED_SUFFIX
            raise InvalidOptions(f"{name}: {option.display_name} is needed: write a value.", field=name)
    try:
        return combined(chosen.profile, chosen.layers, chosen.choices, chosen.placement, chosen.project)
    except ValueError as error:
        raise InvalidOptions(f"These choices cannot be combined: {error}.", field="user_options") from error


def dump(request: LaunchRequest) -> dict[str, str]:
    """The options that ask for ``request`` again: what is stored as the last accepted ones."""
    named = {PLACEMENT: request.placement, PROJECT: request.project}
    return {"profile": request.profile, **request.choices, **{key: text for key, text in named.items() if text}}


def lenient(
    user_options: object, profiles: Sequence[Profile], groups: Collection[str], admin: bool = False
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The part of ``user_options`` that can be accepted, and a sentence for each field that cannot.

    For showing a form filled, and for options that were accepted before the profiles changed. Never raises.
    """
    problems: list[str] = []
    chosen = _read(user_options, profiles, groups, admin, lambda error: problems.append(error.message))
    if len(problems) > MAX_LISTED:
        problems[MAX_LISTED:] = [f"and {len(problems) - MAX_LISTED} more."]
    return (chosen.given if chosen is not None else {}), tuple(problems)


# ---------------------------------------------------------------- reading


def _read(
    user_options: object, profiles: Sequence[Profile], groups: Collection[str], admin: bool, refuse: Refuse
) -> _Chosen | None:
    """Read field by field; None where no profile is left to choose."""
    fields = _fields(user_options, refuse)
    seen = visible(profiles, groups, admin)
    slug = fields.pop("profile", "")
    profile = find(seen, slug) if slug else default_profile(seen)
    if profile is None:
        if slug:
            refuse(_no_profile(slug, profiles, seen, groups))
        return None
    chosen = _Chosen(profile, given={"profile": slug} if slug else {})
    _read_placement(chosen, fields.pop(PLACEMENT, ""), refuse)
    _read_project(chosen, fields.pop(PROJECT, ""), refuse)
    for name in profile.slurm_choices:
        _read_slurm(chosen, name, fields.pop(name, ""), refuse)
    whole = find(profiles, profile.slug) or profile
    known = {name for option in whole.options for name in (option.key, option.key + UNLISTED_SUFFIX)}
    for name in fields:
        if name not in known:
            refuse(_unknown(name, profile))
    for option in whole.options:
        choice, text = fields.get(option.key, ""), fields.get(option.key + UNLISTED_SUFFIX, "")
        open_option = profile.option(option.key)
        if open_option is not None:
            _read_option(chosen, option, open_option, choice, text, groups, refuse)
        elif choice or text:
            refuse(_closed(f"Option {option.display_name}", _opening(option), groups))
    if chosen.slurm:
        chosen.layers.append(Layer(override={"slurm": chosen.slurm}))
    return chosen


def _fields(user_options: object, refuse: Refuse) -> dict[str, str]:
    """The fields that are text of a sensible length. Nothing here costs more than a look at each field."""
    if not isinstance(user_options, Mapping):
        refuse(InvalidOptions(f"user_options: an object is needed, not {shown(user_options)}.", field="user_options"))
        return {}
    if len(user_options) > MAX_FIELDS:
        message = f"user_options: more than {MAX_FIELDS} fields were sent, which is too many."
        refuse(InvalidOptions(message, field="user_options"))
        return {}
    fields: dict[str, str] = {}
    for name, value in user_options.items():
        label = shown(name, quoted=False)
        if not isinstance(name, str) or len(name) > MAX_TEXT:
            refuse(InvalidOptions(f"{label}: there is no such option.", field=label))
        elif not isinstance(value, str):
            refuse(InvalidOptions(f"{label}: text is needed, not {shown(value)}.", field=label))
        elif len(value) > MAX_TEXT:
            message = f"{label}: the text has more than {MAX_TEXT} characters, which is too long."
            refuse(InvalidOptions(message, field=label))
        else:
            fields[name] = value
    return fields


def _read_placement(chosen: _Chosen, given: str, refuse: Refuse) -> None:
    """Where she wants it. Which places there are for the profile is judged with what they have free."""
    if given and not PLACE.fullmatch(given):
        message = f"{PLACEMENT}: {shown(given)} is not a place: auto, or the name of one as kubernetes or slurm:gpu."
        refuse(InvalidOptions(message, field=PLACEMENT))
    elif given not in ("", AUTO):
        chosen.given[PLACEMENT] = chosen.placement = given


def _read_project(chosen: _Chosen, given: str, refuse: Refuse) -> None:
    """Which project it is for. Whether it is one of hers is judged with the ledger's word."""
    if given and safe_name(given, limit=MAX_NAME) != given:
        refuse(InvalidOptions(f"{PROJECT}: {shown(given)} is not the name of a project.", field=PROJECT))
    elif given:
        chosen.given[PROJECT] = chosen.project = given


def _read_slurm(chosen: _Chosen, name: str, given: str, refuse: Refuse) -> None:
    """What she chose of SLURM. Whether she may use it is judged with the cluster's word."""
    if not given:
        return
    try:
        text = read(name, given)
    except ValueError as error:
        refuse(InvalidOptions(f"{name}: {shown(given)} cannot be used: {error}", field=name))
        return
    chosen.given[name] = chosen.choices[name] = text
    chosen.slurm[FIELDS[name]] = text


def _read_option(
    chosen: _Chosen, option: Option, seen: Option, choice: str, text: str, groups: Collection[str], refuse: Refuse
) -> None:
    """Add what was said about one option, or its default. ``option`` is whole, ``seen`` is what is open."""
    name = option.key
    try:
        if text or choice == UNLISTED:
            name += UNLISTED_SUFFIX
            if choice and choice != UNLISTED:
                # Which of the two was meant cannot be told.
                message = f"{name}: {option.key} is set as well; send one of the two."
                raise InvalidOptions(message, field=name)
            chosen.layers.append(_unlisted_layer(option, seen, text, groups))
            chosen.given[name] = chosen.choices[name] = text
            return
        if choice:
            listed = seen.choice(choice)
            if listed is None:
                raise _no_choice(option, seen, choice, groups)
            chosen.given[name] = choice
        else:
            listed = seen.default
    except (InvalidOptions, NotAllowed) as error:
        refuse(error)
        listed = seen.default
    if listed is not None:
        chosen.layers.append(listed.layer)
        chosen.choices[option.key] = listed.key


def _unlisted_layer(option: Option, seen: Option, text: str, groups: Collection[str]) -> Layer:
    """What a text of the user's own sets. The text is data: never a template, a path or a name (rule 6)."""
    name, unlisted = option.key + UNLISTED_SUFFIX, seen.unlisted
    if unlisted is None:
        if option.unlisted is not None and not is_open(option.unlisted.allowed_groups, groups):
            raise _closed(f"A text for {option.display_name}", option.unlisted.allowed_groups, groups)
        raise InvalidOptions(f"{name}: {option.display_name} takes only listed choices: {_keys(seen)}.", field=name)
    _check_text(name, option, unlisted, text)

    def complain(key: str, problem: str) -> InvalidOptions:
        if key.startswith("slurm_override."):
            return InvalidOptions(f"{name}: {key} {problem}", field=name)
        return InvalidOptions(f"{name}: {shown(text)} cannot be used for {key}.", field=name)

    return read_layer({key: substituted(one, text) for key, one in unlisted.templates().items()}, complain)


def _check_text(name: str, option: Option, unlisted: Unlisted, text: str) -> None:
    if not text.strip():
        raise InvalidOptions(f"{name}: write a value for {option.display_name}.", field=name)
    if not text.isprintable() or "{" in text or "}" in text:
        # Braces would be read as a template by KubeSpawner.
        message = f"{name}: {shown(text)} has control characters or braces, which are not allowed."
        raise InvalidOptions(message, field=name)
    if unlisted.pattern is not None and not unlisted.pattern.fullmatch(text):
        rule = unlisted.validation_message or f"It must match {unlisted.pattern.source}"
        raise InvalidOptions(f"{name}: {shown(text)} is not allowed. {rule.rstrip('.')}.", field=name)


# ---------------------------------------------------------------- refusals


def _no_profile(slug: str, profiles: Sequence[Profile], seen: Sequence[Profile], groups: Collection[str]) -> DaasError:
    hidden = find(profiles, slug)
    if hidden is not None:
        return _closed(f"Profile {hidden.display_name}", hidden.allowed_groups, groups)
    slugs = _listed([p.slug for p in seen]) or "none"
    return InvalidOptions(f"profile: there is no profile {shown(slug)}. Open to you: {slugs}.", field="profile")


def _no_choice(option: Option, seen: Option, key: str, groups: Collection[str]) -> DaasError:
    hidden = option.choice(key)
    if hidden is not None:
        return _closed(f"{option.display_name} {hidden.display_name}", hidden.allowed_groups, groups)
    return InvalidOptions(
        f"{option.key}: {option.display_name} has no choice {shown(key)}. Allowed: {_keys(seen)}.", field=option.key
    )


def _unknown(name: str, profile: Profile) -> DaasError:
    label = shown(name, quoted=False)
    there = _listed([*(o.key for o in profile.options), *profile.slurm_choices])
    has = f"its options are {there}" if there else "it has no options"
    message = f"{label}: profile {profile.display_name} has no such option; {has}."
    return InvalidOptions(message, field=label)


def _closed(what: str, allowed: Groups | None, groups: Collection[str]) -> DaasError:
    opened = f" It is open to {_groups(allowed)}." if allowed else ""
    return NotAllowed(f"{what} is not open to you.{opened} {_ask(groups)}")


def _opening(option: Option) -> Groups:
    """The groups that would open an option which is closed: its own, else those of what is in it."""
    if option.allowed_groups:
        return option.allowed_groups
    inside = [c.allowed_groups for c in option.choices] + ([option.unlisted.allowed_groups] if option.unlisted else [])
    return frozenset().union(*(groups for groups in inside if groups))


def _ask(groups: Collection[str]) -> str:
    mine = f"You are in {_groups(groups)}." if groups else "You are in no group."
    return f"{mine} Ask an administrator if you need it."


def _groups(groups: Collection[str]) -> str:
    return ("group " if len(groups) == 1 else "groups ") + _listed(
        [shown(name, quoted=False) for name in sorted(groups)]
    )


def _keys(option: Option) -> str:
    keys = [c.key for c in option.choices]
    return _listed([*keys, f"{option.key}{UNLISTED_SUFFIX}"] if option.unlisted else keys)


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - MAX_LISTED} more" if len(words) > MAX_LISTED else ""
    return ", ".join(words[:MAX_LISTED]) + more


def shown(value: object, *, quoted: bool = True) -> str:
    """A few harmless words about a value that may be hostile: short, printable, cheap for any size or depth."""
    if isinstance(value, str):
        cut = value[:MAX_SHOWN] + ("…" if len(value) > MAX_SHOWN else "")
        clean = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in cut)
        return f'"{clean}"' if quoted else clean
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return f"the number {value}" if -VERY_LARGE < value < VERY_LARGE else "a very large number"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return f"a {type(value).__name__}"


# ---------------------------------------------------------------- forms and links


def from_form(form: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """The options in the fields of our posted form. Raises InvalidOptions for several values of one field, and files.

    The cards of other profiles are posted too and are left out. A text counts only where its option says so.
    """
    options = _flat(form)
    for name, value in options.items():
        if not isinstance(value, str):
            label = shown(name, quoted=False)
            raise InvalidOptions(f"{label}: one text is needed, not {shown(value)}.", field=label)
    return {name: value for name, value in options.items() if value and not _unused(name, options)}


def _unused(name: str, options: Mapping[str, Any]) -> bool:
    """Whether this is the text of an option for which a listed choice is selected: the page hides such a text."""
    option = name.removesuffix(UNLISTED_SUFFIX)
    return option != name and options.get(option, "") not in ("", UNLISTED)


def from_query(query: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """What a link (``?opt-profile=…&opt-<option>=…``) asks to fill in; anything, so only for ``lenient``."""
    return _flat(query)


def _flat(form: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Option → its value, by plain names or by those of the form; several values stay a list."""
    fields = {name: v[0] if len(v) == 1 and isinstance(v[0], str) else list(v) for name, v in form.items()}
    fields.pop("_xsrf", None)
    profile = fields.get("profile")
    prefix = f"{FORM_PREFIX}{profile}--" if isinstance(profile, str) else FORM_PREFIX
    return {
        name.removeprefix(prefix): value
        for name, value in fields.items()
        if name.startswith(prefix) or not name.startswith(FORM_PREFIX)
    }
