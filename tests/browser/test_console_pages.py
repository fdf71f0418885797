"""The console as people see it: numbers, badges, changes by form, light and dark, phone, keyboard, axe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Page

from daas_hub.core.models import Account, LaunchState
from daas_hub.db.ledger import LaunchRow, Ledger
from tests.browser import seeds
from tests.servers.browser import ChromiumServer, axe, overflow, sign_in
from tests.servers.console import PASSWORD, ConsoleHub

pytestmark = [pytest.mark.needs("node", "chromium")]


class Life:
    """What is seeded once for this module's hub."""

    def __init__(self, ledger: Ledger) -> None:
        seeds.limits(ledger)
        self.alice: Account = seeds.account(ledger, "alice", 5001, display_name="Alice Ångström")
        bob = seeds.account(ledger, "bob", 5002)
        handle = {"enforces_limits": False, "limits_note": "no cgroup can be written", "shared_uid": True}
        self.running: LaunchRow = seeds.launch(ledger, self.alice, handle=handle)
        self.stuck: LaunchRow = seeds.stopping(ledger, seeds.launch(ledger, bob, "big"), "the host is gone")
        seeds.ended(ledger, seeds.launch(ledger, self.alice, "old"), "idle for 2 min (rule Basic)")
        ledger.notices.add(self.alice.id, "old", "Stopped: idle for 2 min (rule Basic)", now=seeds.NOW)
        self.limit = ledger.limits.list()[0]
        seeds.Volumes(ledger)
        seeds.groups(ledger, self.alice)


@pytest.fixture(scope="module")
def life(hub: ConsoleHub) -> Iterator[Life]:
    """Seeded once."""
    ledger = Ledger.open(hub.ledger_url)
    yield Life(ledger)
    ledger.close()


def paths(life: Life) -> dict[str, list[str]]:
    """Every page of the console, by who sees it."""
    return {
        "alice": ["", "identities", "admin/limits"],
        "admin": [
            "",
            "admin/launches",
            f"admin/launches/{life.stuck.id}",
            f"admin/launches/{life.running.id}",
            "admin/limits",
            f"admin/limits/{life.limit.id}",
            "admin/volumes",
            *("admin/groups", "admin/groups/gpu-users", "admin/groups/lab", "admin/audit"),
            *("admin/accounts", "admin/accounts?name=nobody", "admin/identities", "admin/requests"),
            "nothing/here",
        ],
    }


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing_and_nothing_overflows(
    hub: ConsoleHub, life: Life, browser: ChromiumServer, dark: bool, phone: bool
) -> None:
    for who, pages in paths(life).items():
        person = await browser.person(dark=dark, phone=phone)
        page = await person.new_page()
        complaints: list[str] = []
        page.on("console", lambda message, to=complaints: to.append(message.text))
        page.on("pageerror", lambda error, to=complaints: to.append(str(error)))
        await sign_in(page, hub.url, who, PASSWORD)
        for path in pages:
            complaints.clear()
            await page.goto(hub.console + path)
            # Nothing that our own policy forbids, no failing script; a refusal's own status is not a complaint.
            assert [text for text in complaints if "status of 40" not in text] == [], path
            assert await page.evaluate("document.documentElement.dataset.bsTheme") == ("dark" if dark else "light")
            assert await axe(page) == [], (who, path)
            assert await overflow(page) <= 0, (who, path)
        await person.close()


async def test_my_usage_says_whose_rule_and_what_is_left(hub: ConsoleHub, life: Life, page: Page) -> None:
    await sign_in(page, hub.url, "alice", PASSWORD)
    await page.click("text=My usage")
    await page.wait_for_url(hub.console)
    cells = {}
    for row in await page.query_selector_all("#limits tbody tr"):
        words = [" ".join((await cell.inner_text()).split()) for cell in await row.query_selector_all("th, td")]
        cells[words[0]] = words[1:5]
    assert cells == {
        "Servers": ["everybody, each person", "5 servers", "1 server", "4 servers"],
        "Memory": ["group lab, each member", "8 GiB", "1 GiB", "7 GiB"],
        "CPU": ["group lab, all members together", "16 cores", "2 cores", "14 cores"],
    }
    servers = await page.inner_text("#servers")
    assert "limits not enforced here" in servers
    assert "shared uid: no isolation" in servers
    warning = " ".join((await page.inner_text(f"[data-not-held='{life.running.id}']")).split())
    assert warning.endswith("counted, but not held to this size where it runs. no cgroup can be written")
    assert "idle for 2 min (rule Basic)" in await page.inner_text("#ended")


async def test_the_home_page_says_why_until_it_is_dismissed(hub: ConsoleHub, life: Life, page: Page) -> None:
    await sign_in(page, hub.url, "alice", PASSWORD)
    section = "section:has(#daas-notices)"
    assert "Stopped: idle for 2 min (rule Basic)" in await page.inner_text(section)
    assert await axe(page, within=section) == []
    await page.click("text=Dismiss")
    await page.wait_for_url(f"{hub.console}#notices")
    await page.click("button:has-text('Dismiss')")
    assert "Dismissed." in await page.inner_text("[role=status]")
    await page.goto(f"{hub.url}/hub/home")
    assert await page.query_selector(section) is None


async def test_the_home_page_says_what_is_still_being_stopped(
    hub: ConsoleHub, life: Life, page: Page, ledger: Ledger
) -> None:
    await sign_in(page, hub.url, "bob", PASSWORD)
    text = " ".join((await page.inner_text("section:has(#daas-notices)")).split())
    assert "Your server big is being stopped since 2026-11-21 12:00 UTC (the host is gone)." in text
    assert await axe(page) == []


async def test_the_home_page_needs_no_script_for_it(hub: ConsoleHub, life: Life, browser: ChromiumServer) -> None:
    ledger = Ledger.open(hub.ledger_url)
    ledger.notices.add(life.alice.id, "", "Stopped without a script", now=seeds.NOW)
    ledger.close()
    person = await browser.person(script=False)
    page = await person.new_page()
    await sign_in(page, hub.url, "alice", PASSWORD)
    assert "Stopped without a script" in await page.inner_text("body")
    await page.click("text=Dismiss")
    await page.click("button:has-text('Dismiss')")
    assert "Dismissed." in await page.inner_text("[role=status]")
    assert "Stopped without a script" not in await page.inner_text("body")
    await person.close()


async def test_an_administrator_changes_a_limit_and_the_audit_shows_it(
    hub: ConsoleHub, life: Life, phone_page: Page
) -> None:
    page = phone_page
    await sign_in(page, hub.url, "admin", PASSWORD)
    await page.click(".navbar-toggler")
    await page.click("nav >> text=Limits")
    await page.select_option("#who", "group-each")
    await page.fill("#name", "lab")
    await page.select_option("#resource", "memory_bytes")
    await page.fill("#amount", "12 apples")
    await page.fill("#note", "term starts")
    await page.click("text=Set >> nth=-1")
    assert "12 apples" in await page.inner_text("#problem")
    assert await page.get_attribute("#amount", "aria-invalid") == "true"
    # What was typed is still there.
    assert await page.input_value("#note") == "term starts"
    assert await axe(page) == []
    await page.fill("#amount", "12G")
    await page.click("form button:has-text('Set')")
    assert "The limit is set." in await page.inner_text("[role=status]")
    assert "12 GiB" in await page.inner_text("#limits")
    await page.goto(f"{hub.console}admin/audit")
    row = " ".join((await page.inner_text("#audit tbody tr:first-child")).split())
    assert row.endswith("admin:admin limit set group lab, each member: Memory 8 GiB 12 GiB term starts"), row


async def test_a_misspelt_group_is_asked_about(hub: ConsoleHub, life: Life, page: Page, ledger: Ledger) -> None:
    await sign_in(page, hub.url, "admin", PASSWORD, then="/services/daas/admin/limits")
    assert await page.query_selector("#confirm_name") is None
    await page.select_option("#who", "group-each")
    await page.fill("#name", "labb")
    await page.select_option("#resource", "cores")
    await page.fill("#amount", "0.0001")
    await page.click("form button:has-text('Set')")
    assert "amount: 0.0001 is not allowed; give a number in steps of 0.001." in await page.inner_text("#problem")
    await page.fill("#amount", "0.001")
    await page.click("form button:has-text('Set')")
    assert "no group 'labb' has been seen here yet" in await page.inner_text("#problem")
    assert not [limit for limit in ledger.limits.list() if limit.name == "labb"]
    assert await axe(page) == []
    await page.check("#confirm_name")
    await page.click("form button:has-text('Set')")
    assert "The limit is set." in await page.inner_text("[role=status]")
    [made] = [limit for limit in ledger.limits.list() if limit.name == "labb"]
    assert made.amount == 0.001
    ledger.limits.delete(made.id, "admin:test", seeds.NOW)


async def test_a_limit_is_edited_and_deleted(hub: ConsoleHub, life: Life, page: Page, ledger: Ledger) -> None:
    await sign_in(page, hub.url, "admin", PASSWORD, then=f"/services/daas/admin/limits/{life.limit.id}")
    assert await page.input_value("#amount") == "5"
    await page.fill("#amount", "0")
    await page.click("text=Save")
    assert "0 servers" in await page.inner_text("#limits")
    await page.goto(f"{hub.console}admin/limits/{life.limit.id}")
    await page.click("text=Delete this limit")
    assert "The limit is deleted." in await page.inner_text("[role=status]")
    assert life.limit.id not in {limit.id for limit in ledger.limits.list()}
    assert [row.action for row in ledger.audit.list(limit=2)] == ["limit_delete", "limit_set"]


async def test_launches_have_addresses_and_lost_ones_need_a_name(
    hub: ConsoleHub, life: Life, page: Page, ledger: Ledger
) -> None:
    await sign_in(page, hub.url, "admin", PASSWORD, then="/services/daas/admin/launches")
    await page.fill("#user", "bob")
    await page.select_option("#state", "stopping")
    await page.click("text=Show")
    await page.wait_for_url("**/admin/launches?user=bob&state=stopping")
    assert len(await page.query_selector_all("#launches tbody tr")) == 1
    assert "the host is gone" in await page.inner_text("#launches")
    await page.click("#launches a")
    await page.fill("#user_name", "alice")
    await page.fill("#why", "its machine burnt")
    await page.click("button:has-text('Declare lost')")
    assert "not the name" in await page.inner_text("#problem")
    assert await page.input_value("#why") == "its machine burnt"
    stuck = ledger.get(life.stuck.id)
    assert stuck is not None
    assert stuck.state is LaunchState.STOPPING
    await page.fill("#user_name", "bob")
    await page.fill("#why", "")
    await page.click("button:has-text('Declare lost')")
    assert await page.query_selector("[role=status]") is None  # the browser itself asks for a reason
    await page.fill("#why", "the machine is scrapped")
    await page.click("button:has-text('Declare lost')")
    assert "declared lost" in await page.inner_text("[role=status]")
    assert "declared lost: the machine is scrapped" in await page.inner_text(".daas-facts")
    assert await page.query_selector("#user_name") is None


async def test_paging_goes_through_all_launches(hub: ConsoleHub, life: Life, page: Page, ledger: Ledger) -> None:
    owner = seeds.account(ledger, "greta", 5007)
    rows = [seeds.launch(ledger, owner, f"s{n}", minutes_ago=60 - n) for n in range(5)]
    await sign_in(page, hub.url, "admin", PASSWORD, then="/services/daas/admin/launches?user=greta&limit=2")
    seen: list[str | None] = []
    while True:
        seen += [await r.get_attribute("data-launch") for r in await page.query_selector_all("#launches tbody tr")]
        following = await page.query_selector("#next")
        if following is None:
            break
        address = await following.get_attribute("href")
        await following.click()
        await page.wait_for_url(f"{hub.url}{address}")
    assert seen == [row.id for row in reversed(rows)]


async def test_accounts_are_entered_and_a_changed_uid_is_confirmed(
    hub: ConsoleHub, life: Life, page: Page, ledger: Ledger
) -> None:
    seeds.account(ledger, "hugo", 5008)
    with pytest.raises(Exception, match="confirmed"):
        seeds.account(ledger, "hugo", 5999)
    await sign_in(page, hub.url, "admin", PASSWORD, then="/services/daas/admin/accounts")
    waiting = "form:has-text('hugo')"
    assert "5008 → 5999" in await page.inner_text(waiting)
    assert await axe(page) == []
    await page.fill(f"{waiting} input[name=uid]", "5008")
    await page.click(f"{waiting} button")
    assert "5008 is not the reported one" in await page.inner_text("#problem")
    await page.fill(f"{waiting} input[name=uid]", "5999")
    await page.click(f"{waiting} button")
    assert "The uid is confirmed." in await page.inner_text("[role=status]")
    hugo = ledger.accounts.by_user_name("hugo")
    assert hugo is not None
    assert hugo.uid == 5999
    with pytest.raises(Exception, match="which hugo has here"):
        seeds.account(ledger, "iris", 5999)
    await page.goto(f"{hub.console}admin/accounts")
    assert "This is the uid of hugo." in await page.inner_text("form:has-text('iris')")
    assert await axe(page) == []
    await page.fill("form:has-text('iris') input[name=uid]", "5999")
    await page.click("form:has-text('iris') button")
    assert "The uid is confirmed." in await page.inner_text("[role=status]")
    assert seeds.account(ledger, "iris", 5999).uid == 5999
    for field, text in {"name": "ida", "uid": "0", "gid": "7000", "home": "/home/ida"}.items():
        await page.fill(f"#{field}", text)
    await page.fill("#groups", "ida:7000 lab:8000")
    await page.click("text=Enter >> nth=-1")
    assert "uid: '0' is not allowed" in await page.inner_text("#problem")
    await page.fill("#uid", "7000")
    await page.click("form button:has-text('Enter')")
    assert "The account is entered." in await page.inner_text("[role=status]")
    row = ledger.accounts.get_row("ida")
    assert row is not None
    assert (row.uid, row.gid, [g.gid for g in row.groups]) == (7000, 7000, [7000, 8000])
    await page.goto(f"{hub.console}admin/accounts?name=ida")
    assert await page.input_value("#groups") == "ida:7000 lab:8000"
    await page.click("text=Delete what was entered for ida")
    assert "deleted" in await page.inner_text("[role=status]")
    assert ledger.accounts.get_row("ida") is None
    assert [r.action for r in ledger.audit.list(limit=3)] == ["account_row_delete", "account_row_set", "uid_confirm"]


async def test_everything_is_reached_by_keyboard(hub: ConsoleHub, life: Life, page: Page) -> None:
    await sign_in(page, hub.url, "admin", PASSWORD, then="/services/daas/admin/limits")
    reached = []
    for _ in range(60):
        await page.keyboard.press("Tab")
        reached.append(
            await page.evaluate(
                "() => { const e = document.activeElement; return e.id || e.getAttribute('href') || e.innerText }"
            )
        )
        if reached[-1] == "Set":
            break
    assert reached[0] == "#main"
    order = ["/services/daas/", "/services/daas/admin/audit", "dark-theme-toggle", "who", "name", "resource", "amount"]
    assert [name for name in reached if name in order] == order
    await page.keyboard.press("Enter")
    # The browser itself says what is missing: the form is a real form.
    assert await page.evaluate("document.activeElement.id") == "amount"


async def test_administrators_links_stand_beside_the_hubs_own(hub: ConsoleHub, page: Page) -> None:
    await sign_in(page, hub.url, "admin", PASSWORD)
    ours = ["My usage", "Launches", "Limits", "Groups", "Volumes", "Audit", "Accounts", "Identities", "Requests"]
    for path in ("/hub/home", "/services/daas/", "/services/daas/admin/audit"):
        await page.goto(hub.url + path)
        links = [await link.inner_text() for link in await page.query_selector_all("nav .nav-link")]
        assert links == ["Home", "Token", "Admin", *ours], path
    # From the console there is a way back to the hub's own panel.
    await page.click("nav >> text=Admin")
    await page.wait_for_url(f"{hub.url}/hub/admin")
    # Between a phone and a desk the links take a second line; nothing leaves the page.
    for width in (580, 700, 800, 1000):
        await page.set_viewport_size({"width": width, "height": 900})
        for path in ("/hub/home", "/services/daas/admin/launches"):
            await page.goto(hub.url + path)
            assert await overflow(page) <= 0, (width, path)


async def test_others_have_no_links_that_refuse_them(hub: ConsoleHub, life: Life, page: Page) -> None:
    await sign_in(page, hub.url, "bob", PASSWORD)
    for path in ("/hub/home", "/services/daas/"):
        await page.goto(hub.url + path)
        links = [await link.inner_text() for link in await page.query_selector_all("nav .nav-link")]
        assert links == ["Home", "Token", "My usage"], path
    await page.goto(f"{hub.console}admin/launches")
    said = await page.inner_text("#message")
    assert said.startswith("This is open only to those who may see the launches, limits, usage and volumes of everyb")
    assert "custom:" not in await page.inner_text("body")


WORDS_AND_CELLS = """() => [...document.querySelectorAll('.daas-table th[scope=row], .daas-table td')].flatMap(cell => {
  const seen = [], box = cell.getBoundingClientRect();
  if (box.left < 0 || box.right > innerWidth) seen.push('out of sight: ' + cell.innerText);
  const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  while (walk.nextNode())
    for (const word of walk.currentNode.data.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(walk.currentNode, word.index);
      range.setEnd(walk.currentNode, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(r => r.top)).size > 1) seen.push('broken: ' + word[0]);
    }
  return seen;
})"""
"""What of a table cannot be read at once: cells beside the window, words on two lines."""


async def test_tables_are_read_on_a_phone_without_scrolling_aside(
    hub: ConsoleHub, life: Life, phone_page: Page, ledger: Ledger
) -> None:
    page = phone_page
    await sign_in(page, hub.url, "alice", PASSWORD, then="/services/daas/")
    assert await page.query_selector("#limits td[data-label=Left]") is not None
    assert await page.evaluate(WORDS_AND_CELLS) == []
    label = "getComputedStyle(document.querySelector('#limits td[data-label=Left]'), '::before').content"
    assert await page.evaluate(label) == '"Left"'
    assert await page.get_by_role("table").count() >= 2
    assert await page.get_by_role("columnheader").count() >= 5
    await page.context.clear_cookies()
    await sign_in(page, hub.url, "admin", PASSWORD, then="/services/daas/admin/launches")
    for path in ("admin/launches", "admin/limits", "admin/volumes", "admin/audit"):
        await page.goto(hub.console + path)
        assert await page.evaluate(WORDS_AND_CELLS) == [], path
        assert await page.evaluate("document.querySelectorAll('.daas-table tbody tr').length") > 0, path
    await page.set_viewport_size({"width": 1280, "height": 900})
    for path in ("admin/launches", "admin/limits", "admin/volumes", "admin/audit"):
        await page.goto(hub.console + path)
        assert await page.evaluate(WORDS_AND_CELLS) == [], path


async def test_the_home_page_fits_a_phone_with_a_named_server(hub: ConsoleHub, life: Life, phone_page: Page) -> None:
    page = phone_page
    # A start that is refused (nobody signed in by a directory here) leaves the row of the server.
    await hub.api("POST", "users/alice/servers/named-server-number-one")
    await sign_in(page, hub.url, "alice", PASSWORD)
    # As it looks while the server runs: its address, the button that stops it, and the time as the hub wrote it.
    await page.evaluate("""() => {
      for (const e of document.querySelectorAll('.server-link, .stop-server')) e.classList.remove('hidden');
      for (const e of document.querySelectorAll('.start-server, .delete-server')) e.classList.add('hidden');
      for (const e of document.querySelectorAll('tbody .time-col')) e.textContent = '2026-11-21T17:39:30.123456Z';
    }""")
    assert await page.is_visible(".server-link >> text=named-server-number-one")
    assert await overflow(page) <= 0
