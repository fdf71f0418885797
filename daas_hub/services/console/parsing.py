"""Untrusted data as one of our models, or a refusal that names the field, what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        schema = model.model_json_schema()
        known = first["type"] != "extra_forbidden"
        allowed = _allowed(_at(schema, first["loc"] if known else first["loc"][:-1]), schema)
        if first["type"] == "missing":
            message = f"{field}: nothing was given, which is not allowed; give {allowed}."
        elif not known:
            message = f"{field}: a field of this name is not allowed; give {allowed}."
        else:
            message = f"{field}: {_shown(first['input'])} is not allowed; give {allowed}."
        raise InvalidOptions(message, field=field) from error


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def _at(schema: Mapping[str, Any], loc: Sequence[str | int]) -> Mapping[str, Any]:
    """The part of a JSON schema that describes the value at ``loc``; empty where there is none."""
    found: Mapping[str, Any] = schema
    for part in loc:
        found = _resolved(found, schema)
        found = found.get("items", {}) if isinstance(part, int) else found.get("properties", {}).get(part, {})
    return _resolved(found, schema)


def _resolved(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = part.get("$ref", "").rpartition("/")[2]
    return {**schema["$defs"][name], **part} if name else part


def _allowed(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What a part of a JSON schema allows, in words; ``x-allowed`` where the schema's author says it better."""
    match part:
        case {"x-allowed": str(words)}:
            return words
        case {"enum": [*values]}:
            return f"one of {', '.join(map(str, values))}"
        case {"type": "object", "properties": fields}:
            return f"a JSON object with {', '.join(fields)}"
        case {"type": "array"}:
            items = _allowed(_resolved(part["items"], schema), schema)
            return f"a list; each item is {items}"
        case {"type": "integer" | "number" as kind}:
            whole = "a whole number" if kind == "integer" else "a number"
            top = part.get("maximum", part.get("exclusiveMaximum", 1) - 1)
            return f"{whole} from {part.get('minimum', 0):g} to {_number(top)}"
        case {"type": "boolean"}:
            return "true or false"
        case {"type": "string"}:
            least = part.get("minLength", 0)
            return (
                f"a text of {f'{least} to' if least else 'at most'} {part.get('maxLength', 'any number of')} characters"
            )
    return "what the OpenAPI document says"


def _number(value: float) -> str:
    return str(int(value)) if value < 10**12 else f"{value:.2g}"
