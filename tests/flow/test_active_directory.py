"""A real hub on a real Active Directory: every form of a name, a rename, guessing, and the end of an account."""

from __future__ import annotations

import pytest

from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.samba import BASE, PEOPLE, SERVICE_DN, Samba
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "samba"), pytest.mark.timeout(180)]
ADA = PEOPLE["ada"]
SETTINGS = """
c.DaasLDAPAuthenticator.flavour = "ad"
c.DaasLDAPAuthenticator.server_uris = [{uri!r}]
c.DaasLDAPAuthenticator.tls_ca_file = {ca!r}
c.DaasLDAPAuthenticator.bind_dn = {bind_dn!r}
c.DaasLDAPAuthenticator.bind_password_file = {password_file!r}
c.DaasLDAPAuthenticator.user_search_base = c.DaasLDAPAuthenticator.group_search_base = {base!r}
c.DaasLDAPAuthenticator.login_domains = ["SITE", "site.test"]
c.DaasLDAPAuthenticator.attempts_per_name = 3
c.Reconciler.sweep_every_s = 2
"""


async def change(samba: Samba, attribute: str, value: str) -> None:
    await samba.modify(f"dn: {ADA.dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n")


async def test_a_person_of_active_directory_has_one_account_whatever_she_is_called(samba: Samba) -> None:
    more = SETTINGS.format(
        uri=samba.tls_uri,
        ca=str(samba.ca_file),
        bind_dn=SERVICE_DN,
        password_file=str(samba.password_file),
        base=BASE,
    )
    site = Site(proxy=False, cmd=list(program(reachable_python())), more=more)
    await change(samba, "unixHomeDirectory", str(site.home("ada")))
    try:
        await site.start()
        for typed in ("SITE\\Ada", "ada.test@site.test", "ada.mail@post.test"):
            assert (await site.login_answer(typed, ADA.password))[0] == 200
        _, users = await site.hub.api("GET", "users")
        assert [user["name"] for user in users] == ["ada"]
        assert set(users[0]["groups"]) == {"Domain Users", "crowd", "lab"}
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        [before], pids = site.launches(), site.servers("ada")
        assert pids, "it runs as her uid"

        await change(samba, "sAMAccountName", "adele")
        assert (await site.login_answer("adele", ADA.password))[0] == 200
        _, users = await site.hub.api("GET", "users")
        assert [user["name"] for user in users] == ["ada"]
        assert ([row.id for row in site.launches()], site.servers("ada")) == ([before.id], pids)

        await change(samba, "userAccountControl", "514")
        # Nobody asks anything: the sweep does.
        await until(lambda: not site.servers("ada"), within_s=60, what="the sweep ends her server", every_s=0.2)
        await until(lambda: site.launches()[0].ended_at, within_s=60, what="settled", every_s=0.2)
        assert "is disabled" in site.launches()[0].reason
        status, page = await site.login_answer("adele", ADA.password)
        assert (status, "is disabled" in page) == (403, True)
        for typed in ("adele", "SITE\\adele", "ada.mail@post.test"):
            status, page = await site.login_answer(typed, "guessed")
            assert (status, "Invalid username or password" in page) == (403, True)
        status, page = await site.login_answer("adele", ADA.password)
        assert (status, "was not judged" in page) == (429, True)
    finally:
        for attribute, value in (
            ("sAMAccountName", "ada"),
            ("userAccountControl", "512"),
            ("unixHomeDirectory", "/home/ada"),
        ):
            await change(samba, attribute, value)
        await site.stop()
