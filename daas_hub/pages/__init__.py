"""Templates and static files in the hub's look. Only paths: nothing here renders anything.

``templates/daas/…`` is namespaced, so it never collides with an operator's own pages. ``overrides`` holds one-line
pages named as the hub's, which extend ours; it is searched after the operator's folders, so the operator's page
wins, and keeps our parts by ``{% extends "daas/home.html" %}`` instead of ``"templates/home.html"``.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

TEMPLATES = _HERE / "templates"
OVERRIDES = _HERE / "overrides"
STATIC = _HERE / "static"

TEMPLATE_PATHS = (str(TEMPLATES), str(OVERRIDES))
"""What `configure(c)` appends to ``c.JupyterHub.template_paths``, in this order."""
