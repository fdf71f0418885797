"""What a directory's entries say: filters, locks, POSIX facts. Pure; the conversation is in ``clients/``."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .directory_ad import State, account_state, primary_group_sid
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
DN_SUBJECT = "dn:"
"""Begins the subject of an entry without a lasting id."""


class Verdict(StrEnum):
    """How a login ended. Unknown people and wrong passwords are one value: nobody learns who exists."""

    OK = "ok"
    WRONG = "wrong"
    LOCKED = "locked"
    """By an administrator, where the directory has such a lock besides disabling."""
    DISABLED = "disabled"
    EXPIRED = "expired"
    LOCKED_OUT = "locked_out"
    """After failed attempts. Never told: anybody can cause it, and takes no access from who is signed in."""
    PASSWORD_EXPIRED = "password_expired"  # noqa: S105
    MUST_CHANGE = "must_change"
    NOT_NOW = "not_now"
    NOT_HERE = "not_here"


ACTIVE = frozenset({Verdict.OK, Verdict.LOCKED_OUT, Verdict.PASSWORD_EXPIRED, Verdict.MUST_CHANGE})
"""The account itself is in use: whoever is signed in stays so, and her servers run on."""
AD_REFUSALS = {
    "525": Verdict.WRONG,
    "52e": Verdict.WRONG,
    "52f": Verdict.NOT_HERE,
    "530": Verdict.NOT_NOW,
    "531": Verdict.NOT_HERE,
    "532": Verdict.PASSWORD_EXPIRED,
    "533": Verdict.DISABLED,
    "701": Verdict.EXPIRED,
    "773": Verdict.MUST_CHANGE,
    "775": Verdict.LOCKED_OUT,
}
"""Active Directory's reason for a refused bind (Windows error codes in hexadecimal). Only 525, 52e and 775 come for a
wrong password, too: 0x525 no such user, 0x52e logon failure, 0x52f account restriction, 0x530 logon hours, 0x531
workstation, 0x532 password expired, 0x533 disabled, 0x701 account expired, 0x773 must change, 0x775 locked out."""


def escape(text: str) -> str:
    """A value inside a search filter (RFC 4515 §3), with NUL written as it must be."""
    special = {"\\": r"\5c", "*": r"\2a", "(": r"\28", ")": r"\29", "\0": r"\00"}
    return "".join(special.get(c, c) for c in text)


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


FOR_GOOD = "000001010000Z"
"""The time that says "locked by an administrator" (draft-behera-ldap-password-policy §5.3.3)."""


def lock_state(entry: Attributes, now: datetime) -> Verdict:
    """Whether the directory itself says that this account must not be used.

    pwdAccountLockedTime: OpenLDAP's ppolicy; nsAccountLock: 389 Directory Server; loginDisabled: eDirectory;
    shadowExpire: days since 1970 (shadow(5)), 0 and less mean never. Any other pwdAccountLockedTime is a lock-out
    after failed attempts, which anybody can cause: it is the server's to judge at the bind, and takes no access
    from whoever is signed in.
    """
    if first(entry, "pwdAccountLockedTime") == FOR_GOOD:
        return Verdict.LOCKED
    for name in ("nsAccountLock", "loginDisabled"):
        if (first(entry, name) or "").lower() == "true":
            return Verdict.LOCKED
    expires = number(entry, "shadowExpire")
    if isinstance(expires, int) and expires > 0 and (now - datetime(1970, 1, 1, tzinfo=UTC)).days >= expires:
        return Verdict.EXPIRED
    state = account_state(entry, now)
    return Verdict.OK if state is State.OK else Verdict(state.value)


def refusal(code: str | None, state: Verdict, *, tell_locked: bool) -> Verdict:
    """What a refused bind means: by the reason of Active Directory, else by how the entry stands.

    OpenLDAP does not look at the password of a locked account, so that "locked" cannot be told after a proof only.
    """
    if code is not None:
        return AD_REFUSALS.get(code, Verdict.WRONG)
    return Verdict.LOCKED if state is Verdict.LOCKED and tell_locked else Verdict.WRONG


_RDN = re.compile(r"([a-z][a-z0-9-]*)=((?:[^,+\\]|\\.)*)", re.IGNORECASE | re.ASCII | re.DOTALL)


def canonical_name(entry: Attributes, attribute: str) -> str | None:
    """The one login name of an entry, normalised; None where it has none, or several and none is its RDN.

    An attribute's values have no order: without this, one person with two names would be two hub users.
    """
    names = {login_name(value) for value in entry.get(attribute.lower()) or ()}
    if len(names) == 1:
        return names.pop()
    rdn = _RDN.match(first(entry, "dn") or "")
    if rdn is None or rdn[1].lower() != attribute.lower():
        return None
    name = login_name(re.sub(r"\\(.)", r"\1", rdn[2]))
    return name if name in names else None


def subject_of(person: Attributes) -> str:
    """The lasting id of an entry. Without one the DN must do: a rename is then another person, the safe side."""
    lasting = first(person, "entryUUID") or first(person, "objectGUID")
    return lasting or DN_SUBJECT + (first(person, "dn") or "").lower()


def subject_filter(subject: str) -> str:
    """Finds an entry by its lasting id: entryUUID (RFC 4530), or Active Directory's objectGUID."""
    by_uuid = f"(entryUUID={escape(subject)})"
    try:
        raw = uuid.UUID(subject).bytes_le
    except ValueError:
        return by_uuid
    return f"(|{by_uuid}(objectGUID={''.join(f'{chr(92)}{byte:02x}' for byte in raw)}))"


LASTING = frozenset({"entryuuid", "objectguid"})
"""Attributes that every entry has and keeps; the second is bytes, written as the first is."""


def value_filter(attribute: str, value: str) -> str:
    """Finds entries by a value; what the directory takes for equal may be more than ``same_value`` does."""
    return subject_filter(value.lower()) if attribute.lower() in LASTING else f"({attribute}={escape(value)})"


def same_value(entry: Attributes, attribute: str, value: str) -> bool:
    """Whether an entry has exactly this value: neither case nor blanks are overlooked."""
    if attribute.lower() in LASTING:
        return (first(entry, attribute) or "").lower() == value.lower()
    return value in (entry.get(attribute.lower()) or ())


def others(subject: str, entries: Iterable[Attributes], attribute: str) -> list[str]:
    """What the entries of other people are called; one entry that is seen twice (two names, a mirror) counts once."""
    found = {subject_of(e): canonical_name(e, attribute) or first(e, "dn") or "another entry" for e in entries}
    found.pop(subject, None)
    return sorted(found.values())


def identity_of(
    issuer: str,
    name: str,
    person: Attributes,
    groups: Iterable[Attributes],
    *,
    group_name_attribute: str = "cn",
    home_attribute: str = "homeDirectory",
) -> Identity:
    """The identity that an entry and its groups assert."""
    posix: list[tuple[str, int]] = []
    sids: list[tuple[str, str]] = []
    names = []
    for group in groups:
        group_name, gid, sid = first(group, group_name_attribute), number(group, "gidNumber"), first(group, "objectSid")
        if group_name:
            names.append(group_name)
            if isinstance(gid, int):
                posix.append((group_name, gid))
            if sid is not None:
                sids.append((group_name, sid))
    attributes: dict[str, Any] = {
        "uid_number": number(person, "uidNumber"),
        "gid_number": number(person, "gidNumber"),
        "home": first(person, home_attribute),
        "shell": first(person, "loginShell"),
        "posix_groups": sorted(set(posix)),
        "sid": first(person, "objectSid"),
        "primary_group_sid": primary_group_sid(person),
        "group_sids": sorted(set(sids)) or None,
    }
    return Identity(
        issuer=issuer,
        subject=subject_of(person),
        name=name,
        display_name=first(person, "displayName") or first(person, "cn") or name,
        mail=first(person, "mail") or "",
        groups=tuple(sorted(set(names))),
        attributes={key: value for key, value in attributes.items() if value is not None},
    )
