"""When a server is stopped because nobody uses it: the culler's rules and verdicts, without I/O.

Idle is what the server itself reports: kernels, terminals, and apps that a rule names. Traffic through the proxy is
no activity, because a JupyterLab that is merely open in a tab asks its server something every few seconds; what it
asks moves only ``api_activity`` of a report, which counts where a rule says ``count_open_tabs``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .errors import ConfigError
from .places import WHERE
from .units import format_duration

QUIET_STATES = frozenset({"idle", "dead", "starting", "restarting", "autorestarting", "terminating"})
"""Kernel states in which its last message tells how long ago it was used; in any other one it is in use now."""

LOOK_AGAIN_S = 60.0
"""When a server could not be asked, or is in use just now although its times say otherwise, it is asked again then."""


# ---------------------------------------------------------------- rules


@dataclass(frozen=True)
class App:
    """A path below the server's URL that tells in JSON when an app was used last."""

    path: str
    """Without a leading slash: ``code/healthz``."""
    field: str
    """The key of the JSON object: an ISO time with zone, or seconds or milliseconds since 1970."""


@dataclass(frozen=True)
class Rule:
    """For whom, and after how many seconds. Empty ``profiles``, ``groups`` or ``users`` mean: any."""

    name: str
    profiles: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    idle_after_s: float | None = None
    """None: never stopped for being idle."""
    max_age_s: float | None = None
    """None: may run for ever. Counted from when it began to run; what it does then plays no part."""
    count_open_tabs: bool = False
    apps: tuple[App, ...] = ()

    def matches(self, *, profile: str, groups: Collection[str], user: str) -> bool:
        """Whether it is for this server: every condition that is given must hold."""
        return (
            (not self.profiles or profile in self.profiles)
            and (not self.groups or not self.groups.isdisjoint(groups))
            and (not self.users or user in self.users)
        )


def rule_for(rules: Sequence[Rule], *, profile: str, groups: Collection[str], user: str) -> Rule | None:
    """The first rule that matches; None: the server is left alone."""
    return next((rule for rule in rules if rule.matches(profile=profile, groups=groups, user=user)), None)


_KEYS = ("name", "profiles", "groups", "users", "idle_after_s", "max_age_s", "count_open_tabs", "apps")


def read_rules(raw: object) -> tuple[Rule, ...]:
    """``Culler.rules`` as values. Raises ConfigError that names rule, key, value and what is allowed."""
    if not isinstance(raw, (list, tuple)):
        raise ConfigError(f"Culler.rules must be a list of rules, not {type(raw).__name__}.")
    rules = tuple(_read_rule(f"Culler.rules[{number}]", rule, number) for number, rule in enumerate(raw))
    names = [rule.name for rule in rules]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ConfigError(f"Culler.rules has two rules named {double!r}; people are told the name, so it must be one.")
    return rules


def _read_rule(where: str, raw: object, number: int) -> Rule:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} must be a dict, not {type(raw).__name__}.")
    unknown = [str(key) for key in raw if key not in _KEYS]
    if unknown:
        raise ConfigError(f"{where} has the unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}.")
    name = raw.get("name", f"rule {number + 1}")
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{where}.name is {name!r}; it must be text, for it is told to people.")
    tabs = raw.get("count_open_tabs", False)
    if not isinstance(tabs, bool):
        raise ConfigError(f"{where}.count_open_tabs is {tabs!r}; allowed are True and False.")
    return Rule(
        name=name,
        profiles=_names(where, raw, "profiles"),
        groups=_names(where, raw, "groups"),
        users=_names(where, raw, "users"),
        idle_after_s=_seconds(where, raw, "idle_after_s"),
        max_age_s=_seconds(where, raw, "max_age_s"),
        count_open_tabs=tabs,
        apps=_apps(where, raw.get("apps", ())),
    )


def _names(where: str, raw: Mapping[Any, Any], key: str) -> frozenset[str]:
    value = raw.get(key, ())
    given = isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(one, str) and one for one in value)
    # An empty list most likely comes from a variable that should not be empty: "any" is written by leaving it out.
    if not given or (key in raw and not value):
        raise ConfigError(f"{where}.{key} is {value!r}; give a list of names, or leave it out for any.")
    return frozenset(value)


def _seconds(where: str, raw: Mapping[Any, Any], key: str) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 1:
        raise ConfigError(
            f"{where}.{key} is {value!r}; give seconds as a number of at least 1 (an hour is 3600), or None for never."
        )
    return float(value)


def _apps(where: str, raw: object) -> tuple[App, ...]:
    if not isinstance(raw, (list, tuple)):
        raise ConfigError(f"{where}.apps must be a list of dicts with path and field, not {type(raw).__name__}.")
    apps = []
    for number, app in enumerate(raw):
        fits = isinstance(app, Mapping) and set(app) == {"path", "field"}
        if not fits or not all(isinstance(value, str) and value for value in app.values()):
            raise ConfigError(f"{where}.apps[{number}] is {app!r}; give {{'path': 'code/healthz', 'field': '…'}}.")
        path = str(app["path"]).lstrip("/")
        if not path or ".." in path.split("/") or "://" in path:
            raise ConfigError(f"{where}.apps[{number}].path is {app['path']!r}; it must be a path below the server.")
        apps.append(App(path, str(app["field"])))
    return tuple(apps)


# ---------------------------------------------------------------- what a server reports


@dataclass(frozen=True)
class Kernel:
    """One kernel as ``/api/kernels`` has it."""

    state: str
    last_activity: datetime | None


@dataclass(frozen=True)
class Report:
    """What a server says about its use. Times are aware UTC."""

    kernels: tuple[Kernel, ...]
    terminals: tuple[datetime, ...]
    """When each terminal was last written to or read from."""
    api_activity: datetime | None
    """The newest of everything, also of what an open tab asks and of proxied apps: ``/api/status``."""
    apps: tuple[datetime, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether a kernel computes now, however silent."""
        return any(kernel.state not in QUIET_STATES for kernel in self.kernels)


def last_used(report: Report, *, count_open_tabs: bool) -> datetime | None:
    """When the server was used last, as far as it tells; None: nothing in it ever was."""
    times = [*report.terminals, *report.apps]
    times += [kernel.last_activity for kernel in report.kernels if kernel.last_activity is not None]
    if count_open_tabs and report.api_activity is not None:
        times.append(report.api_activity)
    return max(times, default=None)


# ---------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class Verdict:
    """Stop now, for a reason that the person is told; or look again, or never."""

    stop: bool
    reason: str = ""
    look_at: datetime | None = None
    """When to ask again; None with ``stop`` False: no need, nothing in the rule ever ends this server."""


def first_look(rule: Rule | None, *, started_at: datetime) -> datetime | None:
    """When a server can be due at the earliest: before that nobody asks anything. None: never."""
    if rule is None:
        return None
    bounds = [s for s in (rule.idle_after_s, rule.max_age_s) if s is not None]
    return started_at + timedelta(seconds=min(bounds)) if bounds else None


def judge(rule: Rule, *, started_at: datetime, report: Report | None, now: datetime) -> Verdict:
    """Whether to stop it now. ``report`` None: it could not be asked, so nothing is known about its use.

    A time in the future (the server's clock is ahead) counts as now. What is not known is never idle;
    ``max_age_s`` holds all the same.
    """
    age_s = (now - started_at).total_seconds()
    oldest = started_at + timedelta(seconds=rule.max_age_s) if rule.max_age_s is not None else None
    if rule.max_age_s is not None and age_s >= rule.max_age_s:
        return Verdict(True, f"ran for {format_duration(rule.max_age_s)}, the longest allowed (rule {rule.name})")
    if rule.idle_after_s is None:
        return Verdict(False, look_at=oldest)
    if report is None or report.busy:
        return Verdict(False, look_at=_first(oldest, now + timedelta(seconds=min(rule.idle_after_s, LOOK_AGAIN_S))))
    # The start itself is use: whoever has just got a server needs time to open something in it.
    used_at = min(max(last_used(report, count_open_tabs=rule.count_open_tabs) or started_at, started_at), now)
    idle_s = (now - used_at).total_seconds()
    if idle_s >= rule.idle_after_s:
        return Verdict(True, f"idle for {format_duration(idle_s)} (rule {rule.name})")
    return Verdict(False, look_at=_first(oldest, used_at + timedelta(seconds=rule.idle_after_s)))


# ---------------------------------------------------------------- walltime


@dataclass(frozen=True)
class Ending:
    """What the owner of a server is told of its end, now."""

    text: str
    """Empty: nothing."""
    like: str
    """How each such text about this server begins."""


def announce(server_name: str, place: str, *, ends_at: datetime | None, now: datetime, lead_s: float) -> Ending:
    """Whether it is time to say that a place will end a server because its time there is over.

    ``ends_at`` None: it will not, or that cannot be told, as while it is suspended; a later one takes back what was
    said. What lies in the past is still said: the server may take a moment to end.
    """
    like = f"{_which(server_name)} will be stopped at "
    if ends_at is None or (ends_at - now).total_seconds() > lead_s:
        return Ending("", like)
    when = ends_at.strftime("%H:%M UTC on %d %B")
    return Ending(f"{like}{when}: its time on {WHERE.get(place, place)} is over then. Save your work.", like)


def was_stopped(server_name: str, reason: str) -> str:
    """The notice of a stop that its owner did not ask for."""
    return f"{_which(server_name)} was stopped: {reason}. Files in your home are kept."


def _which(server_name: str) -> str:
    return f"Your server {server_name}" if server_name else "Your server"


def _first(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)
