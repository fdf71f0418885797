"""What a real slapd says of a page of people at once: one conversation, and each case by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from traitlets.config import Config

from daas_hub.auth.ldap import DaasLDAPAuthenticator
from daas_hub.auth.looks import Person, look
from daas_hub.core.access import Answer
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.slapd import BASE, SERVICE_DN, Slapd

pytestmark = pytest.mark.needs("slapd")

MANY = 50
"""A page of the sweep."""


@pytest.fixture
async def proxy(slapd: Slapd) -> AsyncIterator[FaultProxy]:
    proxy = await FaultProxy(slapd.port).start()
    yield proxy
    await proxy.stop()


def authenticator(slapd: Slapd, proxy: FaultProxy, **more: Any) -> DaasLDAPAuthenticator:
    settings = {
        "server_uris": [f"ldap://{proxy.host}:{proxy.port}"],
        "tls_ca_file": str(slapd.ca_file),
        "bind_dn": SERVICE_DN,
        "bind_password_file": str(slapd.password_file),
        "user_search_base": f"ou=people,{BASE}",
        "group_search_base": f"ou=groups,{BASE}",
        "allowed_groups": {"lab"},
        "admin_groups": {"operators"},
        "answer_within_s": 1.0,
        "login_within_s": 2.0,
    }
    return DaasLDAPAuthenticator(config=Config({"DaasLDAPAuthenticator": {**settings, **more}}))


async def people(hub: DaasLDAPAuthenticator, *names: str) -> list[Person]:
    """As their sign-ins left them."""
    made = []
    for name in names:
        found = await hub.directory.lookup(name)
        assert found is not None
        made.append(Person(SimpleNamespace(name=name), hub.auth_model(found[0])["auth_state"]))
    return made


async def test_each_is_judged_by_herself(slapd: Slapd, proxy: FaultProxy) -> None:
    hub = authenticator(slapd, proxy)
    names = ("ada", "boss", "locked", "eve", "dora", "bob")
    page = await people(hub, *names)
    elsewhere = {"daas": {**page[0].state["daas"], "identity": {**page[0].state["daas"]["identity"], "issuer": "x"}}}
    page.append(Person(SimpleNamespace(name="other"), elsewhere))
    # Gone, and somebody else under her name.
    dora = f"uid=dora,ou=people,{BASE}"
    await slapd.modify(f"dn: {dora}\nchangetype: delete\n")
    await slapd.add(
        f"dn: {dora}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: dora\ncn: Dora\nsn: Other\n"
        "uidNumber: 20077\ngidNumber: 30001\nhomeDirectory: /home/dora\n"
    )
    before = proxy.connections
    found = dict(zip((*names, "other"), await look(hub, page), strict=True))
    assert proxy.connections <= before + 1
    assert {name: one.answer for name, one in found.items()} == {
        "ada": Answer.VALID,
        "boss": Answer.VALID,
        "locked": Answer.REVOKED,
        "eve": Answer.REVOKED,
        "dora": Answer.REVOKED,
        "bob": Answer.VALID,
        "other": Answer.UNREACHABLE,
    }
    boss, ada = found["boss"].model, found["ada"].model
    assert boss is not None
    assert ada is not None
    assert (boss["admin"], boss["groups"]) == (True, ["lab", "operators"])
    assert (ada["admin"], ada["groups"]) == (False, ["lab"])
    assert "no longer has your account" in found["dora"].why


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.RESET, Fault.GARBAGE, Fault.CUT])
async def test_a_directory_that_fails_says_nothing(slapd: Slapd, proxy: FaultProxy, fault: Fault) -> None:
    hub = authenticator(slapd, proxy)
    page = await people(hub, "ada", "locked")
    proxy.fault = fault
    assert [one.answer for one in await look(hub, page)] == [Answer.UNREACHABLE] * 2


async def test_a_base_that_is_not_seen_is_nobodys_end(slapd: Slapd, proxy: FaultProxy) -> None:
    page = await people(authenticator(slapd, proxy), "ada", "bob")
    hidden = authenticator(slapd, proxy, user_search_base=f"ou=moved,{BASE}")
    assert [one.answer for one in await look(hidden, page)] == [Answer.UNREACHABLE] * 2


async def test_a_whole_page_is_one_conversation(slapd: Slapd, proxy: FaultProxy) -> None:
    entries = [
        f"dn: uid=m{n},ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: m{n}\ncn: M {n}\n"
        f"sn: M\nuidNumber: {21000 + n}\ngidNumber: 30001\nhomeDirectory: /home/m{n}\n"
        for n in range(MANY)
    ]
    await slapd.add("\n".join(entries))
    hub = authenticator(slapd, proxy, login_within_s=10.0)
    page = await people(hub, *(f"m{n}" for n in range(MANY)))
    before = proxy.connections
    assert {one.answer for one in await look(hub, page)} == {Answer.VALID}
    assert proxy.connections <= before + 1
