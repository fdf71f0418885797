"""The pure-Python proxy (configurable-http-proxy 0.4 of PyPI), started as well as it can be: the demo's last resort.

By itself it stamps activity in local time without a zone, which the hub takes for UTC; gives up on a reply that takes
longer than 20 s, a start's progress among them; and passes on ten requests at once. These three can be set from
outside. What cannot be is said to people: ``proxy_command.LACKS``.
"""

from __future__ import annotations

import os
import time

from tornado.httpclient import AsyncHTTPClient

REPLY_WITHIN_S = 600.0
"""Longer than a start of the demo may take (120 s), and bounded: the proxy goes on waiting when its client is gone."""
REQUESTS_AT_ONCE = 100


def prepare() -> None:
    """Set what the proxy takes from its process: the zone of its times, and the bounds of its HTTP client."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    AsyncHTTPClient.configure(None, max_clients=REQUESTS_AT_ONCE, defaults={"request_timeout": REPLY_WITHIN_S})


def main() -> None:
    """The proxy's own command, with the arguments that the hub gives it."""
    prepare()
    from configurable_http_proxy.cli import main as proxy

    proxy()


if __name__ == "__main__":
    main()
