"""The culler on a real hub with real JupyterLab servers: what idles is stopped, what works is not."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from daas_hub.core.models import LaunchState, Target
from daas_hub.db.ledger import LaunchRow
from tests.flow.site import Site
from tests.servers.browser import ChromiumServer, sign_in
from tests.servers.kernels import ServerApi
from tests.servers.lab import new_notebook, open_lab, run_cell
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(180)]

IDLE_S = 6
LAB_IDLE_S = 18
"""A browser on a busy machine takes a while to open JupyterLab."""
MAX_AGE_S = 18
"""In which a busy machine starts a kernel, too."""
RULES = f"""
c.Culler.read_ledger_every_s = 1
c.Culler.rules = [
    {{"name": "never", "users": ["bob"], "profiles": ["small"]}},
    {{"name": "tabs", "profiles": ["small"], "idle_after_s": {IDLE_S}, "count_open_tabs": True}},
    {{"name": "short", "profiles": ["large"], "max_age_s": {MAX_AGE_S}}},
    {{"name": "lab", "users": ["bob"], "profiles": ["basic"], "idle_after_s": {LAB_IDLE_S}}},
    {{"name": "Basic", "profiles": ["basic"], "idle_after_s": {IDLE_S}}},
]
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site(more=RULES)
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


def launch(site: Site, user: str, server: str) -> LaunchRow:
    return next(row for row in site.launches() if (row.user_name, row.server_name) == (user, server))


async def start(site: Site, user: str, server: str, profile: str) -> ServerApi:
    await site.sign_in(user)
    status, answer = await site.hub.start_server(user, server, {"profile": profile})
    assert status in (201, 202), (answer, site.hub.log_text()[-3000:])
    row = launch(site, user, server)
    assert row.handle is not None
    return ServerApi(f"http://127.0.0.1:{row.handle['port']}/user/{user}/{server}/", site.hub.token)


async def ended(site: Site, user: str, server: str, *, within_s: float) -> LaunchRow:
    async def row() -> LaunchRow | None:
        one = launch(site, user, server)
        return one if one.state is LaunchState.ENDED else None

    found: LaunchRow = await until(row, within_s=within_s, every_s=0.2, what=f"{server} of {user} ended")
    return found


async def used_at(api: ServerApi) -> datetime:
    """The newest of kernels and terminals, by the server's own word."""
    kernels = await api.get("api/kernels?no_track_activity=1")
    return max(datetime.fromisoformat(kernel["last_activity"]) for kernel in kernels)


async def test_an_idle_server_is_stopped_and_its_owner_is_told_when_and_why(site: Site) -> None:
    api = await start(site, "ada", "idle", "basic")
    kernel = await api.new_kernel()
    await api.run(kernel, "1 + 1")
    used = await used_at(api)
    row = await ended(site, "ada", "idle", within_s=IDLE_S + 20)
    assert row.ended_at is not None
    assert (row.target, row.target_by) == (Target.STOPPED, "culler")
    assert row.target_reason.startswith("idle for ")
    assert row.target_reason.endswith(" s (rule Basic)")
    assert row.reason == row.target_reason
    assert (row.ended_at - used).total_seconds() >= IDLE_S
    ledger = site.ledger()
    try:
        [notice] = ledger.notices.list(row.account_id, "idle")
    finally:
        ledger.close()
    assert notice.text == f"Your server idle was stopped: {row.target_reason}. Files in your home are kept."

    async def forgotten() -> bool:
        model = await site.hub.server("ada", "idle")
        return bool(model and model["stopped"])

    await until(forgotten, what="the hub knows")
    # It took no right on the hub at all: the hub saw the server end.
    held = site.hub.roles_of_services()
    assert {scope for name, scope in held if name == "daas-reconciler"} == {"start:servers", "custom:daas:hub"}
    assert not {scope for name, scope in held if name == "daas-culler"}


async def test_a_silent_busy_kernel_is_use_and_its_end_starts_the_clock(site: Site) -> None:
    api = await start(site, "ada", "busy", "basic")
    kernel = await api.new_kernel()
    started, length_s = time.monotonic(), 2 * IDLE_S
    await api.run(kernel, f"import time; time.sleep({length_s})", finish=False)
    row = await ended(site, "ada", "busy", within_s=length_s + IDLE_S + 75)
    lasted_s = time.monotonic() - started
    assert lasted_s >= length_s + IDLE_S
    assert row.target_by == "culler"


async def test_what_an_open_tab_asks_is_no_use_unless_the_rule_counts_it(site: Site) -> None:
    ignoring, counting = await asyncio.gather(
        start(site, "ada", "tab", "basic"), start(site, "ada", "counted", "small")
    )
    told: list[float] = []

    async def one_round() -> bool:
        """What a visible JupyterLab asks every few seconds, tracked as its questions are."""
        for path in ("api/kernels", "api/sessions", "api/terminals", "api/contents/?content=1"):
            await counting.get(path)
            if launch(site, "ada", "tab").state is LaunchState.RUNNING:
                try:
                    await ignoring.get(path)
                except (AssertionError, OSError):
                    continue  # it is just being stopped
        told.append(time.monotonic())
        return launch(site, "ada", "tab").state is LaunchState.ENDED and told[-1] - told[0] > 2 * IDLE_S

    await until(one_round, within_s=IDLE_S + 30, every_s=1, what="the polled server stopped")
    assert launch(site, "ada", "tab").target_by == "culler"
    still = launch(site, "ada", "counted")
    assert (still.state, still.target) == (LaunchState.RUNNING, Target.RUNNING)
    row = await ended(site, "ada", "counted", within_s=IDLE_S + 20)
    assert row.target_reason.endswith("(rule tabs)")


@pytest.mark.needs("chromium")
async def test_a_real_tab_left_open_with_a_notebook_is_no_use(site: Site, tmp_path: Path) -> None:
    await start(site, "bob", "lab", "basic")
    chromium = await ChromiumServer(tmp_path / "chromium.log").start()
    try:
        page = await (await chromium.person()).new_page()
        await sign_in(page, site.hub.url, "bob", site.person("bob").password)
        await page.goto(f"{site.hub.url}/user/bob/lab/lab")
        await open_lab(page, f"{site.hub.url}/user/bob/lab/lab")
        await new_notebook(page)
        assert await run_cell(page, "print(6 * 7)") == "42\n"
        ran_at = datetime.now(UTC)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(urlsplit(request.url).path.partition("/lab/")[2]))
        row = await ended(site, "bob", "lab", within_s=LAB_IDLE_S + 40)
        assert row.target_by == "culler"
        assert row.ended_at is not None
        assert (row.ended_at - ran_at).total_seconds() >= LAB_IDLE_S - 1
        # It did ask meanwhile, so its questions were there to be taken for use.
        assert any(path.startswith("api/") for path in asked), asked
    finally:
        await chromium.stop()


async def test_max_age_ends_a_busy_server_and_an_exemption_keeps_an_idle_one(site: Site) -> None:
    exempt = await start(site, "bob", "exempt", "small")
    assert await exempt.get("api/kernels?no_track_activity=1") == []
    # The clock of its age runs from here.
    old = await start(site, "bob", "old", "large")
    await old.run(await old.new_kernel(), "import time; time.sleep(100)", finish=False)
    row = await ended(site, "bob", "old", within_s=MAX_AGE_S + 20)
    assert row.target_reason == f"ran for {MAX_AGE_S} s, the longest allowed (rule short)"
    assert launch(site, "bob", "exempt").state is LaunchState.RUNNING


async def test_a_proxy_whose_times_lie_in_the_future_keeps_no_idle_server_and_stops_no_busy_one() -> None:
    """The pure-Python proxy by itself, east of Greenwich: the hub takes its local times for UTC."""
    proxy = Path(sys.executable).with_name("configurable-http-proxy")
    more = f"c.JupyterHub.last_activity_interval = 1\n{RULES}"
    site = Site(more=more, proxy=[str(proxy)], env={"TZ": "Pacific/Auckland"})
    try:
        await site.start()
        busy = await start(site, "ada", "busy", "basic")
        await busy.run(await busy.new_kernel(), "import time; time.sleep(150)", finish=False)
        await start(site, "ada", "idle", "basic")

        async def misled() -> bool:
            models = [await site.hub.server("ada", name) for name in ("idle", "busy")]
            now = datetime.now(UTC)
            times = [datetime.fromisoformat(model["last_activity"]) for model in models if model]
            return len(times) == 2 and all((one - now).total_seconds() > 3600 for one in times)

        await until(misled, what="the hub believes that both were used in the future", every_s=0.2)
        row = await ended(site, "ada", "idle", within_s=IDLE_S + 20)
        assert row.target_reason.endswith("(rule Basic)")
        still = launch(site, "ada", "busy")
        assert (still.state, still.target) == (LaunchState.RUNNING, Target.RUNNING)
    finally:
        await site.stop()
