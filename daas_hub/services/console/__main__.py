"""The console's process: ``python -m daas_hub.services.console``, started by the hub as a managed service."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer

from daas_hub.clients.hub import HubClient
from daas_hub.core.errors import ConfigError
from daas_hub.services.parent import end_with_parent
from daas_hub.services.settings import Environment

from .app import application
from .handler import MAX_BODY_BYTES
from .store import Store

log = logging.getLogger("daas_hub.console")


def setting(name: str) -> str:
    """A variable that the hub must have set; raises ConfigError naming it."""
    value = os.environ.get(name, "")
    if not value:
        raise ConfigError(f"The environment variable {name} is not set: the hub sets it for the service `daas`.")
    return value


def shared_uid(config: Mapping[str, Any]) -> bool:
    """True where the operator lets everybody run under one uid: every page then says so."""
    return bool(config.get("LocalBackend", {}).get("allow_shared_uid", False))


async def serve(environment: Environment) -> None:
    """Serve until SIGTERM, SIGINT or the end of the hub."""
    address = urlsplit(setting("JUPYTERHUB_SERVICE_URL"))
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    end_with_parent(environment.hub_pid, lambda: loop.call_soon_threadsafe(ended.set))
    hub = HubClient(environment.api_url, environment.api_token, tls=environment.tls)
    store = Store(environment.ledger_url, hub)
    app = application(
        store,
        prefix=setting("JUPYTERHUB_SERVICE_PREFIX"),
        shared_uid=shared_uid(environment.config),
        announcement=str(environment.config.get("Console", {}).get("announcement", "")),
        log=log,
    )
    server = HTTPServer(app, max_body_size=MAX_BODY_BYTES, xheaders=True)
    server.listen(address.port or 80, address.hostname or "127.0.0.1")
    log.info("The console listens on %s:%s", address.hostname, address.port)
    await ended.wait()
    server.stop()
    await server.close_all_connections()
    await store.close()


def main() -> None:
    """The entry point; a setting that cannot work ends it with one line."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname).1s %(asctime)s %(name)s] %(message)s")
    # JupyterHub's helpers tell there, at INFO, of every cookie with the session's id in it.
    logging.getLogger("tornado.application").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(Environment.read(os.environ)))
    except ConfigError as error:
        raise SystemExit(error.log_message) from error


if __name__ == "__main__":
    main()
