"""Column types that mean the same on both engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, kept as whole microseconds since 1970 in UTC: exact, sortable, without a time zone to lose."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else to_us(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else from_us(value)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970; refuses a datetime without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; the ledger takes aware times only.")
    return (moment - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=us)


class Words(TypeDecorator[str]):
    """Free text, also from programs: what no engine can keep (NUL, lone surrogates) becomes U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else clean(value)


def clean(text: str) -> str:
    """The text in characters that both engines keep."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").replace("\0", "\ufffd")


def dump_json(value: Any) -> str:
    """JSON text that both engines keep: PostgreSQL refuses NUL and lone surrogates also where they are escaped."""
    text = json.dumps(value, separators=(",", ":"))
    if "\\u0000" in text or "\\ud" in text:
        text = json.dumps(_clean_all(value), separators=(",", ":"))
    return text


def _clean_all(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): _clean_all(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_all(each) for each in value]
    return value


JSON_OBJECT = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSON; objects carry a ``version`` of their own where code depends on their form."""

SERIAL = BigInteger().with_variant(Integer(), "sqlite")
"""A key that the engine counts up: SQLite does so only for a column that is called INTEGER."""
