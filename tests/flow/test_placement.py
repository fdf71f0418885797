"""Two places on a real hub: where a start goes, why, and that REST, the form and the pages say so."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from daas_hub.core.models import ACTIVE
from tests.flow.placing import fill, two_places
from tests.flow.site import Site
from tests.servers.demo import Visitor
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = two_places()
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("ada"))
        yield made
    finally:
        asyncio.run(made.stop())


async def start(site: Site, **options: str) -> dict[str, Any]:
    """Start ada's server; what was stored of where it went."""
    status, answer = await site.hub.start_server("ada", options=options or None)
    assert status in (201, 202), answer
    kept: dict[str, Any] = site.launches()[0].request["placement"]
    return kept


@pytest_asyncio.fixture(autouse=True)
async def ended(site: Site) -> AsyncIterator[None]:
    """No server is left for the next test."""
    yield
    await stop(site)


async def stop(site: Site) -> None:
    running = await site.hub.server("ada")
    if running is not None and not running.get("stopped"):
        await site.hub.stop_server("users/ada/server")
    await until(lambda: all(row.state not in ACTIVE for row in site.launches()), within_s=30, what="settled")


async def test_a_full_place_is_passed_over_and_everywhere_it_is_said_why(site: Site) -> None:
    fill(site, first={"free_cores": 0.25})
    kept = await start(site, profile="basic")
    row = site.launches()[0]
    assert row.backend == kept["chosen"] == "second"
    assert Path(site.run / "second" / site.hub_id / row.id).is_dir()
    why = "Now on second (it has room); else on first when there is room."
    assert kept["reason"].startswith(why)
    assert [(each["place"], each["fit"]) for each in kept["candidates"]] == [("second", "now"), ("first", "later")]
    assert any(message.startswith(why) for message in messages(site, row.id))

    token = (await site.hub.api("POST", "users/ada/tokens", {"scopes": ["access:services!service=daas"]}))[1]["token"]
    url = f"{site.hub.url}/services/daas/api/v1/launches/{row.id}"
    status, told = await site.hub.http("GET", url, None, {"Authorization": f"token {token}"})
    assert status == 200, told
    assert (told["placement"]["chosen"], told["placement"]["reason"]) == ("second", kept["reason"])
    assert [each["fit"] for each in told["placement"]["candidates"]] == ["now", "later"]
    status, page = await (await visitor(site)).call("GET", f"/services/daas/launches/{row.id}")
    assert status == 200
    assert why in page
    assert "full now: 1 core needed, free are at most 0.25 cores" in page


async def test_what_she_names_is_taken_and_what_is_no_place_is_refused(site: Site) -> None:
    fill(site, first={"free_cores": 0, "starts_in_s": 1200})
    kept = await start(site, profile="basic", placement="first")
    assert (kept["chosen"], kept["asked"]) == ("first", "first")
    token = (await site.hub.api("POST", "users/ada/tokens", {"scopes": ["access:services!service=daas"]}))[1]["token"]
    url = f"{site.hub.url}/services/daas/api/v1/launches/{site.launches()[0].id}/recipe"
    recipe = (await site.hub.http("GET", url, None, {"Authorization": f"token {token}"}))[1]
    assert (recipe["backend"], "placement" in recipe["choices"]) == ("first", False)
    assert [each["place"] for each in kept["candidates"]] == ["first"]
    assert "as you chose. Nothing has room just now: it waits in the queue there." in kept["reason"]
    await stop(site)
    for wrong in ("third", "first:gpu", "first gpu", "x" * 200):
        status, answer = await site.hub.api("POST", "users/ada/server", {"profile": "small", "placement": wrong})
        assert status == 400, answer
        assert answer["message"].startswith("placement: ")
        assert "auto, " in answer["message"]
    # The last accepted profile stays, a place that was refused never does.
    kept = await start(site)
    assert (kept["chosen"], kept["asked"]) == ("second", "auto")
    assert site.launches()[0].profile == "basic"


async def test_both_full_is_a_queue_with_an_estimate(site: Site) -> None:
    fill(site, first={"free_cores": 0, "starts_in_s": 7200}, second={"free_cores": 0, "starts_in_s": 1200})
    kept = await start(site, profile="basic")
    assert kept["chosen"] == "second"
    assert kept["reason"].startswith("On second at about ")
    assert kept["reason"].endswith("Nothing has room just now: it waits in the queue there.")


async def test_what_fits_nowhere_ever_is_refused_with_what_would_run(site: Site) -> None:
    fill(site, first={"total_cores": 2}, second={"total_cores": 2})
    status, answer = await site.hub.api("POST", "users/ada/server", {"profile": "large"})
    assert status == 400
    assert answer["message"] == (
        "profile: Large can never run on this hub. First: it is too small: 4 cores needed, the largest has 2 cores; "
        "Second: it is too small: 4 cores needed, the largest has 2 cores. These would run: Basic, Small."
    )
    # One of them has not been heard of for a while: it may be larger by now.
    fill(site, first={"total_cores": 2}, second={"total_cores": 2, "age_s": 300})
    kept = await start(site, profile="large")
    assert kept["chosen"] == "second"
    assert kept["reason"].startswith("On second perhaps: what is free was last seen 5 min")


async def test_a_place_that_fails_is_left_and_the_launch_says_so(site: Site) -> None:
    fill(site, first={"broken": 1})
    kept = await start(site, profile="basic")
    row = site.launches()[0]
    assert row.backend == kept["chosen"] == "second"
    assert kept["reason"] == "Now on second (it has room), because it could not be started on first."
    assert kept["reason"] in messages(site, row.id)


async def test_the_form_offers_the_places_with_what_is_known_of_them(site: Site) -> None:
    fill(site, first={"free_cores": 0, "age_s": 300}, second={"free_cores": 0.75})
    status, page = await (await visitor(site)).call("GET", "/hub/spawn/ada")
    assert status == 200
    basic, small, large = page.split('name="profile"')[1:]
    assert "Automatic: on first perhaps: what is free was last seen 5 min" in basic
    assert '<option value="second">Second: full just now</option>' in basic
    assert '<option value="first">First: not known whether it has room</option>' in basic
    assert '<option value="second">Second: has room now</option>' in small
    assert 'name="profile-option-large--placement"' in large


async def test_a_card_is_told_anew_to_who_may_see_the_page(site: Site) -> None:
    fill(site, first={"free_cores": 0, "starts_in_s": 700}, second={"free_cores": 0, "starts_in_s": 7200})
    ada, path = await visitor(site), "/hub/daas/availability/ada"
    status, part = await ada.call("GET", path)
    assert (status, part.count("Busy, free in about 12 minutes")) == (200, 3)
    assert "daas-availability-said" not in part
    again = html.unescape(part.split('hx-get="')[1].split('"')[0])
    assert again.startswith(f"{path}?seen=")
    assert (await ada.call("GET", again))[0] == 204
    fill(site, first={"age_s": 300}, second={"free_cores": 0.5})
    status, part = await ada.call("GET", again)
    assert (status, 'id="daas-availability-small">Free<' in part.replace(' hx-swap-oob="true"', "")) == (200, True)
    assert "Small: Free." in part
    assert "Large: Not known whether it is free (seen 5 min ago)." in part
    # As for the page itself: her own session, and nobody else's.
    assert (await ada.call("GET", "/hub/daas/availability/bob"))[0] in (403, 404)
    assert (await site.hub.http("GET", f"{site.hub.url}{path}"))[0] == 403


async def visitor(site: Site) -> Visitor:
    """Ada with a browser's cookies."""
    ada = Visitor(site.hub.url)
    await ada.sign_in({"name": "ada", "password": site.person("ada").password})
    return ada


def messages(site: Site, launch_id: str) -> list[str]:
    """The steps of a start."""
    ledger = site.ledger()
    try:
        return [event.message for _, event in ledger.events(launch_id)]
    finally:
        ledger.close()
