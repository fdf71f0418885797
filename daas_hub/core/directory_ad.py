"""What Active Directory says in its own ways: SIDs, times, account control, why a bind was refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

Attributes = Mapping[str, Sequence[str]]

AD_ATTRIBUTES = (
    "accountExpires",
    "msDS-User-Account-Control-Computed",
    "objectSid",
    "primaryGroupID",
    "pwdLastSet",
    "userAccountControl",
)
"""What is read of a person besides what every directory has."""
DISABLED = 0x2
"""userAccountControl: ADS_UF_ACCOUNTDISABLE (MS-ADTS §2.2.16)."""
LOCKED_OUT, PASSWORD_EXPIRED = 0x10, 0x800000
"""msDS-User-Account-Control-Computed: ADS_UF_LOCKOUT, ADS_UF_PASSWORD_EXPIRED. lockoutTime alone would not do: it stays
set after the lock-out is over."""
KEEPS_PASSWORD = 0x10000
"""userAccountControl: ADS_UF_DONT_EXPIRE_PASSWD."""
NEVER = frozenset({0, 2**63 - 1})
"""accountExpires: never (MS-ADTS §2.353)."""


class State(StrEnum):
    """How an account stands, apart from any password."""

    OK = "ok"
    DISABLED = "disabled"
    EXPIRED = "expired"
    LOCKED_OUT = "locked_out"
    MUST_CHANGE = "must_change"
    PASSWORD_EXPIRED = "password_expired"  # noqa: S105


def account_state(entry: Attributes, now: datetime) -> State:
    """How an entry of Active Directory stands; OK for entries of other directories."""
    control, computed = _bits(entry, "userAccountControl"), _bits(entry, "msDS-User-Account-Control-Computed")
    expires = _whole(entry, "accountExpires")
    if control & DISABLED:
        return State.DISABLED
    if expires is not None and expires not in NEVER and filetime(expires) <= now:
        return State.EXPIRED
    if computed & LOCKED_OUT:
        return State.LOCKED_OUT
    if _whole(entry, "pwdLastSet") == 0 and not control & KEEPS_PASSWORD:
        return State.MUST_CHANGE
    return State.PASSWORD_EXPIRED if computed & PASSWORD_EXPIRED else State.OK


def filetime(value: int) -> datetime:
    """100 ns since 1601 as a time; what lies outside of the calendar is its nearest end."""
    try:
        return datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=value // 10)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if value > 0 else datetime.min.replace(tzinfo=UTC)


_SUB_CODE = re.compile(r"AcceptSecurityContext error, data ([0-9a-f]+)", re.IGNORECASE | re.ASCII)


def sub_code(message: str) -> str | None:
    """The Windows error in the text of a refused bind, as ``52e``; None where there is none."""
    found = _SUB_CODE.search(message)
    return found[1].lower() if found else None


def sid_text(raw: bytes) -> str | None:
    """The written form of a binary SID (MS-DTYP §2.4.2.2); None where it is none."""
    if len(raw) < 8 or raw[0] != 1 or len(raw) != 8 + 4 * raw[1]:
        return None
    parts = [int.from_bytes(raw[at : at + 4], "little") for at in range(8, len(raw), 4)]
    return "-".join(["S-1", str(int.from_bytes(raw[2:8], "big")), *map(str, parts)])


def sid_bytes(text: str) -> bytes:
    """The bytes of ``S-1-5-…``. Raises ValueError for what is no SID."""
    letter, *numbers = text.split("-")
    if letter != "S" or not 2 <= len(numbers) <= 17:
        raise ValueError(f"{text!r} is no SID.")
    revision, authority, *parts = map(int, numbers)
    head = bytes([revision, len(parts)]) + authority.to_bytes(6, "big")
    return head + b"".join(part.to_bytes(4, "little") for part in parts)


def sid_filter(text: str) -> str:
    """A filter that finds the object of this SID."""
    return f"(objectSid={''.join(f'{chr(92)}{byte:02x}' for byte in sid_bytes(text))})"


def primary_group_sid(person: Attributes) -> str | None:
    """The SID of the primary group, which no ``member`` and no ``memberOf`` names."""
    sids, rid = person.get("objectsid") or (), _whole(person, "primaryGroupID")
    if not sids or rid is None:
        return None
    return f"{sids[0].rpartition('-')[0]}-{rid}"


def domain_of(dn: str) -> str:
    """The DN of the domain that an entry is in: its ``DC=`` parts. Empty where it has none."""
    found = re.search(r"(?:^|,)(dc=.*)$", dn, re.IGNORECASE | re.DOTALL)
    return found[1] if found else ""


def _whole(entry: Attributes, name: str) -> int | None:
    values = entry.get(name.lower()) or ()
    return int(values[0]) if values and re.fullmatch(r"-?[0-9]{1,19}", values[0], re.ASCII) else None


def _bits(entry: Attributes, name: str) -> int:
    return _whole(entry, name) or 0
