"""What the hub may store as options before any spawner is asked (design.md §4.6).

POST, PUT and PATCH of a server commit the body's ``user_options`` first. Deeply nested ones can be written and not
read again, which ends every page that lists servers and the hub's next start; so the column takes only what
``kept_options.shrunk`` leaves. The hub's ORM class is the one place that all three ways pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jupyterhub import orm

from .kept_options import shrunk


def install() -> None:
    """Shrink whatever is assigned to a server's stored options from now on. Idempotent."""
    # The hub's own name for SQLAlchemy's events: only `db` may import SQLAlchemy.
    if not orm.event.contains(orm.Spawner.user_options, "set", _shrink):
        orm.event.listen(orm.Spawner.user_options, "set", _shrink, retval=True)


def _shrink(_spawner: Any, value: Any, _old: Any, _initiator: Any) -> Any:
    return shrunk(value) if isinstance(value, Mapping) else None
