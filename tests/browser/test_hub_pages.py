"""Our parts of the hub's own pages: banner, links, landmarks; and that an operator's own pages still count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import seeds
from tests.servers.browser import ChromiumServer, axe, overflow, sign_in
from tests.servers.console import PASSWORD, ConsoleHub

pytestmark = [pytest.mark.needs("node", "chromium")]

MORE = f"""
c.JupyterHub.template_vars = {{"announcement": "Closed on <em>Friday</em>."}}
c.LocalBackend.allow_shared_uid = True
c.DaasSpawner.profile_list = [
    {{"display_name": {seeds.HOSTILE!r}, "slug": "x", "description": {seeds.HOSTILE!r},
      "kubespawner_override": {{"cpu_limit": 1, "mem_limit": "1G"}}}},
    {{"display_name": "Basic", "slug": "basic", "kubespawner_override": {{"cpu_limit": 1, "mem_limit": "1G"}}}},
]
"""
OPERATORS = {
    "home.html": '{% extends "daas/home.html" %}{% block main %}<p id="site">Physics</p>{{ super() }}{% endblock %}',
    "token.html": '{% extends "templates/token.html" %}{% block main %}<p id="site">Tokens</p>{% endblock %}',
}

UPSTREAM = {
    # jupyterhub/share/jupyterhub/static/js/admin-react.js draws the admin panel, and cannot be extended.
    ("/hub/admin", "button-name"),
    ("/hub/admin", "page-has-heading-one"),
    ("/hub/admin", "target-size"),
}
"""(page, axe's rule) of what JupyterHub's own pages still cause; whatever is fixed upstream must leave this list."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleHub]:
    """A hub where everybody runs under one uid, and whose operator has pages of her own."""
    root = Path(tmp_path_factory.mktemp("hub"))
    (root / "pages").mkdir()
    for name, text in OPERATORS.items():
        (root / "pages" / name).write_text(text)
    # After configure(c), and by assignment: what the operator sets stays, and ours too.
    made = ConsoleHub(root, f"{MORE}\nc.JupyterHub.template_paths = [{str(root / 'pages')!r}]\n")
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


async def test_shared_uid_is_said_everywhere(hub: ConsoleHub, browser: ChromiumServer) -> None:
    page = await (await browser.person()).new_page()
    await page.goto(f"{hub.url}/hub/login")
    assert "Shared uid: no isolation." in await page.inner_text("main")
    await sign_in(page, hub.url, "alice", PASSWORD)
    for path in ("/hub/home", "/hub/spawn", "/services/daas/"):
        await page.goto(hub.url + path)
        assert "Shared uid: no isolation." in await page.inner_text("main"), path


async def test_the_operators_announcement_stands_above_the_console_too(
    hub: ConsoleHub, browser: ChromiumServer
) -> None:
    page = await (await browser.person()).new_page()
    await sign_in(page, hub.url, "alice", PASSWORD, then="/services/daas/")
    assert await page.inner_text("#announcement") == "Closed on Friday."
    assert await axe(page) == []


async def test_an_operators_pages_and_ours_go_together(hub: ConsoleHub, browser: ChromiumServer) -> None:
    page = await (await browser.person()).new_page()
    await sign_in(page, hub.url, "alice", PASSWORD)
    assert await page.inner_text("#site") == "Physics"
    assert await page.query_selector("#daas-shared-uid") is not None
    await page.goto(f"{hub.url}/hub/token")
    assert await page.inner_text("#site") == "Tokens"
    # The frame is still ours, also on pages that the hub renders for errors.
    for path in ("/hub/token", "/hub/nothing"):
        await page.goto(hub.url + path)
        assert await page.get_attribute("nav >> text=My usage", "href") == "/services/daas/"
        assert await page.query_selector("nav >> text=Limits") is None


async def test_a_hostile_profile_is_only_text(hub: ConsoleHub, browser: ChromiumServer) -> None:
    page = await (await browser.person()).new_page()
    await sign_in(page, hub.url, "alice", PASSWORD, then="/hub/spawn")
    assert (await page.inner_text("main")).count(seeds.HOSTILE) >= 1
    assert await page.evaluate("() => window.hacked") is None


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_only_what_upstream_causes(
    hub: ConsoleHub, browser: ChromiumServer, dark: bool, phone: bool
) -> None:
    page = await (await browser.person(dark=dark, phone=phone)).new_page()
    await page.goto(f"{hub.url}/hub/login")
    assert await axe(page) == []
    await sign_in(page, hub.url, "admin", PASSWORD)
    found = set()
    for path in ("/hub/home", "/hub/spawn", "/hub/nothing", "/hub/user/admin/lab", "/hub/admin"):
        await page.goto(hub.url + path)
        await page.wait_for_load_state("networkidle")
        found |= {(path, line.partition(":")[0]) for line in await axe(page)}
        assert await overflow(page) <= 0 or path == "/hub/admin", path
    # On a phone the panel's links stand alone in their rows.
    assert found == UPSTREAM - ({("/hub/admin", "target-size")} if phone else set())
