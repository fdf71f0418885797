"""What people type as their name: login name, `DOMAIN\\name`, address. Each leads to one entry, by one order. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .directory import Attributes, escape
from .naming import login_name

MAX_ADDRESS = 254
MAX_TYPED = 1024
"""More than this is looked at by nobody: the hub takes forms of a hundred million characters."""
_ADDRESS = re.compile(r"[\w.+'&%~!-]{1,64}@[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True)
class Form:
    """One reading of what was typed: an entry whose ``attribute`` has this value."""

    attribute: str
    value: str


def forms(text: str, name_attribute: str, others: Sequence[str] = (), domains: Collection[str] = ()) -> list[Form]:
    """The readings of ``text``, best first; none where nobody can be meant.

    ``others``: attributes with addresses (userPrincipalName, mail). ``domains``: what may stand before a backslash or,
    where no entry has the whole address, behind the ``@`` of a login name.
    """
    if len(text) > MAX_TYPED:
        return []
    known = {_folded(domain) for domain in domains}
    before, backslash, after = text.partition("\\")
    if backslash:
        name = login_name(after) if _folded(before) in known else None
        return [Form(name_attribute, name)] if name is not None else []
    found = []
    name = login_name(text)
    if name is not None:
        found.append(Form(name_attribute, name))
    whole = address(text)
    if whole is None:
        return found
    local, _, domain = whole.rpartition("@")
    implicit = login_name(local) if domain in known else None
    # As Active Directory does: an entry's own principal name comes before the one that its login name implies.
    principal = [a for a in others if a.lower() == "userprincipalname"]
    found += [Form(a, whole) for a in principal]
    if implicit is not None:
        found.append(Form(name_attribute, implicit))
    return found + [Form(a, whole) for a in others if a not in principal]


def address(text: str) -> str | None:
    """An address as it is compared: NFKC, case folded, without blanks around it; None for what is none."""
    if len(text) > MAX_ADDRESS:
        return None
    folded = _folded(text)
    return folded if len(folded) <= MAX_ADDRESS and _ADDRESS.fullmatch(folded) else None


def query(readings: Sequence[Form], user_filter: str, name_attribute: str) -> str:
    """One filter for all readings: an unknown person costs as many searches as a known one."""
    parts = [user_filter.replace("{name}", escape(r.value)) for r in readings if r.attribute == name_attribute]
    rest = "".join(f"({r.attribute}={escape(r.value)})" for r in readings if r.attribute != name_attribute)
    if rest:
        # Everybody whom the filter could find at all, by another attribute.
        parts.append(f"(&{user_filter.replace('{name}', '*')}(|{rest}))")
    return parts[0] if len(parts) == 1 else f"(|{''.join(parts)})"


def has(entry: Attributes, form: Form) -> bool:
    """Whether an entry has an address; blanks and case do not count."""
    return any(address(value) == form.value for value in entry.get(form.attribute.lower()) or ())


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip(" ").casefold()
