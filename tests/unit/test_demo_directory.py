"""The demo's LDAP listener, asked by ldap3 and by bytes that are not LDAP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import ldap3
import pytest
from ldap3.protocol import rfc4511
from pyasn1.codec.ber import decoder

from daas_hub.demo import people
from daas_hub.demo.directory import ACCOUNT_LOCKED, MAX_MESSAGE_BYTES, PASSWORD_POLICY, DirectoryListener, read_message
from daas_hub.demo.tree import Tree

SITE = people.cast(Path("/demo/homes"), shared_uid=None)
BY_NAME = {person.name: person for person in SITE.people}
PEOPLE_BASE = f"ou=people,{people.BASE}"


@pytest.fixture
async def listener() -> AsyncIterator[DirectoryListener]:
    server = DirectoryListener(Tree(people.BASE, people.entries(SITE)))
    await server.start()
    yield server
    await server.stop()


def connect(listener: DirectoryListener, dn: str | None = None, password: str | None = None, **more: Any) -> Any:
    server = ldap3.Server(listener.url, get_info=ldap3.NONE, connect_timeout=5)
    return ldap3.Connection(server, dn, password, receive_timeout=5, **more)


async def in_thread(fn: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(fn)


async def bind_result(listener: DirectoryListener, dn: str, password: str, **more: Any) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        connection = connect(listener, dn, password)
        connection.open()
        connection.bind(**more)
        answer: dict[str, Any] = connection.result
        connection.unbind()
        return answer

    answer: dict[str, Any] = await in_thread(ask)
    return answer


async def search(listener: DirectoryListener, query: str, **more: Any) -> list[dict[str, Any]]:
    def ask() -> list[dict[str, Any]]:
        connection = connect(listener, people.SERVICE_DN, SITE.service_password)
        assert connection.bind(), connection.result
        arguments = {"search_base": people.BASE, "attributes": ["uid"], **more}
        connection.search(search_filter=query, **arguments)
        found = [r for r in connection.response if r["type"] == "searchResEntry"]
        connection.unbind()
        return found

    found: list[dict[str, Any]] = await in_thread(ask)
    return found


def names(found: list[dict[str, Any]]) -> list[str]:
    return sorted(value for entry in found for value in entry["attributes"].get("uid", []))


async def test_a_person_proves_her_password(listener: DirectoryListener) -> None:
    person = SITE.people[1]
    assert (await bind_result(listener, people.person_dn(person), person.password))["result"] == 0
    assert (await bind_result(listener, people.person_dn(person), "wrong"))["result"] == 49


async def test_unknown_name_and_wrong_password_answer_the_same(listener: DirectoryListener) -> None:
    wrong = await bind_result(listener, people.person_dn(SITE.people[1]), "wrong")
    unknown = await bind_result(listener, f"uid=nobody,{PEOPLE_BASE}", "wrong")
    assert wrong == unknown


async def test_a_name_without_a_password_is_not_a_sign_in(listener: DirectoryListener) -> None:
    # ldap3 refuses to send it, so it is sent by hand: version 3, the person's name, an empty simple password.
    name = people.person_dn(SITE.people[1]).encode()
    bind = b"\x02\x01\x03\x04" + bytes([len(name)]) + name + b"\x80\x00"
    operation = b"\x60" + bytes([len(bind)]) + bind
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"\x30" + bytes([len(operation) + 3]) + b"\x02\x01\x01" + operation)
    raw = await asyncio.wait_for(read_message(reader), 5)
    writer.close()
    await writer.wait_closed()
    assert raw is not None
    answer, _ = decoder.decode(raw, asn1Spec=rfc4511.LDAPMessage())
    assert int(answer["protocolOp"].getComponent()["resultCode"]) == 53


async def test_the_locked_entry_refuses_its_own_password_and_says_so_to_who_asks(listener: DirectoryListener) -> None:
    lena = next(p for p in SITE.people if p.locked)
    answer = await bind_result(
        listener, people.person_dn(lena), lena.password, controls=[(PASSWORD_POLICY, False, None)]
    )
    assert answer["result"] == 49
    assert answer["controls"][PASSWORD_POLICY]["value"] == ACCOUNT_LOCKED
    [entry] = await search(listener, f"(uid={lena.name})", attributes=["pwdAccountLockedTime"])
    assert entry["attributes"]["pwdAccountLockedTime"]


async def test_posix_attributes_and_groups_are_rfc2307(listener: DirectoryListener) -> None:
    rosa = SITE.people[1]
    [entry] = await search(listener, f"(&(objectClass=posixAccount)(uid={rosa.name.upper()}))", attributes=["*"])
    attributes = entry["attributes"]
    assert attributes["uidNumber"] == [str(rosa.uid)]
    assert attributes["homeDirectory"] == [f"/demo/homes/{rosa.name}"]
    assert "entryUUID" not in attributes
    assert not any("assword" in name for name in attributes)
    groups = await search(
        listener, f"(&(objectClass=posixGroup)(memberUid={rosa.name}))", attributes=["cn", "gidNumber"]
    )
    assert {g["attributes"]["cn"][0]: int(g["attributes"]["gidNumber"][0]) for g in groups} == {
        group: SITE.gids[group] for group in rosa.groups
    }


async def test_operational_attributes_come_when_they_are_asked_for(listener: DirectoryListener) -> None:
    for selection in (["+"], ["entryUUID"]):
        [entry] = await search(listener, f"(uid={SITE.people[0].name})", attributes=selection)
        assert len(entry["attributes"]["entryUUID"][0]) == 36


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("(uid=*)", sorted(BY_NAME)),
        ("(&(uid=*)(!(uid=%0)))", sorted(BY_NAME)[1:]),
        ("(|(uid=%0)(uid=%1))", sorted(BY_NAME)[:2]),
        ("(cn=*ada*)", ["%0"]),
        ("(cn=Ada*Adm*)", ["%0"]),
        ("(uidNumber>=0)", sorted(BY_NAME)),
        ("(uidNumber<=0)", []),
        # An attribute nobody knows is Undefined, and so is its negation (RFC 4511 §4.5.1.7).
        ("(&(uid=*)(!(nonsense=1)))", []),
        ("(userPassword=*)", []),
    ],
)
async def test_filters(listener: DirectoryListener, query: str, expected: list[str]) -> None:
    def fill(text: str) -> str:
        return text.replace("%0", sorted(BY_NAME)[0]).replace("%1", sorted(BY_NAME)[1])

    assert names(await search(listener, fill(query))) == [fill(e) for e in expected]


async def test_scopes(listener: DirectoryListener) -> None:
    everybody = "(objectClass=*)"
    assert len(await search(listener, everybody, search_base=PEOPLE_BASE, search_scope=ldap3.BASE)) == 1
    one = await search(listener, everybody, search_base=PEOPLE_BASE, search_scope=ldap3.LEVEL)
    whole = await search(listener, everybody, search_base=PEOPLE_BASE, search_scope=ldap3.SUBTREE)
    assert (len(one), len(whole)) == (len(SITE.people), len(SITE.people) + 1)
    assert await search(listener, everybody, search_base=f"ou=none,{people.BASE}") == []


async def test_nothing_is_read_before_a_bind(listener: DirectoryListener) -> None:
    def ask() -> tuple[int, list[Any]]:
        connection = connect(listener)
        connection.bind()
        connection.search(people.BASE, "(uid=*)", attributes=["uid"])
        refused = connection.result["result"]
        connection.search("", "(objectClass=*)", search_scope=ldap3.BASE, attributes=["*"])
        root = connection.response
        connection.unbind()
        return refused, root

    refused, root = await in_thread(ask)
    assert refused == 50
    assert root[0]["attributes"]["namingContexts"] == [people.BASE]


async def test_size_limit_and_pages(listener: DirectoryListener) -> None:
    def ask() -> tuple[int, int, int]:
        connection = connect(listener, people.SERVICE_DN, SITE.service_password)
        connection.bind()
        connection.search(PEOPLE_BASE, "(uid=*)", size_limit=2)
        limited, code = len(connection.response), connection.result["result"]
        paged = connection.extend.standard.paged_search(PEOPLE_BASE, "(uid=*)", paged_size=2, generator=False)
        connection.unbind()
        return limited, code, len(paged)

    assert await in_thread(ask) == (2, 4, len(SITE.people))


async def test_writing_is_refused(listener: DirectoryListener) -> None:
    def ask() -> int:
        connection = connect(listener, people.SERVICE_DN, SITE.service_password)
        connection.bind()
        connection.delete(people.person_dn(SITE.people[0]))
        code: int = connection.result["result"]
        connection.unbind()
        return code

    assert await in_thread(ask) == 53


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x30\x03\x02\x01\x01",
        b"\x30\x84" + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"),
        b"\x30\x80\x00\x00",
    ],
)
async def test_what_is_not_ldap_ends_only_that_connection(listener: DirectoryListener, raw: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(raw)
    rest = await asyncio.wait_for(reader.read(), 5)
    assert rest[:1] == b"\x30"
    writer.close()
    await writer.wait_closed()
    assert names(await search(listener, f"(uid={SITE.people[0].name})")) == [SITE.people[0].name]


async def test_stop_ends_the_connections(listener: DirectoryListener) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    await search(listener, "(uid=x)")
    await listener.stop()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", listener.port)


def test_ids_and_names_are_not_those_of_this_machine() -> None:
    import grp
    import pwd

    assert not {p.uid for p in SITE.people} & {entry.pw_uid for entry in pwd.getpwall()}
    assert not set(SITE.gids.values()) & {entry.gr_gid for entry in grp.getgrall()}
    assert not {p.name for p in SITE.people} & {entry.pw_name for entry in pwd.getpwall()}
    assert people.cast(Path("/h"), shared_uid=None).people[0].name == SITE.people[0].name


def test_a_name_that_the_machine_has_is_not_borrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "CAST", (("root", "Root", ("operators",), {}), *people.CAST[1:]))
    assert people.cast(Path("/h"), shared_uid=None).people[0].name == "demo-root"
