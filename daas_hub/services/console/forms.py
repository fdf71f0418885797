"""What people type into the console's forms, as the models that REST takes. Pure; every refusal names the field."""

from __future__ import annotations

import re
from collections.abc import Mapping

from daas_hub.core.errors import InvalidOptions
from daas_hub.core.models import Resource
from daas_hub.core.units import parse_bytes

from . import models as m
from .parsing import parse

EMPTY_LIMIT: Mapping[str, str] = {
    "who": "",
    "name": "",
    "confirm_name": "",
    "resource": "",
    "amount": "",
    "note": "",
}
"""The fields of the form that sets a limit."""


def limit(form: Mapping[str, str]) -> m.LimitIn:
    """The form that sets a limit; raises InvalidOptions."""
    given = {"confirm_name": bool(form.get("confirm_name")), "amount": number(form["amount"], form["resource"])}
    return parse(m.LimitIn, {**form, **given})


def amount(form: Mapping[str, str], resource: str) -> m.AmountIn:
    """The form that changes an amount; raises InvalidOptions."""
    return parse(m.AmountIn, {**form, "amount": number(form["amount"], resource)})


def number(text: str, resource: str) -> float:
    """The amount as a number in the resource's unit; memory also as ``512M`` or ``1.5G``."""
    try:
        if resource != Resource.MEMORY_BYTES:
            return float(text.strip())
        n_bytes = parse_bytes(text)
        if n_bytes == 0 and re.search("[1-9]", text):
            raise ValueError("less than a byte, and 0 forbids")
        return float(n_bytes)
    except ValueError as error:
        allowed = (
            "a size such as 512M or 1.5G, 1 byte or more (0 forbids)"
            if resource == Resource.MEMORY_BYTES
            else "a number, 0 or more (0 forbids)"
        )
        shown = text if len(text) <= 80 else f"{text[:77]}…"
        raise InvalidOptions(f"Limit: {shown!r} is not allowed; give {allowed}.", field="amount") from error


EMPTY_LOST: Mapping[str, str] = {"user_name": "", "why": ""}
"""The fields of the form that declares a launch lost."""

EMPTY_ROW: Mapping[str, str] = {
    "name": "",
    "uid": "",
    "gid": "",
    "home": "",
    "shell": "/bin/bash",
    "groups": "",
    "note": "",
}
"""The fields of the form that enters a POSIX account."""


def posix_row(form: Mapping[str, str]) -> m.PosixRowIn:
    """The form that enters a POSIX account; groups are written ``name:gid``, separated by blanks."""
    data: dict[str, object] = {name: text for name, text in form.items() if name not in {"name", "groups"}}
    data["groups"] = [_group(word) for word in form["groups"].split()]
    return parse(m.PosixRowIn, data)


def _group(word: str) -> dict[str, str]:
    name, colon, gid = word.rpartition(":")
    if not colon:
        raise InvalidOptions(f"groups: {word[:80]!r} is not allowed; write name:gid.", field="groups")
    return {"name": name, "gid": gid}


def row_text(row: m.PosixRow) -> dict[str, str]:
    """An entered account as the form takes it again."""
    groups = " ".join(f"{group.name}:{group.gid}" for group in row.groups)
    made = {"name": row.name, "uid": str(row.uid), "gid": str(row.gid), "home": row.home, "shell": row.shell}
    return {**made, "groups": groups, "note": ""}


def amount_text(row: m.LimitModel) -> str:
    """An amount as the form takes it again, without loss."""
    if row.resource is not Resource.MEMORY_BYTES:
        return f"{row.amount:.15g}"
    for unit, size in (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10)):
        if row.amount and row.amount % size == 0:
            return f"{int(row.amount // size)}{unit}"
    return str(int(row.amount))
