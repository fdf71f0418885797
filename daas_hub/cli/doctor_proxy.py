"""What ``daas-hub doctor`` says of a proxy where hub, proxy and servers speak TLS (JupyterHub's internal_ssl)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.proxy import ConfigurableHTTPProxy

from daas_hub.clients.proxy_look import Came, Proxy, follow, towards
from daas_hub.core.errors import BackendUnavailable, ConfigError
from daas_hub.core.launch_names import name_of
from daas_hub.core.naming import new_id
from daas_hub.wiring.launch_names import HOOK

from .adopt_hub import EVERYWHERE, tls_of
from .finding import Finding

WHAT = "proxy"
GUIDE = "docs/howto/internal-tls.md"
WITH_HOOK = f'start it with NODE_OPTIONS="--require={HOOK}", or a copy of that file ({GUIDE})'
BY_HAND = f"see to it that its Node has --require={HOOK} ({GUIDE})"


def proxy(app: Any, within_s: float) -> Iterator[Finding]:
    """Whether the proxy connects to servers by the names that their certificates have. The hub need not run.

    A proxy that is started elsewhere is asked by a route of its own, which nobody knows and which is taken away again.
    """
    if not app.internal_ssl:
        return
    if not issubclass(app.proxy_class, ConfigurableHTTPProxy):
        found = (
            f"{app.proxy_class.__name__} is not Node's: whether it finds servers by their launches' names is not known"
        )
        yield Finding("note", WHAT, found, f"see what {GUIDE} says of SlurmBackend.launch_names")
        return
    try:
        # Its own log would tell of a token that it makes for itself.
        made = app.proxy_class(parent=app, app=app, log=logging.getLogger(__name__))
    except ValueError as error:
        yield Finding("note", WHAT, f"cannot be looked at: {error}", "run the doctor with the hub's environment")
        return
    if made.should_start:
        yield Finding("ok", WHAT, "the hub starts it, and gives it the hook that servers' names need")
        return
    yield _external(app, made, within_s)


def _external(app: Any, made: ConfigurableHTTPProxy, within_s: float) -> Finding:
    if urlsplit(made.api_url).scheme not in ("http", "https"):
        return Finding("note", WHAT, f"cannot be looked at: its API is at {made.api_url}", BY_HAND)
    public, domain = urlsplit(app.bind_url), urlsplit(app.subdomain_host).hostname or ""
    host = "127.0.0.1" if public.hostname in EVERYWHERE else public.hostname
    port = public.port or (443 if public.scheme == "https" else 80)
    scheme = "https" if app.ssl_cert else public.scheme
    at = f"{scheme}://{f'[{host}]' if ':' in str(host) else host}:{port}"
    try:
        tls = tls_of(app) if made.api_url.startswith("https:") else {}
        asked = Proxy(made.api_url, made.auth_token, at, domain, tls)
        return verdict(asked.api_url, *asyncio.run(_seen(asked, within_s)))
    except ConfigError as error:
        return Finding("note", WHAT, f"cannot be looked at yet: {error}", "start the hub once, and look again")
    except BackendUnavailable as error:
        fix = "start it; JupyterHub.bind_url and ConfigurableHTTPProxy.api_url say where it listens"
        return Finding("error", WHAT, error.message, fix)


async def _seen(asked: Proxy, within_s: float) -> tuple[Came, Came, str]:
    """What arrives of a connection to this machine's address, and of one to a launch's name on it; that name."""
    address = await towards(asked, within_s)
    name = name_of(new_id(), address)
    return await follow(asked, address, address, within_s), await follow(asked, address, name, within_s), name


def verdict(where: str, by_address: Came, by_name: Came, name: str) -> Finding:
    """What that means; where nothing arrives by the address either, a firewall may be between them."""
    if by_name.connected and by_name.name == name:
        return Finding(
            "ok", WHAT, f"the proxy at {where} finds servers by their launches' names, and checks these names"
        )
    if by_name.connected:
        found = (
            f'the proxy at {where} checks a server\'s certificate for "{by_name.name}", the name that the browser '
            "says, and not for the server's: it refuses every server"
        )
        return Finding("error", WHAT, found, WITH_HOOK)
    if by_address.connected:
        found = (
            f"the proxy at {where} does not find {name}, as launches are called: it has not been given the hook, and "
            "answers 503 for every server"
        )
        return Finding("error", WHAT, found, WITH_HOOK)
    return Finding(
        "note",
        WHAT,
        f"the proxy at {where} does not reach this machine, so it cannot be seen what it connects to",
        BY_HAND,
    )
