"""``scripts/demo`` as a process, and the people in it as they sign in with nothing but HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.cookiejar
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from daas_hub.clients import processes
from daas_hub.demo import setup
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


def demo_python() -> Path:
    """A Python with daas_hub that every account can execute: our own, or the demo's environment."""
    own = Path(sys.executable)
    if os.geteuid() != 0 or (setup.reachable(own) and setup.reachable(Path(os.__file__).parent)):
        return own
    return setup.ensure("demo")


class DemoServer:
    """One run of the demo. ``user``: (uid, gid) to run it as; only root can choose."""

    def __init__(self, root: Path, *options: str, user: tuple[int, int] | None = None) -> None:
        self.root = root
        self.options = options
        self.user = user
        self.ready_file = root / "ready.json"
        self.log = root / "demo.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}

    async def start(self, *, within_s: float = 60) -> DemoServer:
        """Start it and wait for the ready file."""
        python = await asyncio.to_thread(demo_python)
        argv = [str(python), "-P", "-m", "daas_hub.cli", "demo", "--no-open", "--ready-file", str(self.ready_file)]
        more: dict[str, Any] = {}
        if self.user is not None:
            more = {"user": self.user[0], "group": self.user[1], "extra_groups": []}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, *self.options],
                cwd="/",
                env=self.env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **more,
            )
        await until(self._is_ready, within_s=within_s, what=f"ready file; log {self.log}", every_s=0.1)
        self.ready = json.loads(self.ready_file.read_text())
        return self

    def env(self) -> dict[str, str]:
        """As little as a person's terminal has."""
        kept = {name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ}
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.root), **kept}

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the demo ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
        return self.ready_file.exists()

    def log_text(self) -> str:
        """What a person sees in the terminal."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def url(self) -> str:
        """Where people go."""
        return str(self.ready["url"])

    @property
    def dir(self) -> Path:
        """The demo's folder."""
        return Path(self.ready["dir"])

    def person(self, **wanted: Any) -> dict[str, Any]:
        """The first person whose row has these values; without any, one who can do ordinary things."""
        wanted = wanted or {"admin": False, "locked": False, "over_quota": False}
        found: dict[str, Any] = next(
            p for p in self.ready["people"] if all(p[key] == value for key, value in wanted.items())
        )
        return found

    def processes(self) -> list[processes.ProcessId]:
        """Hub, proxy, services: every living process that carries this demo's mark."""
        mark = f"DAAS_HUB_ID={json.loads((self.dir / 'state/hub_id.json').read_text())}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    known = processes.identify(int(entry.name))
                    found += [known] if known else []
            except OSError:
                continue
        return found

    def command_lines(self) -> list[bytes]:
        """Of these processes, as far as they have not ended meanwhile."""
        found = []
        for process in self.processes():
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        return found

    async def end(self, number: int = signal.SIGINT, *, within_s: float = 60) -> int:
        """Send a signal (Ctrl-C by default) and wait for the end; returns the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        await until(lambda: self.process and self.process.poll() is not None, within_s=within_s, what="demo gone")
        return int(self.process.returncode)

    async def stop(self) -> None:
        """For fixtures: end it if it still runs."""
        if self.process is not None and self.process.poll() is None:
            await self.end()


class Visitor:
    """One person with a cookie jar."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )

    async def call(self, method: str, path: str, body: Any = None, *, form: bool = False) -> tuple[int, str]:
        """One request as the page's own script would make it: status and text."""
        return await asyncio.to_thread(self._call, method, path, body, form)

    def _call(self, method: str, path: str, body: Any, form: bool) -> tuple[int, str]:
        headers = {"X-XSRFToken": self.xsrf("/services/daas/" if path.startswith("/services/daas/") else "/hub/")}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
            data = urllib.parse.urlencode(body).encode() if form else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method, headers=headers)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One call of the hub's REST interface with her cookies; the answer is JSON where it is JSON."""
        status, text = await self.call(method, f"/hub/api/{path}", body)
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def xsrf(self, of: str = "/hub/") -> str:
        """The hub's or the console's token against forged requests, as it stands in the cookie."""
        return next((c.value or "" for c in self.jar if c.name == "_xsrf" and c.path == of), "")

    async def sign_in(self, person: dict[str, Any], *, password: str | None = None) -> tuple[int, str]:
        """Fill in the login form."""
        await self.call("GET", "/hub/login")
        form = {"username": person["name"], "password": password or person["password"], "_xsrf": self.xsrf()}
        answer = await self.call("POST", "/hub/login?next=%2Fhub%2Fhome", form, form=True)
        await self.call("GET", "/hub/home")
        return answer
