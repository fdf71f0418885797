"""The REST interface as one table, and OpenAPI 3.1 made from it and from the pydantic models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from daas_hub.core.version import VERSION

from .access import CUSTOM_SCOPES
from .models import Problem

_REF = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Query:
    """One parameter of the query string."""

    name: str
    help: str
    type: str = "string"


@dataclass(frozen=True)
class Operation:
    """One method of one REST path."""

    method: str
    path: str
    summary: str
    scope: str
    """The scope it needs; empty: every signed-in person."""
    answer: type[BaseModel] | None = None
    """None: 204 without a body."""
    body: type[BaseModel] | None = None
    query: tuple[Query, ...] = ()
    status: int = 200


def document(operations: Iterable[Operation], prefix: str) -> dict[str, Any]:
    """The OpenAPI document. ``prefix`` is the path under which the table's paths are served."""
    operations = list(operations)
    used = {m for o in operations for m in (o.body, o.answer) if m is not None} | {Problem}
    ordered = sorted(used, key=lambda m: m.__name__)
    _, schemas = models_json_schema([(m, "validation") for m in ordered], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(f"/{operation.path}", {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "daas_hub console", "version": VERSION, "license": {"name": "BSD-3-Clause"}},
        "servers": [{"url": prefix.rstrip("/")}],
        "security": [{"hub": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "hub": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`token <a token of the hub>`. Scopes: "
                    + "; ".join(f"`{name}`: {d['description']}" for name, d in CUSTOM_SCOPES.items()),
                }
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "description": f"Needs the scope `{operation.scope}`." if operation.scope else "For every signed-in person.",
        "responses": {str(operation.status if operation.answer else 204): _answer(operation)},
    }
    made["responses"]["default"] = {"description": "Refused", "content": _content(Problem)}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    parameters += [
        {"name": q.name, "in": "query", "description": q.help, "schema": {"type": q.type}} for q in operation.query
    ]
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": _content(operation.body)}
    return made


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.answer is None:
        return {"description": "Done"}
    return {"description": "The answer", "content": _content(operation.answer)}


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}


def _operation_id(operation: Operation) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", operation.path.lower()).strip("_")
    return f"{operation.method.lower()}_{words}"
