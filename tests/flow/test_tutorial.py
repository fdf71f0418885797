"""The steps of docs/tutorial/first-day.md that are about limits, followed on a real demo."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daas_hub.core.models import Resource, Who
from daas_hub.db.ledger import Ledger
from tests.servers.demo import DemoServer, Visitor
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)
GIB = 1 << 30


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account may enter."""
    path = Path(tempfile.mkdtemp(prefix="daas-test-tutorial-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def demo(place: Path) -> AsyncIterator[DemoServer]:
    server = DemoServer(place, "--dir", str(place / "demo"))
    try:
        yield await server.start()
    finally:
        await server.stop()


def raise_limit(demo: DemoServer, name: str, resource: Resource, amount: float) -> None:
    """What the administrator does under *Limits*."""
    (file,) = [path for path in demo.dir.rglob("*.sqlite") if "ledger" in path.name]
    ledger = Ledger.open(f"sqlite:///{file}", create=False)
    account = ledger.accounts.by_user_name(name)
    assert account is not None
    ledger.limits.set(Who.USER, account.id, resource, amount, by="ada", now=datetime.now(UTC), note="tutorial")
    ledger.close()


async def test_quinn_is_refused_and_then_helped_in_both_ways(demo: DemoServer) -> None:
    person = demo.person(over_quota=True)
    quinn = Visitor(demo.url)
    await quinn.sign_in(person)
    user = f"/hub/api/users/{person['name']}"

    async def servers() -> Any:
        return json.loads((await quinn.call("GET", user))[1])["servers"]

    async def start(path: str, profile: str) -> tuple[int, str]:
        return await quinn.call("POST", f"{user}/{path}", {"profile": profile})

    status, text = await start("server", "basic")
    assert status == 403, text
    await quinn.call("DELETE", f"{user}/servers/analysis")

    async def stopped() -> bool:
        return bool((await servers()).get("analysis", {"stopped": True})["stopped"])

    await until(stopped, within_s=60, what="her server analysis stopped", every_s=0.2)
    status, text = await start("server", "basic")
    assert status in (201, 202), text

    async def ready() -> bool:
        return bool((await servers()).get("", {"ready": False})["ready"])

    await until(ready, within_s=60, what="her Basic server", every_s=0.2)
    assert (await start("servers/more", "data-science"))[0] == 403
    raise_limit(demo, person["name"], Resource.CORES, 4)
    status, text = await start("servers/more", "data-science")
    assert (status, "limit is 2 GiB at once" in text) == (403, True), text
    raise_limit(demo, person["name"], Resource.MEMORY_BYTES, 4 * GIB)
    status, text = await start("servers/more", "data-science")
    assert status in (201, 202), text
