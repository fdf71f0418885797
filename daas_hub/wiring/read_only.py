"""Pages of whom the directory has told nothing for too long: they can be looked at, and change nothing.

JupyterHub asks the authenticator about a request at most every few minutes, and has no other place that each request
passes; so this is put before its handlers' own ``prepare`` is over (docs/decisions/0109).
"""

from __future__ import annotations

from typing import Any

from jupyterhub.handlers.base import BaseHandler
from tornado import web

from daas_hub.core.access import READ_ONLY

from .sweep import read_only

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def install() -> None:
    """Once for a process. Requests with a token, of people and of services, go on as they were."""
    if not hasattr(BaseHandler, "_token_authenticated"):
        # JupyterHub 6.1 asks for it where a refresh says no, and sets it for tokens only: pages ended with 500.
        BaseHandler._token_authenticated = False
    theirs = BaseHandler.prepare
    if getattr(theirs, "looks_at_reading", False):
        return

    async def prepare(self: Any) -> None:
        await theirs(self)
        by_browser = self.current_user is not None and not getattr(self, "_token_authenticated", False)
        if by_browser and self.request.method not in SAFE and read_only(self.current_user):
            raise web.HTTPError(503, READ_ONLY, reason="Only to look at just now")

    prepare.looks_at_reading = True  # type: ignore[attr-defined]
    BaseHandler.prepare = prepare
