"""Who came by a link starts a server: it runs as the uid of her entry in the directory, and not once that is locked."""

from __future__ import annotations

import pytest

from tests.flow.site import Site
from tests.servers.evil_provider import EvilProvider
from tests.servers.forgeries import CLIENT, SECRET
from tests.servers.reachable_python import reachable_python
from tests.servers.slapd import PEOPLE
from tests.servers.tiny_server import program
from tests.servers.visitor import Visitor, location
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

MORE = """
c.JupyterHub.authenticator_class = "daas_hub.auth.multi.DaasAuthenticator"
_directory = dict(c.DaasLDAPAuthenticator)
del c["DaasLDAPAuthenticator"]
c.DaasAuthenticator.ways = [
    {{"kind": "ldap", "name": "site", "settings": _directory}},
    {{"kind": "oidc", "name": "first", "settings": {{
        "issuer": "{issuer}", "client_id": "{client}", "client_secret_file": "{secret}", "allow_plaintext": True,
        "posix_claims": {{"uid_number": "uidNumber", "gid_number": "gidNumber", "home": "homeDirectory"}},
    }}}},
]
"""


async def test_a_linked_person_runs_as_the_directory_says() -> None:
    # What the provider says about uids is nothing to a site that has a directory.
    claims = {"preferred_username": "bob", "groups": [], "uidNumber": PEOPLE["bob"].uid, "gidNumber": 1}
    provider = await EvilProvider(people={"1": claims}).start()
    site = Site(proxy=False, cmd=list(program(reachable_python())))
    secret = site.state / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    site.more = MORE.format(issuer=provider.issuer, client=CLIENT, secret=secret)
    try:
        await site.start()
        who = Visitor(site.hub.hub_url)

        async def come(browser: Visitor) -> str:
            answer = await browser.get(provider.approve(location(await browser.get("/hub/oidc/first/login"))))
            return location(answer) if answer.code == 302 else str(answer.code)

        assert await come(who) == "/hub/daas/link"
        assert (await who.get("/hub/daas/link")).code == 200
        proved = await who.post("/hub/daas/link", {"username": "ada", "password": "ada-secret", "way": "site"})
        assert (await who.get(provider.approve(location(proved)))).code == 302
        again = Visitor(site.hub.hub_url)
        assert await come(again) != "/hub/daas/link"

        assert (await site.hub.api("POST", "users/ada/server", {"profile": "basic"}))[0] in (201, 202)
        await until(lambda: site.processes("ada"), within_s=60, every_s=0.2, what="her server")
        assert site.processes("bob") == []
        assert site.home("ada").stat().st_uid == PEOPLE["ada"].uid
        ledger = site.ledger()
        (row,) = [row for row in ledger.launches() if row.user_name == "ada"]
        account = ledger.accounts.by_user_name("ada")
        ledger.close()
        assert account is not None
        assert (account.uid, account.id) == (PEOPLE["ada"].uid, row.account_id)
        await until(lambda: _ready(site), within_s=60, every_s=0.2, what="her server answers")
        assert (await site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204)
        await until(lambda: not site.processes("ada"), within_s=30, every_s=0.2, what="her server has ended")

        lock = "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n"
        await site.slapd.modify(f"dn: {PEOPLE['ada'].dn}\nchangetype: modify\n{lock}")
        assert await come(Visitor(site.hub.hub_url)) == "403"
        status, _ = await site.hub.api("POST", "users/ada/server", {"profile": "basic"})
        assert status == 403
        assert site.processes("ada") == []
    finally:
        await site.stop()
        await provider.stop()


async def _ready(site: Site) -> bool:
    model = await site.hub.server("ada")
    return bool(model and model["ready"])
