"""The console's reference names every path, scope, page, metric and template that exists."""

from __future__ import annotations

import re
from pathlib import Path

import daas_hub.pages as files
from daas_hub.services.console import pages
from daas_hub.services.console.access import CUSTOM_SCOPES
from daas_hub.services.console.metrics import Metrics
from daas_hub.services.console.operations import OPERATIONS

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "console.md").read_text()


def test_every_operation_with_its_scope_is_documented() -> None:
    row = re.compile(r"^\| (GET|POST|PUT|DELETE) \| `([^`]+)` \|\s*`?([^`|]*?)`?\s*\|", re.MULTILINE)
    documented = {(method, path, scope) for method, path, scope in row.findall(TEXT)}
    assert documented == {(o.method, o.path, o.scope) for o in OPERATIONS}


def test_every_query_parameter_is_documented() -> None:
    for operation in OPERATIONS:
        line = next(li for li in TEXT.splitlines() if f"| {operation.method} | `{operation.path}` |" in li)
        assert all(f"`{query.name}`" in line for query in operation.query), line


def test_every_page_scope_metric_and_template_is_documented() -> None:
    assert all(f"`/services/daas/{path}`" in TEXT for path, _, _ in pages.LINKS)
    assert all(f"| `{scope}` |" in TEXT for scope in CUSTOM_SCOPES)
    metrics = [metric.name for metric in Metrics().registry.collect()]
    assert len(metrics) == 4
    assert all(f"| `{name}` |" in TEXT for name in metrics)
    for override in files.OVERRIDES.glob("*.html"):
        assert f"`daas/{override.name}`" in TEXT
        assert override.read_text() == f'{{% extends "daas/{override.name}" %}}\n'


def test_shipped_files_have_no_inline_code() -> None:
    for page in (files.TEMPLATES / "daas" / "console").glob("*.html"):
        text = page.read_text()
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=|javascript:", text), page
