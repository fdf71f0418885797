"""The base of routes that take one short JSON object from a program, and nothing longer."""

from __future__ import annotations

import json
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from daas_hub.core.errors import DaasError
from daas_hub.spawners.runtime import DaasHub

RETRY_AFTER_S = 5
THROWN_AWAY_BYTES = 64 * 2**10
"""Of a body that is too long: so much is read and thrown away before it is answered. A hub that closes while a proxy
still sends is taken for one that is down: the sender hears 503, and tries again what is refused for good."""


@web.stream_request_body
class SmallBody(APIHandler):
    """``max_body_bytes``: of one short object; whatever sends more is none of our programs."""

    max_body_bytes = 256
    _accept_cookie_auth = False

    def initialize(self, site: DaasHub) -> None:
        """What the wiring knows."""
        self.site = site
        self._body = b""

    async def prepare(self) -> None:
        """A body that is announced as much too long is not waited for."""
        length = self.request.headers.get("Content-Length", "0")
        if len(length) > 6 or not length.isdecimal() or int(length) > max(self.max_body_bytes, THROWN_AWAY_BYTES):
            raise self._too_long()
        await super().prepare()

    def data_received(self, chunk: bytes) -> None:
        """Keep no more than says that it is too long."""
        self._body = (self._body + chunk)[: self.max_body_bytes + 1]

    def told(self) -> Any:
        """What the body says; None for what is no JSON. Raises 413."""
        if len(self._body) > self.max_body_bytes:
            raise self._too_long()
        try:
            return json.loads(self._body)
        except (ValueError, RecursionError):
            return None

    def refuse(self, error: DaasError) -> None:
        """Answer with an error's status, reason and message."""
        self.set_status(error.status)
        if error.retry_after_s or error.status == 503:
            self.set_header("Retry-After", str(int(error.retry_after_s or RETRY_AFTER_S)))
        self.finish({"status": error.status, "reason": error.reason, "message": error.message})

    def _too_long(self) -> web.HTTPError:
        return web.HTTPError(413, f"The body has at most {self.max_body_bytes} bytes.")
