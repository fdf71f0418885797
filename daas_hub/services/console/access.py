"""Who is asking the console, and what she may do: decided from the hub's own model of the token, and nothing else.

Only the scopes in the model count. A scope with a filter (``custom:daas:quota:write!group=x``) is not held: a filter
that is ignored would give more than was granted. The rights on groups alone have a smaller form, for one group each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

QUOTA_READ = "custom:daas:quota:read"
QUOTA_WRITE = "custom:daas:quota:write"
AUDIT_READ = "custom:daas:audit:read"
ACCOUNTS_WRITE = "custom:daas:accounts:write"
LOGS_READ = "custom:daas:logs:read"
GROUPS_READ = "custom:daas:groups:read"
GROUPS_WRITE = "custom:daas:groups:write"
METRICS_READ = "read:metrics"
"""The hub's own scope for its metrics: one token of Prometheus reads both."""
ADMIN_UI = "admin-ui"
"""The hub's own scope for its admin panel: who holds it gets the link there. It opens nothing here."""
ANYBODY = ""
"""The "scope" of what every signed-in person may do."""

CUSTOM_SCOPES: Mapping[str, Mapping[str, Any]] = {
    # To answer "why was she refused" one must see everybody's launches and limits.
    QUOTA_READ: {"description": "See the launches, limits, usage and volumes of everybody"},
    # Changes what everybody may use, and can declare a server lost: apart from reading.
    QUOTA_WRITE: {
        "description": "Change limits, and declare servers lost that cannot be stopped",
        "subscopes": [QUOTA_READ],
    },
    # The audit names who did what and why: a data protection officer may need it, and nothing else.
    AUDIT_READ: {"description": "Read who changed limits and accounts, when and why"},
    # Who works with whom may be nobody else's business; with a filter (!group=x) only that group.
    GROUPS_READ: {"description": "See the groups, where they come from and who is in them"},
    # A group may open profiles and make administrators. With a filter only members of that local group.
    GROUPS_WRITE: {"description": "Make and delete local groups and change who is in them", "subscopes": [GROUPS_READ]},
    # What a server prints may show what somebody works on: more than the numbers about it.
    LOGS_READ: {"description": "Read the log of anybody's server"},
    # Decides as which uid a server runs, which is more than any limit: apart from the rest.
    ACCOUNTS_WRITE: {
        "description": "Confirm changed uids, enter POSIX accounts by hand, and decide who comes into whose account"
    },
}
"""What `configure(c)` defines as ``c.JupyterHub.custom_scopes``: scope → description, each with its reason."""


LINKS = (
    ("", "My usage", ANYBODY),
    ("admin/launches", "Launches", QUOTA_READ),
    ("admin/limits", "Limits", QUOTA_READ),
    ("admin/groups", "Groups", GROUPS_READ),
    ("admin/volumes", "Volumes", QUOTA_READ),
    ("admin/audit", "Audit", AUDIT_READ),
    ("admin/accounts", "Accounts", ACCOUNTS_WRITE),
    ("admin/identities", "Identities", ACCOUNTS_WRITE),
    ("admin/requests", "Requests", ACCOUNTS_WRITE),
)
"""Path → text → the scope that shows the link."""


def right(scope: str) -> str:
    """What a scope allows, as it stands after "may" in a sentence: people do not know the names of scopes."""
    text = str(CUSTOM_SCOPES.get(scope, {}).get("description", "read the numbers of this service"))
    return text[0].lower() + text[1:]


@dataclass(frozen=True)
class Person:
    """Somebody the hub vouches for: a user, or a service with a token of its own."""

    name: str
    kind: str
    groups: tuple[str, ...]
    scopes: frozenset[str]

    @classmethod
    def from_model(cls, model: Mapping[str, Any]) -> Person:
        """From the answer of the hub's ``/api/user`` to the token that came with the request."""
        return cls(
            name=str(model["name"]),
            kind=str(model.get("kind", "user")),
            groups=tuple(sorted(str(g) for g in model.get("groups") or ())),
            scopes=frozenset(str(s) for s in model.get("scopes") or ()),
        )

    def may(self, scope: str, group: str | None = None) -> bool:
        """True where the scope is held, unfiltered, or for this one group."""
        return scope in self.scopes or (group is not None and f"{scope}!group={group}" in self.scopes)

    def may_somewhere(self, scope: str) -> bool:
        """True where the scope is held, if only for some group."""
        return any(held == scope or held.startswith(f"{scope}!group=") for held in self.scopes)

    @property
    def by(self) -> str:
        """How the audit names her."""
        return f"{'admin' if self.kind == 'user' else 'service'}:{self.name}"
