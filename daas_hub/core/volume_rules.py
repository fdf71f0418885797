"""What a site says about volumes, read once and refused where it cannot work. Pure: settings in, rules out.

``volumes.py`` plans the volumes of one server from these rules.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .errors import ConfigError
from .units import quantity_bytes

HOME = "home"
"""The volume every account has: one home for all her servers, whatever they are called."""
MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
FIELDS = ("username", "uid", "group")
"""What may stand in braces in a template; each is one whole part of a path, or within one."""
TAKEN = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr")
"""Folders of a container in which nothing is mounted: the program itself, and what the hub mounts."""
_PLAIN = re.compile(r"/[A-Za-z0-9._@+/ -]*", re.ASCII)
_SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?", re.ASCII)


class Kind(StrEnum):
    """Who makes the disk of a volume: a provisioner of the cluster, or the site, which has it already."""

    DYNAMIC = "dynamic"
    NFS = "nfs"
    HOST_PATH = "hostPath"


@dataclass(frozen=True)
class VolumeRule:
    """What the site says about one volume."""

    name: str
    kind: Kind = Kind.DYNAMIC
    mount_path: str = ""
    """Template; empty for the home, which is where the account says."""
    path: str = ""
    """Template of the folder; empty for dynamic ones."""
    server: str = ""
    read_only: bool = False
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    size: str = "10Gi"
    storage_class: str = ""
    mount_options: tuple[str, ...] = ()
    allowed_groups: frozenset[str] | None = None
    """None: everybody. With ``{group}`` in it: which groups have such a volume."""

    @property
    def static(self) -> bool:
        """The folder exists without the cluster."""
        return self.kind is not Kind.DYNAMIC

    @property
    def of_groups(self) -> bool:
        """There is one for each group."""
        return "group" in fields_of(self.path)

    @property
    def own(self) -> bool:
        """Each account has one of its own."""
        return not self.static or not fields_of(self.path).isdisjoint({"username", "uid"})


@dataclass(frozen=True)
class Root:
    """A folder below which static volumes may lie, at most ``depth`` folders deep."""

    kind: Kind
    path: str
    server: str = ""
    depth: int = 1

    def holds(self, kind: Kind, server: str, path: str) -> bool:
        """Whether a folder, or a template of one, lies below."""
        rest = path.removeprefix(self.path.rstrip("/") + "/")
        return (kind, server) == (self.kind, self.server) and rest != path and len(rest.split("/")) <= self.depth

    def __str__(self) -> str:
        return f"{self.server}:{self.path}" if self.server else self.path


def fields_of(template: str) -> frozenset[str]:
    """The names in braces of a template that was read."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name)


# ---------------------------------------------------------------- reading

Complain = Callable[[str, str], ConfigError]
_COMMON = ("kind", "mount_path", "read_only", "allowed_groups", "size", "access_modes")
_KEYS: Mapping[Kind, tuple[str, ...]] = {
    Kind.DYNAMIC: (*_COMMON, "storage_class"),
    Kind.NFS: (*_COMMON, "server", "path", "mount_options"),
    Kind.HOST_PATH: (*_COMMON, "path"),
}


def read_rules(
    raw: Mapping[Any, Any], roots: Sequence[Root], home: VolumeRule, setting: str = "KubeBackend.volumes"
) -> dict[str, VolumeRule]:
    """The rules by name, with the home first. ``home``: what it is where ``raw`` says nothing of it.

    Raises ConfigError naming setting, key, what it is and what is allowed.
    """
    rules = {home.name: home}
    for name, given in raw.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"{setting}: {name!r} is no name; lower-case letters, digits and - are, up to 30.")
        if not isinstance(given, Mapping):
            raise ConfigError(f"{setting}[{name!r}] is {type(given).__name__}; a dict is needed.")

        def complain(key: str, what: str, name: str = name) -> ConfigError:
            return ConfigError(f"{setting}[{name!r}][{key!r}] {what}")

        rules[name] = _rule(name, given, home, roots, complain)
    _check_places(list(rules.values()), setting)
    return rules


def _rule(
    name: str, given: Mapping[Any, Any], home: VolumeRule, roots: Sequence[Root], complain: Complain
) -> VolumeRule:
    kinds = ", ".join(Kind)
    try:
        kind = Kind(given.get("kind", ""))
    except ValueError as error:
        raise complain("kind", f"is {given.get('kind')!r}; allowed are {kinds}.") from error
    if unknown := sorted(set(given) - set(_KEYS[kind]), key=str):
        raise complain(str(unknown[0]), f"is unknown for kind {kind}; allowed are {', '.join(_KEYS[kind])}.")
    static = kind is not Kind.DYNAMIC
    rule = VolumeRule(
        name=name,
        kind=kind,
        mount_path=_template(given, "mount_path", complain) if name != HOME else "",
        path=_template(given, "path", complain) if static else "",
        server=_server(given, complain) if kind is Kind.NFS else "",
        read_only=_flag(given, "read_only", complain),
        access_modes=_modes(given, ("ReadWriteMany",) if static else home.access_modes, complain),
        size=_size(given, home.size, complain),
        storage_class=_text(given, "storage_class", home.storage_class, complain) if not static else "",
        mount_options=_texts(given, "mount_options", complain),
        allowed_groups=_groups(given, complain),
    )
    if name == HOME:
        _check_home(rule, given, complain)
    _check_groups(rule, complain)
    if static and not any(root.holds(kind, rule.server, rule.path) for root in roots):
        known = ", ".join(f"{root} (depth {root.depth})" for root in roots if root.kind is kind) or "none"
        raise complain("path", f"is {rule.path!r}, below no root of volume_roots for {kind}: there is {known}.")
    return rule


def _check_home(rule: VolumeRule, given: Mapping[Any, Any], complain: Complain) -> None:
    for key in ("mount_path", "allowed_groups"):
        if key in given:
            raise complain(key, "may not be set: every account has a home, and it is where the account says.")
    if rule.read_only:
        raise complain("read_only", "may not be True: a home is written to.")
    if not rule.own or rule.of_groups:
        raise complain("path", f"is {rule.path!r}: the home of one account needs {{username}} or {{uid}} in it.")


def _check_groups(rule: VolumeRule, complain: Complain) -> None:
    if "group" in fields_of(rule.mount_path) and not rule.of_groups:
        raise complain("mount_path", f"is {rule.mount_path!r}, but there is no {{group}} in the path of a static one.")
    if rule.of_groups and "group" not in fields_of(rule.mount_path):
        raise complain("mount_path", f"is {rule.mount_path!r}: all groups' folders would be there; add {{group}}.")


def _check_places(rules: Sequence[VolumeRule], setting: str) -> None:
    for rule in rules:
        for other in rules:
            if rule is not other and rule.mount_path and other.mount_path and inside(rule.mount_path, other.mount_path):
                raise ConfigError(
                    f"{setting}: {rule.name!r} is mounted at {rule.mount_path}, which is in {other.name!r} "
                    f"({other.mount_path}): the node would make its folder there, as root."
                )


def inside(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _template(given: Mapping[Any, Any], key: str, complain: Complain) -> str:
    value = given.get(key)
    allowed = ", ".join(f"{{{field}}}" for field in FIELDS)
    if not isinstance(value, str) or not value:
        raise complain(key, f"is {value!r}; a path is needed, in which {allowed} may stand.")
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError as error:
        raise complain(key, f"is {value!r}, which is no template: {error}.") from error
    for _, name, spec, conversion in parts:
        if name is not None and (name not in FIELDS or spec or conversion):
            raise complain(key, f"is {value!r}; in braces only {allowed} may stand.")
    literal = "".join(text + ("x" if name is not None else "") for text, name, _, _ in parts)
    pieces = literal.split("/")[1:]
    if not _PLAIN.fullmatch(literal) or "" in pieces or "." in pieces or ".." in pieces:
        raise complain(key, f"is {value!r}; an absolute path is needed, without empty parts, . or .., and not /.")
    if key == "mount_path" and (taken := next((folder for folder in TAKEN if inside(literal, folder)), None)):
        raise complain(key, f"is {value!r}; nothing may be mounted in {taken}.")
    return value


def _server(given: Mapping[Any, Any], complain: Complain) -> str:
    value = given.get("server")
    if not isinstance(value, str) or not _SERVER.fullmatch(value):
        raise complain("server", f"is {value!r}; the name or address of an NFS server is needed.")
    return value


def _flag(given: Mapping[Any, Any], key: str, complain: Complain) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise complain(key, f"is {value!r}; True or False is needed.")
    return value


def _text(given: Mapping[Any, Any], key: str, without: str, complain: Complain) -> str:
    value = given.get(key, without)
    if not isinstance(value, str):
        raise complain(key, f"is {value!r}; text is needed.")
    return value


def _texts(given: Mapping[Any, Any], key: str, complain: Complain) -> tuple[str, ...]:
    value = given.get(key, ())
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
        raise complain(key, f"is {value!r}; a list of texts is needed.")
    return tuple(value)


def _modes(given: Mapping[Any, Any], without: tuple[str, ...], complain: Complain) -> tuple[str, ...]:
    modes = _texts(given, "access_modes", complain) or without
    if wrong := [mode for mode in modes if mode not in MODES]:
        raise complain("access_modes", f"has {wrong[0]!r}; allowed are {', '.join(MODES)}.")
    return modes


def _size(given: Mapping[Any, Any], without: str, complain: Complain) -> str:
    value = _text(given, "size", without, complain)
    try:
        quantity_bytes(value)
    except ValueError as error:
        raise complain("size", f"cannot be used: {error}") from error
    return value


def _groups(given: Mapping[Any, Any], complain: Complain) -> frozenset[str] | None:
    value = given.get("allowed_groups")
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
        raise complain("allowed_groups", f"is {value!r}; a list of groups is needed, or None for everybody.")
    return frozenset(value)


def read_roots(raw: Sequence[Any], setting: str = "KubeBackend.volume_roots") -> tuple[Root, ...]:
    """The roots, as the chart's ``volumes.roots`` has them. Raises ConfigError."""
    roots = []
    for number, given in enumerate(raw):

        def complain(key: str, what: str, number: int = number) -> ConfigError:
            return ConfigError(f"{setting}[{number}][{key!r}] {what}")

        kinds = [kind for kind in (Kind.NFS, Kind.HOST_PATH) if isinstance(given, Mapping) and kind in given]
        if len(kinds) != 1 or not isinstance(given[kinds[0]], Mapping) or set(given) - {kinds[0], "depth"}:
            raise ConfigError(
                f"{setting}[{number}] is {given!r}; a dict with either nfs (server, path) or hostPath (path) is "
                "needed, and at most a depth beside it."
            )
        kind, place, depth = kinds[0], given[kinds[0]], given.get("depth", 1)
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
            raise complain("depth", f"is {depth!r}; a whole number of folders is needed, 1 or more.")
        path = _template(place, "path", complain)
        if fields_of(path):
            raise complain("path", f"is {path!r}; a root has no braces.")
        roots.append(Root(kind, path, _server(place, complain) if kind is Kind.NFS else "", depth))
    return tuple(roots)
