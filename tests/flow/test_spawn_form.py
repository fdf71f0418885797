"""The spawn page in a real browser: filled, by keyboard, without scripts, without findings of axe in our block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.flow.profiles_hub import profiles_hub, stop_server
from tests.servers.browser import ChromiumServer, axe, overflow, sign_in
from tests.servers.hub import HubServer
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "chromium", "node"), pytest.mark.timeout(240)]
FORM = "#daas-spawn-form"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with profiles_hub() as server:
        yield server


@pytest.fixture
async def chromium(tmp_path: Path) -> AsyncIterator[ChromiumServer]:
    browser = await ChromiumServer(tmp_path / "chromium.log").start()
    try:
        yield browser
    finally:
        await browser.stop()


async def started_with(hub: HubServer, user: str) -> object:
    """The options of the server of ``user``, once it is ready; it is stopped again."""

    async def ready() -> bool:
        model = await hub.server(user)
        return bool(model and model["ready"])

    await until(ready, within_s=60, what=f"server of {user}")
    model = await hub.server(user)
    assert model is not None
    await stop_server(hub, user)
    return model["user_options"]


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
async def test_enter_starts_what_was_started_last(hub: HubServer, chromium: ChromiumServer, script: bool) -> None:
    name = f"data-{'s' if script else 'n'}"
    person = await chromium.person(script=script)
    page = await person.new_page()
    await page.goto(f"{hub.hub_url}/hub/login?next=/hub/spawn")
    await page.fill("#username_input", name)
    await page.fill("#password_input", "any")
    await page.press("#password_input", "Enter")
    await page.wait_for_url(f"{hub.hub_url}/hub/spawn")
    # the first profile has the focus; its neighbour by an arrow, its option by Tab and a letter, then Enter
    size = page.locator("#profile-option-other--size")
    assert not await size.is_visible(), "options show when their profile is chosen"
    await page.keyboard.press("ArrowDown")
    assert await size.is_visible()
    await page.keyboard.press("Tab")
    await page.keyboard.press("L")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    assert await started_with(hub, name) == {"profile": "other", "size": "l"}
    await page.goto(f"{hub.hub_url}/hub/spawn")
    assert await page.locator("input[name=profile]:checked").get_attribute("value") == "other"
    assert await size.input_value() == "l"
    await page.keyboard.press("Enter")
    assert await started_with(hub, name) == {"profile": "other", "size": "l"}


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, True)], ids=["light-desktop", "dark-phone"])
async def test_axe_finds_nothing_in_our_block(
    hub: HubServer, chromium: ChromiumServer, dark: bool, phone: bool
) -> None:
    person = await chromium.person(dark=dark, phone=phone)
    page = await person.new_page()
    await sign_in(page, hub.hub_url, "datalook", "any")
    for path in ("", "?opt-profile=other&opt-size=nope&opt-evil=1"):
        await page.goto(f"{hub.hub_url}/hub/spawn{path}")
        assert await page.locator(FORM).count() == 1
        assert await axe(page, within=FORM) == []
        assert await overflow(page) == 0
    assert await page.locator(f"{FORM} .alert-warning li").count() == 2
    model = await hub.server("datalook")
    assert model is None or not model["ready"], "a link starts nothing"
