"""npm's oidc-provider, a certified OpenID provider, in a process of its own.

It signs everybody in at once, as the ``person`` of its control address. Refresh tokens rotate, a second use of one ends
the sign-in, tokens end by a clock that tests move.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.servers.forgeries import CLIENT, SECRET
from tests.servers.hub import http_call
from tests.servers.npm import npm_ci
from tests.servers.ports import free_port
from tests.servers.visitor import Visitor, location
from tests.waiting import until

HERE = Path(__file__).parent
PEOPLE = {"sub-of-ada": {"name": "Ada", "preferred_username": "ada", "groups": ["lab"]}}


class OidcProvider:
    """One provider with one client. ``callback``: the address that it is registered with."""

    def __init__(self, root: Path, callback: str) -> None:
        self.root = root
        self.callback = callback
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.log = root / "oidc-provider.log"
        self.process: subprocess.Popen[bytes] | None = None

    def env(self) -> dict[str, str]:
        """Nothing that others need."""
        return {}

    async def start(self) -> OidcProvider:
        """Start it and wait until it is discovered."""
        node = shutil.which("node")
        assert node is not None
        modules = self.root / "node_modules"
        if not modules.exists():
            # Node looks for modules beside the script.
            modules.symlink_to(npm_ci(HERE))
            shutil.copy(HERE / "provider.mjs", self.root)
        client = {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "redirect_uris": [self.callback],
            "grant_types": ["authorization_code", "refresh_token"],
        }
        settings = {"port": self.port, "client": client, "people": PEOPLE}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [node, str(self.root / "provider.mjs"), json.dumps(settings)],
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        await until(self._answers, within_s=60, what=f"oidc-provider; its log: {self.log}", every_s=0.05)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            return http_call("GET", f"{self.issuer}/.well-known/openid-configuration", None, {})[0] == 200
        except OSError:
            return False

    async def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.process = None

    def control(self, **what: Any) -> None:
        """``ahead_s``: move its clock; ``person``: who signs in next; ``claims``: hers, as JSON; ``gone``: no more."""
        status, answer = http_call("GET", f"{self.issuer}/control?{urlencode(what)}", None, {})
        assert status == 200, answer

    async def approve(self, url: str) -> str:
        """A fresh browser goes to ``url`` and on until it is sent back to the hub: that address."""
        who = Visitor(self.issuer)
        for _ in range(6):
            url = location(await who.get(url))
            if url.startswith(self.callback):
                return url
        raise AssertionError(f"not sent back: {url}")
