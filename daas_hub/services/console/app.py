"""The console as one tornado application: settings, routes, and the two paths that machines ask."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

from jupyterhub.services.auth import HubOAuth
from markupsafe import Markup
from tornado.web import Application, RequestHandler, StaticFileHandler

from daas_hub import pages as page_files

from . import api, identity_pages, pages
from .access import METRICS_READ
from .handler import CallbackHandler, ConsoleHandler, hub_auth, security_headers
from .metrics import Metrics
from .models import Problem
from .presentation import environment
from .store import Store


class Health(RequestHandler):
    """Says only whether the console answers and whether its ledger does: for probes, without a token."""

    async def get(self) -> None:
        ledger = await self.settings["store"].healthy()
        self.set_status(200 if ledger else 503)
        self.finish({"status": "ok" if ledger else "unavailable", "ledger": "ok" if ledger else "unavailable"})


class MetricsHandler(ConsoleHandler):
    """For Prometheus, with a token that holds the hub's own scope for metrics."""

    needs = {"GET": METRICS_READ}  # noqa: RUF012  read only, as in every handler

    async def get(self) -> None:
        metrics: Metrics = self.settings["metrics"]
        self.set_header("Content-Type", metrics.content_type)
        self.finish(await metrics.text(self.settings["store"]))

    def answer_error(self, problem: Problem) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(problem.message + "\n")


class Static(StaticFileHandler):
    """Our style. The same for everybody, so no sign-in and no per-person caching."""

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002  tornado calls it so
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "max-age=3600")


def application(
    store: Store, *, prefix: str, shared_uid: bool, log: logging.Logger, announcement: str = ""
) -> Application:
    """The application that serves ``prefix`` (with both slashes). ``announcement`` is the operator's HTML.

    JupyterHub's variables are in the environment."""
    auth: HubOAuth = hub_auth(log)
    metrics = Metrics()
    settings: dict[str, Any] = {
        "store": store,
        "log": log,
        "metrics": metrics,
        "prefix": prefix,
        "hub_prefix": f"{auth.hub_host}{auth.hub_prefix}",
        "shared_uid": shared_uid,
        "announcement": Markup(announcement),  # noqa: S704  the operator's own, which the hub's pages print as it is
        "templates": environment(),
        "security_headers": security_headers(auth.hub_host),
        "cookie_secret": os.urandom(32),
        "log_function": metrics.log_request,
    }
    here = re.escape(prefix)
    routes: list[Any] = [
        (f"{here}oauth_callback", CallbackHandler),
        (f"{here}health", Health),
        (f"{here}metrics", MetricsHandler),
        (f"{here}static/(.*)", Static, {"path": str(page_files.STATIC)}),
        *api.routes(prefix),
        *identity_pages.routes(prefix),
        *pages.routes(prefix),
    ]
    return Application(routes, **settings)
