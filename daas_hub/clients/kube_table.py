"""Answers of the Kubernetes API as tables: a row of some 200 bytes instead of an object of 5 to 20 KB.

See "Receiving resources as Tables" in Kubernetes' API concepts. A server, or a proxy before it, may refuse tables
(406, 415) or answer with whole objects; its columns are made for people and may change. Whatever does not fit raises
``UnfitTable``: whoever asked takes whole objects then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daas_hub.core.models import Json

ACCEPT = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
"""A table where the server can, else the object: one question in both cases."""
REFUSED = frozenset({406, 415})
"""What a server or proxy answers that does not know this Accept."""


class UnfitTable(Exception):
    """The table lacks what we read of it; the text says what."""


def is_table(answer: Json) -> bool:
    """Whether an answer, or the object of an event, is a table: asked for is not given."""
    return answer.get("kind") == "Table"


class Columns:
    """Where the wanted columns stand in a row."""

    def __init__(self, definitions: Any, wanted: Sequence[str]) -> None:
        names = [column.get("name") for column in definitions or () if isinstance(column, dict)]
        if missing := [name for name in wanted if names.count(name) != 1]:
            raise UnfitTable(f"its columns are {names}, not once each: {', '.join(missing)}")
        self._at = [names.index(name) for name in wanted]
        self._wanted, self._width = tuple(wanted), len(names)

    def pick(self, row: Any) -> tuple[str, ...]:
        """The wanted cells of one row, and the types of its conditions: with them a row is marked as one that is over.

        The first cell is a name, so it is not empty.
        """
        cells = row.get("cells") if isinstance(row, dict) else None
        if not isinstance(cells, list) or len(cells) != self._width:
            raise UnfitTable(f"a row has not {self._width} cells: {row!r:.200}")
        found = tuple([cells[at] for at in self._at])
        if not found[0] or not all(type(cell) is str for cell in found):
            raise UnfitTable(f"a row's cells {self._wanted} are not text: {row!r:.200}")
        marks = row.get("conditions") or ()
        return (*found, ",".join(str(mark.get("type")) for mark in marks)) if marks else (*found, "")


def version_of(table: Json) -> str:
    """The version to go on from; old servers gave none in the tables of a watch."""
    version = (table.get("metadata") or {}).get("resourceVersion")
    if not isinstance(version, str) or not version:
        raise UnfitTable("it has no resourceVersion")
    return version
