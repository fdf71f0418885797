"""What a directory's entries say: filters, locks, POSIX facts. Pure; the conversation is in ``clients/``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .models import Identity
from .naming import login_name

Attributes = Mapping[str, Sequence[str]]
"""Lower-case attribute name → values."""

PERSON_ATTRIBUTES = (
    "cn",
    "displayName",
    "entryUUID",
    "gecos",
    "gidNumber",
    "homeDirectory",
    "loginShell",
    "mail",
    "nsAccountLock",
    "loginDisabled",
    "objectGUID",
    "pwdAccountLockedTime",
    "shadowExpire",
    "uidNumber",
)
GROUP_ATTRIBUTES = ("cn", "gidNumber")


class Verdict(StrEnum):
    """How a login ended. Unknown people and wrong passwords are one value: nobody learns who exists."""

    OK = "ok"
    WRONG = "wrong"
    LOCKED = "locked"
    EXPIRED = "expired"


def escape(text: str) -> str:
    """A value inside a search filter (RFC 4515 §3), with NUL written as it must be."""
    special = {"\\": r"\5c", "*": r"\2a", "(": r"\28", ")": r"\29", "\0": r"\00"}
    return "".join(special.get(c, c) for c in text)


def escape_dn(text: str) -> str:
    """A value inside a distinguished name (RFC 4514 §2.4): everything but letters, digits and - as hex."""
    return "".join(
        c if c.isascii() and (c.isalnum() or c in "-_") else "".join(f"\\{b:02x}" for b in c.encode()) for c in text
    )


def first(entry: Attributes, name: str) -> str | None:
    """The first value of an attribute, or None."""
    values = entry.get(name.lower()) or ()
    return values[0] if values else None


def number(entry: Attributes, name: str) -> int | str | None:
    """A whole number; text that is none comes back as it is, and is refused where an account is made of it."""
    value = first(entry, name)
    if value is None:
        return None
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else value


def lock_state(entry: Attributes, now: datetime) -> Verdict:
    """Whether the directory itself says that this account must not be used.

    pwdAccountLockedTime: OpenLDAP's ppolicy; nsAccountLock: 389 Directory Server; loginDisabled: eDirectory;
    shadowExpire: days since 1970 (shadow(5)), 0 and less mean never.
    """
    if first(entry, "pwdAccountLockedTime"):
        return Verdict.LOCKED
    for name in ("nsAccountLock", "loginDisabled"):
        if (first(entry, name) or "").lower() == "true":
            return Verdict.LOCKED
    expires = number(entry, "shadowExpire")
    if isinstance(expires, int) and expires > 0 and (now - datetime(1970, 1, 1, tzinfo=UTC)).days >= expires:
        return Verdict.EXPIRED
    return Verdict.OK


def entry_name(entry: Attributes, attribute: str, typed: str) -> str | None:
    """The entry's own spelling of the name that was typed; None where this entry is not hers."""
    for value in entry.get(attribute.lower()) or ():
        if login_name(value) == typed:
            return typed
    return None


def identity_of(issuer: str, name: str, person: Attributes, groups: Iterable[Attributes]) -> Identity:
    """The identity that an entry and its groups assert."""
    posix: list[tuple[str, int]] = []
    names = []
    for group in groups:
        group_name, gid = first(group, "cn"), number(group, "gidNumber")
        if group_name:
            names.append(group_name)
            if isinstance(gid, int):
                posix.append((group_name, gid))
    attributes: dict[str, Any] = {
        "uid_number": number(person, "uidNumber"),
        "gid_number": number(person, "gidNumber"),
        "home": first(person, "homeDirectory"),
        "shell": first(person, "loginShell"),
        "posix_groups": sorted(set(posix)),
    }
    return Identity(
        issuer=issuer,
        # Without a lasting id the DN must do: a rename is then another person, which is the safe side.
        subject=first(person, "entryUUID")
        or first(person, "objectGUID")
        or f"dn:{(first(person, 'dn') or '').lower()}",
        name=name,
        display_name=first(person, "displayName") or first(person, "cn") or name,
        mail=first(person, "mail") or "",
        groups=tuple(sorted(set(names))),
        attributes={key: value for key, value in attributes.items() if value is not None},
    )
