"""Logins at once in one process, by our authenticator or the peer's; run by the Python of either, one line of JSON.

argv: ``daas_hub.auth.ldap:DaasLDAPAuthenticator`` or the peer's class, its settings, people, all as JSON; then for each
line on stdin the people sign in at once, and the answer is the seconds of each and the loop's longest gap.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from types import SimpleNamespace
from typing import Any

from traitlets.config import Config

HANDLER = SimpleNamespace(request=SimpleNamespace(remote_ip="127.0.0.1", headers={}, connection=None))


async def logins(authenticator: Any, people: dict[str, str]) -> dict[str, Any]:
    """All at once; every one of them must be let in."""
    gap, ended = 0.0, False

    async def watch() -> None:
        nonlocal gap
        last = time.perf_counter()
        while not ended:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            gap, last = max(gap, now - last - 0.005), now

    async def one(name: str, password: str) -> float:
        model = await authenticator.authenticate(HANDLER, {"username": name, "password": password})
        assert model, f"{name} is not let in"
        # From the moment when all of them pressed the button, whoever is served first.
        return time.perf_counter() - start

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0.05)
    start = time.perf_counter()
    times = await asyncio.gather(*(one(*person) for person in people.items()))
    await asyncio.sleep(0.02)
    ended = True
    await watching
    return {"times": times, "gap_s": gap}


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    cls = getattr(importlib.import_module(module), name)
    settings = json.loads(sys.argv[2])
    for key in ("allowed_groups", "admin_groups"):
        if key in settings and name.startswith("Daas"):
            settings[key] = set(settings[key])
    authenticator = cls(config=Config({name: settings}))
    people = json.loads(sys.argv[3])
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(asyncio.run(logins(authenticator, people))), flush=True)


main()
