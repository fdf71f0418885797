"""Untrusted data as one of our models, or a refusal that names the field, what was given and what is allowed."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from daas_hub.core.errors import InvalidOptions

M = TypeVar("M", bound=BaseModel)
MAX_SHOWN = 80


def parse(model: type[M], data: Any) -> M:
    """``data`` as ``model``; raises InvalidOptions for the first thing that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        given = repr(first["input"])
        shown = given if len(given) <= MAX_SHOWN else f"{given[: MAX_SHOWN - 1]}…"
        raise InvalidOptions(f"{field}: {shown} is not allowed: {first['msg']}.", field=field) from error
