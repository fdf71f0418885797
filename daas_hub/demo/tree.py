"""The entries of the demo's directory and how LDAP matches them (RFC 4511 §4.5.1, RFC 4517). No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from ldap3.core.exceptions import LDAPInvalidDnError
from ldap3.utils.dn import parse_dn

from .wire import Filter

DN = tuple[tuple[str, str], ...]
"""A distinguished name as (attribute, value) pairs, folded so that equal names are equal."""

Verdict = bool | None
"""A filter's answer; None is LDAP's Undefined, which no negation makes true."""

DN_VALUED = frozenset({"member", "memberof", "entrydn", "uniquemember"})
NUMBERS = frozenset({"uidnumber", "gidnumber"})
EXACT = frozenset({"memberuid", "homedirectory", "loginshell", "userpassword"})
OPERATIONAL = frozenset({"entryuuid", "entrydn", "memberof", "pwdaccountlockedtime", "createtimestamp"})
"""Attributes that are returned only when they are asked for by name or by ``+``."""


class Scope(IntEnum):
    """How much of the tree a search looks at, as on the wire."""

    BASE = 0
    ONE = 1
    SUBTREE = 2


class BadDn(Exception):
    """Raised when a text is not a distinguished name."""


def fold_dn(text: str) -> DN:
    """The name behind a text; raises BadDn."""
    if not text.strip():
        return ()
    try:
        parts = parse_dn(text, escape=False, strip=True)
    except (LDAPInvalidDnError, IndexError) as error:
        raise BadDn(text) from error
    return tuple((attribute.lower(), _fold_text(value)) for attribute, value, _ in parts)


def _fold_text(value: str) -> str:
    return re.sub(r"\s+", " ", value.strip()).casefold()


def fold(attribute: str, value: str) -> Any:
    """A value in the form in which the attribute's values are compared; raises ValueError where it has no such form."""
    name = attribute.lower()
    if name in DN_VALUED:
        try:
            return fold_dn(value)
        except BadDn as error:
            raise ValueError(value) from error
    if name in NUMBERS:
        return int(value)
    return value if name in EXACT else _fold_text(value)


@dataclass(frozen=True)
class Entry:
    """One entry. ``password`` None: nobody can bind as it. ``locked``: nobody can any more."""

    dn: str
    attributes: Mapping[str, tuple[str, ...]]
    password: str | None = field(default=None, repr=False)
    locked: bool = False

    def values(self, attribute: str) -> tuple[str, ...]:
        """The values of an attribute, whatever its case; empty where it has none."""
        return next((v for name, v in self.attributes.items() if name.lower() == attribute.lower()), ())

    def wanted(self, selectors: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The attributes that a search's selection names (RFC 4511 §4.5.1.8)."""
        asked = {s.lower() for s in selectors}
        users = not asked or "*" in asked
        for name, values in self.attributes.items():
            low = name.lower()
            if low in asked or (("+" in asked) if low in OPERATIONAL else users):
                yield name, values


class Tree:
    """Entries below one base. Every entry's parent exists, or is the base itself."""

    def __init__(self, base: str, entries: Sequence[Entry]) -> None:
        self.base = base
        self._entries = {fold_dn(entry.dn): entry for entry in entries}
        self._known = {name.lower() for entry in entries for name in entry.attributes} | OPERATIONAL

    def get(self, dn: str) -> Entry | None:
        """The entry of that name; raises BadDn."""
        return self._entries.get(fold_dn(dn))

    def search(self, base: str, scope: Scope, match: Callable[[Entry], Verdict]) -> Iterator[Entry]:
        """Entries in scope that the filter matches; raises BadDn."""
        top = fold_dn(base)
        for name, entry in self._entries.items():
            depth = len(name) - len(top)
            if depth < 0 or name[depth:] != top:
                continue
            if (scope is Scope.BASE and depth) or (scope is Scope.ONE and depth != 1):
                continue
            if match(entry) is True:
                yield entry

    # ------------------------------------------------------------ filters

    def matcher(self, wanted: Filter) -> Callable[[Entry], Verdict]:
        """A filter as a function of an entry."""
        part = wanted.leaf
        match wanted.kind:
            case "and":
                return _all([self.matcher(p) for p in wanted.parts])
            case "or":
                return _negate(_all([_negate(self.matcher(p)) for p in wanted.parts]))
            case "not":
                return _negate(self.matcher(wanted.parts[0]))
            case "present":
                return self._present(str(part))
            case "equalityMatch" | "approxMatch" | "greaterOrEqual" | "lessOrEqual":
                return self._compare(wanted.kind, str(part["attributeDesc"]), bytes(part["assertionValue"]))
            case "substringFilter":
                return self._substrings(str(part["type"]), part["substrings"])
            case _:
                # Extensible matches need rules that this directory does not have.
                return lambda _entry: None

    def _present(self, attribute: str) -> Callable[[Entry], Verdict]:
        if attribute.lower() not in self._known:
            return lambda _entry: None
        return lambda entry: bool(entry.values(attribute))

    def _compare(self, kind: str, attribute: str, asserted: bytes) -> Callable[[Entry], Verdict]:
        try:
            wanted = fold(attribute, asserted.decode())
        except ValueError:
            return lambda _entry: None
        if attribute.lower() not in self._known or attribute.lower() == "userpassword":
            return lambda _entry: None

        def compare(value: Any) -> bool:
            if kind == "greaterOrEqual":
                return bool(value >= wanted)
            return bool(value <= wanted) if kind == "lessOrEqual" else bool(value == wanted)

        return lambda entry: any(compare(fold(attribute, v)) for v in entry.values(attribute))

    def _substrings(self, attribute: str, parts: Any) -> Callable[[Entry], Verdict]:
        if attribute.lower() not in self._known or attribute.lower() in DN_VALUED | NUMBERS:
            return lambda _entry: None
        pattern = ""
        for part in parts:
            text = bytes(part.getComponent()).decode("utf-8", "replace")
            text = text if attribute.lower() in EXACT else re.sub(r"\s+", " ", text).casefold()
            pattern += ("" if part.getName() == "initial" else ".*") + re.escape(text)
        if not parts or parts[-1].getName() != "final":
            pattern += ".*"
        whole = re.compile(pattern, re.DOTALL)
        return lambda entry: any(whole.fullmatch(str(fold(attribute, v))) for v in entry.values(attribute))


def _all(parts: Sequence[Callable[[Entry], Verdict]]) -> Callable[[Entry], Verdict]:
    """And in three values: one false decides, otherwise one Undefined does."""

    def match(entry: Entry) -> Verdict:
        verdicts = [part(entry) for part in parts]
        if False in verdicts:
            return False
        return None if None in verdicts else True

    return match


def _negate(part: Callable[[Entry], Verdict]) -> Callable[[Entry], Verdict]:
    def match(entry: Entry) -> Verdict:
        verdict = part(entry)
        return None if verdict is None else not verdict

    return match
