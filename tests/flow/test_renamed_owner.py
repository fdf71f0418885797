"""A user is renamed while her server runs: process, kernel and launch stay hers, whatever happens to the hub."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from daas_hub.core.models import ACTIVE, LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.flow.site import Site
from tests.flow.test_adoption import forget
from tests.servers.kernels import ServerApi
from tests.servers.slapd import BASE
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Real JupyterLab servers, because a kernel must be the same afterwards."""
    made = Site(proxy=False, more="c.Reconciler.every_s = 2")
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("ada"))
        yield made
    finally:
        asyncio.run(made.stop())


def active(site: Site) -> LaunchRow:
    """The one launch that has not ended."""
    [row] = [row for row in site.launches() if row.state in ACTIVE]
    return row


def url(site: Site) -> str:
    """Where her server lies, by the address that it was started with."""
    row = active(site)
    assert row.handle is not None
    return f"http://127.0.0.1:{row.handle['port']}{row.handle['service_prefix']}"


def asked_with(site: Site, token: str) -> ServerApi:
    """Her server, asked with this token."""
    return ServerApi(url(site), token)


async def token_of(site: Site, name: str) -> str:
    status, made = await site.hub.api("POST", f"users/{name}/tokens", {"note": "test"})
    assert status == 201, made
    return str(made["token"])


async def same(site: Site, before: LaunchRow, pids: list[int], kernel: str, *, launches: int = 1) -> None:
    """The hub serves it under the new name; process, kernel, launch and account are what they were."""

    async def ready() -> bool:
        model = await site.hub.server("adele")
        return bool(model and model["ready"])

    await until(ready, within_s=40, every_s=0.2, what="the hub has the server under the new name")
    row = active(site)
    assert (row.id, row.account_id, row.state) == (before.id, before.account_id, LaunchState.RUNNING)
    assert site.servers("ada") == pids
    assert len(site.launches()) == launches
    # The tests' own token may into every server; hers may not into this one before she has started it again.
    assert [k["id"] for k in await asked_with(site, site.hub.token).get("api/kernels")] == [kernel]


async def test_a_renamed_users_server_survives_restarts_and_is_hers_to_stop(site: Site) -> None:
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    before, pids = active(site), site.servers("ada")
    kernel = await asked_with(site, await token_of(site, "ada")).new_kernel()
    status, answer = await site.hub.api("PATCH", "users/ada", {"name": "adele"})
    assert status == 200, answer
    await same(site, before, pids, kernel)

    site.hub.signal(signal.SIGTERM)
    await site.hub.wait_gone()
    await site.hub.start()
    await same(site, before, pids, kernel)

    # The hub's row is lost, too: the reconciler asks for the user who has the account now, and it is adopted.
    await forget(site)
    await site.hub.start()
    await same(site, before, pids, kernel)

    ledger = site.ledger()
    try:
        [notice] = ledger.notices.list(before.account_id)
    finally:
        ledger.close()
    assert notice.text.startswith("Your server goes on, but it was started while you were called ada")

    hers = await token_of(site, "adele")
    status, _ = await site.hub.http("GET", url(site) + "api/kernels", None, {"Authorization": f"token {hers}"})
    assert status == 403, "it was told to let in ada; the notice says so"
    assert (await site.hub.api("DELETE", "users/adele/server", token=hers))[0] in (202, 204)
    await until(lambda: not site.servers("ada"), within_s=30, what="stopped")

    # Started again it is hers in every way: the same account and home, and she gets in.
    assert (await site.hub.start_server("adele"))[0] in (201, 202)
    row = active(site)
    assert (row.account_id, row.user_name) == (before.account_id, "adele")
    assert await asked_with(site, hers).get("api/kernels") == []
    assert (await site.hub.api("DELETE", "users/adele/server", token=hers))[0] in (202, 204)
    await until(lambda: not site.servers("ada"), within_s=30, what="stopped")
    ledger = site.ledger()
    try:
        assert ledger.recount() == []
    finally:
        ledger.close()


async def test_who_signs_in_with_her_old_name_is_told_why_her_server_does_not_start(site: Site) -> None:
    """Two users have one account, as when the ledger did not know her user while she signed in."""
    assert (await site.hub.api("PATCH", "users/adele", {"name": "ada"}))[0] == 200
    await site.sign_in("ada")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    before, pids = active(site), site.servers("ada")
    kernel = await asked_with(site, await token_of(site, "ada")).new_kernel()
    assert (await site.hub.api("PATCH", "users/ada", {"name": "adele"}))[0] == 200
    await until(lambda: ledger_name(site, "adele"), what="the ledger has the new name")
    await asyncio.to_thread(write, site, "UPDATE accounts SET user_name = NULL WHERE user_name = 'adele'")
    await site.sign_in("ada")
    await asyncio.to_thread(write, site, "UPDATE accounts SET user_name = 'adele' WHERE name = 'ada'")
    with closing(sqlite3.connect(site.state / "jupyterhub.sqlite")) as db:
        clients = "SELECT * FROM oauth_clients WHERE identifier = 'jupyterhub-user-ada'"
        [client] = db.execute(clients).fetchall()
        for _ in range(3):
            status, answer = await site.hub.api("POST", "users/ada/server")
            assert status == 409, answer
            assert "as the hub's user adele" in answer["message"]
            assert "administrator of this hub can stop it as adele" in answer["message"]
            model = await site.hub.server("ada")
            assert model is None or model["stopped"]
        # The server that runs goes on letting in whom it was told to.
        assert db.execute(clients).fetchall() == [client]
    assert "Traceback" not in site.hub.log_text().rsplit("as the hub's user adele", 1)[0][-4000:]
    assert (active(site).id, site.servers("ada")) == (before.id, pids)
    assert [k["id"] for k in await asked_with(site, site.hub.token).get("api/kernels")] == [kernel]

    # The way out that the sentence names: her server is stopped as the user who has it, and starts as the other.
    assert (await site.hub.api("DELETE", "users/adele/server"))[0] in (202, 204)
    await until(lambda: not site.servers("ada"), within_s=30, what="stopped")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    assert (active(site).account_id, active(site).user_name) == (before.account_id, "ada")
    assert (await site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204)
    await until(lambda: not site.servers("ada"), within_s=30, what="stopped")
    assert (await site.hub.api("DELETE", "users/ada"))[0] == 204


def write(site: Site, statement: str) -> None:
    """Change the ledger from outside."""
    with closing(sqlite3.connect(site.ledger_file, timeout=10)) as ledger:
        ledger.execute(statement)
        ledger.commit()


def ledger_name(site: Site, name: str) -> bool:
    """Whether the ledger has somebody of this name."""
    with closing(sqlite3.connect(site.ledger_file)) as ledger:
        return ledger.execute("SELECT 1 FROM accounts WHERE user_name = ?", (name,)).fetchone() is not None


async def test_who_signs_in_with_another_name_of_hers_is_the_user_that_she_is(site: Site) -> None:
    """The directory still calls her ada, then anna: her account is one hub user's, with its server and its home."""
    assert (await site.hub.start_server("adele"))[0] in (201, 202)
    before, pids, launches = active(site), site.servers("ada"), len(site.launches())
    kernel = await asked_with(site, await token_of(site, "adele")).new_kernel()
    assert (await site.login_answer("ada", site.person("ada").password))[0] == 200
    dn = site.person("ada").dn
    await site.slapd.modify(f"dn: {dn}\nchangetype: modrdn\nnewrdn: uid=anna\ndeleteoldrdn: 1\n")
    await site.slapd.modify(f"dn: cn=lab,ou=groups,{BASE}\nchangetype: modify\nadd: memberUid\nmemberUid: anna\n")
    assert (await site.login_answer("anna", site.person("ada").password))[0] == 200
    assert "anna signs in as the hub user that she is already, adele" in site.hub.log_text()
    _, users = await site.hub.api("GET", "users")
    assert not {user["name"] for user in users} & {"ada", "anna"}
    await same(site, before, pids, kernel, launches=launches)

    # Started again it runs as the directory's new name, with the same account, uid and home.
    hers = await token_of(site, "adele")
    assert (await site.hub.api("DELETE", "users/adele/server", token=hers))[0] in (202, 204)
    await until(lambda: not site.servers("ada"), within_s=30, what="stopped")
    assert (await site.hub.start_server("adele"))[0] in (201, 202)
    row = active(site)
    assert (row.account_id, row.user_name) == (before.account_id, "adele")
    ledger = site.ledger()
    try:
        account = ledger.accounts.by_user_name("adele")
        assert account is not None
        assert (account.name, account.uid, account.home) == ("anna", site.person("ada").uid, str(site.home("ada")))
    finally:
        ledger.close()

    # Somebody else who gets her old name does not become her user; her tokens and servers are not his.
    assert (await site.hub.api("PATCH", "users/adele", {"name": "bob"}))[0] == 200
    status, page = await site.login_answer("bob", site.person("bob").password)
    assert status == 409
    assert "The name bob" in page
    assert (await site.hub.api("DELETE", "users/bob/server"))[0] in (202, 204)
    await until(lambda: not site.servers("ada"), within_s=30, what="stopped")
    status, page = await site.login_answer("bob", site.person("bob").password)
    assert status == 409
    assert "belongs to somebody else here" in page
