"""A server dies and its owner presses Start at once, again and again: nothing is left of the dead ones."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from daas_hub.core.models import ACTIVE
from tests.faults.aftermath import differences, faulty_site
from tests.flow.site import Site
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

ROUNDS = 10
NAMES = ("ada", "bob", "boss")


async def started(site: Site, name: str) -> None:
    """Press Start until it starts; "pending" is the hub's word for a moment ago, anything else is a fault."""

    async def press() -> bool:
        status, answer = await site.hub.api("POST", f"users/{name}/server")
        assert status in (201, 202) or (status == 400 and "pending" in answer["message"]), (status, answer)
        return status != 400

    await until(press, within_s=10, every_s=0.05, what=f"{name} starts again")
    await until(lambda: ready(site, name), within_s=20, every_s=0.05, what=f"{name} is ready")


async def ready(site: Site, name: str) -> bool:
    model = await site.hub.server(name)
    return bool(model and model["ready"])


def active(site: Site) -> set[str]:
    return {r.id for r in site.launches() if r.state in ACTIVE}


async def test_nothing_is_left_and_nothing_fails() -> None:
    async with faulty_site(*NAMES) as site:
        for name in NAMES:
            await started(site, name)
        for _ in range(ROUNDS):
            for name in NAMES:
                before = active(site)
                (pid,) = site.servers(name)
                os.kill(pid, signal.SIGKILL)
                await until(lambda known=before: active(site) != known, within_s=10, what="the end is settled")
                await started(site, name)
        assert differences(site) == []
        log = site.hub.log_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
        await site.stop_servers()
        await until(lambda: not active(site), within_s=20, what="all stopped")
        assert differences(site) == []


async def test_settings_come_home_before_the_next_start() -> None:
    async with faulty_site("ada") as site:
        await started(site, "ada")
        (pid,) = site.servers("ada")
        environment: dict[str, Any] = dict(
            entry.split("=", 1) for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in entry
        )
        settings = Path(environment["JUPYTERLAB_SETTINGS_DIR"])
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "theme.json").write_text("{}")
        for path in (settings / "theme.json", settings):
            os.chown(path, site.person("ada").uid, site.person("ada").gid)
        before = active(site)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: active(site) != before, within_s=10, what="the end is settled")
        await started(site, "ada")
        (pid,) = site.servers("ada")
        entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
        new = Path(next(e for e in entries if e.startswith("JUPYTERLAB_SETTINGS_DIR=")).partition("=")[2])
        assert new != settings
        assert (new / "theme.json").read_text() == "{}"
