"""Who is mailed about links and requests, with a real directory, hub and mail server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from tests.servers.link_site import LinkSite
from tests.servers.mailbox import Mailbox
from tests.servers.visitor import location
from tests.waiting import until

pytestmark = [
    pytest.mark.needs("slapd", "aiosmtpd"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

CONFIG = """
c.DaasAuthenticator.mail_host = "127.0.0.1"
c.DaasAuthenticator.mail_port = {port}
c.DaasAuthenticator.mail_tls = "none"
c.DaasAuthenticator.mail_sender = "hub@site.test"
c.DaasAuthenticator.mail_within_s = 5
c.JupyterHub.services += [{{"name": "console", "api_token": "a-token-of-the-console"}}]
c.JupyterHub.load_roles += [{{"name": "console", "services": ["console"], "scopes": ["custom:daas:hub"]}}]
"""


@dataclass
class Place:
    site: LinkSite
    box: Mailbox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    box = await Mailbox().start()
    site = await LinkSite(Path(tmp_path_factory.mktemp("mailed")), CONFIG.format(port=box.port)).start()
    yield Place(site, box)
    await site.stop()
    await box.stop()


async def mailed(place: Place, to: str, words: str) -> str:
    """The text of the mail that has these words."""
    found = await until(
        lambda: [m for m in place.box.to(to) if words in m.get_content()], what=f"a mail to {to} with {words!r}"
    )
    assert len(found) == 1
    return str(found[0].get_content())


async def test_the_owner_is_mailed_of_a_link(place: Place) -> None:
    # What a provider calls somebody is its own affair.
    place.site.first.people["1"]["name"] = "Ada\r\nBcc: eve@evil.test"
    answer = await place.site.link(place.site.visitor(), "1", "ada", then="/hub/home")
    assert location(answer) == "/hub/home"
    text = await mailed(place, "ada@site.test", "opens your account from now on")
    assert place.site.first.issuer in text
    assert all(recipients == ["ada@site.test"] for recipients, _ in place.box.got)


async def test_a_mail_that_is_refused_refuses_no_link(place: Place) -> None:
    place.box.refused = {"dora@site.test"}
    site = place.site
    assert location(await site.link(site.visitor(), "3", "dora", then="/hub/home")) == "/hub/home"
    await until(lambda: "A mail to dora@site.test is not sent" in site.hub.log_text(), what="the refused mail's line")
    assert len(site.links("dora")) == 2


async def test_a_mail_server_that_is_away_refuses_no_link(place: Place) -> None:
    site = place.site
    await place.box.stop()
    try:
        assert location(await site.link(site.visitor(), "2", "bob", then="/hub/home")) == "/hub/home"
        await until(lambda: "A mail to bob@site.test is not sent" in site.hub.log_text(), what="the failed mail's line")
    finally:
        await place.box.start()
    assert len(site.links("bob")) == 2


async def asks(place: Place, person: str) -> int:
    """Somebody without an account asks for access; the number of the request."""
    who = place.site.visitor()
    await place.site.arrive(who, person)
    answer = await who.post("/hub/daas/link/ask", {"text": "I measure here in May"})
    assert location(answer) == "/hub/daas/link"
    ledger = place.site.ledger()
    try:
        return ledger.links.requests()[-1].id
    finally:
        ledger.close()


async def told(place: Place, what: str, **body: object) -> int:
    """Tell the hub as the console does; the status."""
    status, _ = await place.site.hub.api("POST", f"daas/links/{what}", body, token="a-token-of-the-console")
    return status


async def test_who_asked_is_mailed_the_decision(place: Place) -> None:
    place.site.first.people["9"] = {"email": "nora@site.test", "email_verified": True, "groups": []}
    number, now = await asks(place, "9"), datetime.now(UTC)
    assert await told(place, "decided", request=number) == 404
    ledger = place.site.ledger()
    ledger.links.refuse(number, by="admin:boss", now=now, why="Not\r\nhere")
    ada = next(account.id for account in ledger.accounts.list() if account.name == "ada")
    ledger.close()
    assert await told(place, "decided", request=number) == 204
    assert "refused.\r\n\r\nThe administrator says: Not  here" in await mailed(place, "nora@site.test", "was refused")
    number = await asks(place, "9")
    ledger = place.site.ledger()
    ledger.links.accept(number, ada, by="admin:boss", now=now)
    ledger.close()
    place.box.got.clear()
    assert await told(place, "decided", request=number) == 204
    await mailed(place, "nora@site.test", "was accepted")
    # Whose account it is hears of it as well.
    await mailed(place, "ada@site.test", "opens your account from now on")


async def test_an_address_that_nobody_verified_gets_no_mail(place: Place) -> None:
    place.site.first.people["10"] = {"email": "vera@site.test", "email_verified": False, "groups": []}
    number = await asks(place, "10")
    ledger = place.site.ledger()
    assert ledger.links.refuse(number, by="admin:boss", now=datetime.now(UTC), why="no").body["mail"] == ""
    ledger.close()


async def test_an_unlinked_sign_in_ends_at_once(place: Place) -> None:
    site = place.site
    who = site.visitor()
    assert location(await site.link(who, "4", "carl", then="/hub/home")) == "/hub/home"
    assert await site.user_of(who) == "carl"
    ledger = site.ledger()
    account = next(account for account in ledger.accounts.list() if account.name == "carl")
    link = ledger.links.of(account.id)[-1]
    ledger.links.remove(link.id, by="admin:boss", now=datetime.now(UTC), why="left the group")
    ledger.close()
    said = {"account_id": account.id, "user": "carl", "label": link.label, "issuer": link.issuer}
    status, _ = await site.hub.api("POST", "daas/links/unlinked", said)
    assert status == 403
    assert await told(place, "unlinked", **said) == 204
    assert await site.user_of(who) == ""
    await mailed(place, "carl@site.test", "opens your account no longer")
    # By that way she is somebody without an account; by her own she is who she was.
    assert location(await site.come(site.visitor(), "4")) == "/hub/daas/link"
    assert location(await site.password(site.visitor(), "carl")) == "/hub/home"
