"""The chart's page names every value of the chart, and none that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((CLONE / "helm" / "daas-hub" / "values.schema.json").read_text())
PAGE = (CLONE / "docs" / "reference" / "chart.md").read_text()


def values(node: dict[str, Any], above: str = "") -> Iterator[str]:
    """Every value by its path, as far as the schema names them."""
    if "$ref" in node:
        node = SCHEMA["definitions"][node["$ref"].rpartition("/")[2]]
    inner = node.get("properties", {})
    if not inner:
        yield above
    for name, child in inner.items():
        yield from values(child, f"{above}.{name}" if above else name)


def test_every_value_is_in_the_reference() -> None:
    there = set(values(SCHEMA)) - {"global"}
    named = set(re.findall(r"`([a-z]\w*(?:\.\w+)*)`", " ".join(re.findall(r"^\| (.*?) \| ", PAGE, re.M))))
    named |= {name for name in there if f"`{name}`" in PAGE}
    assert len(there) > 25
    assert named == there
