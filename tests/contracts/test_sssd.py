"""Real sssd as the judge: whoever signs in by us runs as what `id` says of her on a machine with sssd."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daas_hub.accounts.resolve import Sources, resolve
from daas_hub.clients.directory import Directory
from daas_hub.core.account import AccountPolicy
from daas_hub.core.models import Account
from daas_hub.core.sid_map import SidSettings
from tests.contracts.test_directory_samba import settings
from tests.servers.samba import BASE, SERVICE_DN, SERVICE_PASSWORD, Samba
from tests.servers.sssd import Person, Sssd

pytestmark = [pytest.mark.needs("root", "samba", "sssd"), pytest.mark.timeout(180)]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNIT = f"OU=Judged,{BASE}"
GROUPS = [f"judged-{n:02}" for n in range(20)]
NAMES = [f"judge{n:02}" for n in range(50)]
PRIMARY = {name: GROUPS[n % 5] for n, name in enumerate(NAMES[:10])}
"""Who has another primary group than Domain Users: no `member` of it names her."""


def dn(name: str) -> str:
    return f"CN={name},{UNIT}"


def entries(dice: random.Random) -> str:
    """Fifty people in groups in groups: chains as long as six, a loop, a mailing list, numbers for most of them."""
    ldif = [f"dn: {UNIT}\nchangetype: add\nobjectClass: organizationalUnit"]
    for number, name in enumerate(NAMES):
        posix = f"uidNumber: {40000 + number}\ngidNumber: {41000 + number % 3}\n"
        home = f"unixHomeDirectory: /srv/{name}\nloginShell: /bin/zsh" if number % 3 else "description: no home"
        ldif.append(
            f"dn: {dn(name)}\nchangetype: add\nobjectClass: user\nsAMAccountName: {name}\nuserAccountControl: 514\n"
            f"{posix}{home}"
        )
    members: dict[str, set[str]] = {group: set(dice.sample(NAMES, dice.randrange(1, 9))) for group in GROUPS}
    for number, group in enumerate(GROUPS[:-1]):
        members[group] |= set(dice.sample(GROUPS[number + 1 :], min(len(GROUPS) - number - 1, dice.randrange(3))))
    members[GROUPS[-1]].add(GROUPS[3])
    for name, group in PRIMARY.items():
        members[group].add(name)
    for number, group in enumerate(GROUPS):
        kind = "groupType: 2\n" if number == 7 else ""
        gid = f"gidNumber: {41000 + number}\n" if number % 4 != 3 else ""
        ldif.append(
            f"dn: {dn(group)}\nchangetype: add\nobjectClass: group\nsAMAccountName: {group}\n{kind}{gid}".rstrip()
        )
    for group, inside in members.items():
        lines = "\n".join(f"member: {dn(name)}" for name in sorted(inside))
        ldif.append(f"dn: {dn(group)}\nchangetype: modify\nadd: member\n{lines}")
    return "\n\n".join(ldif) + "\n"


async def populate(samba: Samba) -> None:
    await samba.modify(entries(random.Random(3)))
    for name, group in PRIMARY.items():
        rid = await samba.value(dn(group), "primaryGroupToken")
        await samba.modify(f"dn: {dn(name)}\nchangetype: modify\nreplace: primaryGroupID\nprimaryGroupID: {rid}\n")


async def remove(samba: Samba) -> None:
    names = [dn(name) for name in (*NAMES, *GROUPS)]
    await samba.modify("\n".join(f"dn: {name}\nchangetype: delete\n" for name in (*names, UNIT)))


@pytest.fixture(scope="module")
def domain(samba: Samba) -> Iterator[Samba]:
    asyncio.run(populate(samba))
    yield samba
    asyncio.run(remove(samba))


async def judged(domain: Samba, place: Path, more: str, names: list[str]) -> dict[str, Person]:
    """What a fresh sssd with these settings says."""
    sssd = Sssd(
        place,
        uri=domain.tls_uri,
        base=BASE,
        bind_dn=SERVICE_DN,
        password=SERVICE_PASSWORD,
        ca_file=domain.ca_file,
        more=more,
    )
    try:
        await sssd.start()
        return await sssd.people(*names)
    finally:
        await sssd.stop()


async def ours(domain: Samba, sources: Sources, names: list[str]) -> dict[str, Person]:
    """What we say; the home of whom nobody gives one is sssd's fallback_homedir in the tests."""
    directory = Directory(settings(domain))
    found = {}
    try:
        for name in names:
            known = await directory.lookup(name)
            assert known is not None, name
            account = await resolve(
                known[0],
                sources=sources,
                admin_row=nothing,
                policy=AccountPolicy(),
                now=NOW,
                home=f"/home/{name}",
            )
            groups = frozenset((group.name, group.gid) for group in account.groups)
            found[name] = Person(account.uid, account.gid, account.home, account.shell, groups)
    finally:
        directory.close()
    return found


async def nothing(_name: str) -> Account | None:
    return None


SPECIAL = ["ada", "eve", "deep", "loopy", "prima"]
"""In a group of 1,600; in none; five deep; in a loop; with a primary group that is in another one."""
BY_SIDS = Sources(posix_attributes=False, sids=SidSettings(), nss=False)


async def test_fifty_people_by_their_sids(domain: Samba, tmp_path: Path) -> None:
    """uid, gid, home, shell, every group's name and gid: 0 differences."""
    names = [*NAMES, *SPECIAL]
    theirs = await judged(domain, tmp_path, "ldap_id_mapping = true\ndefault_shell = /bin/sh", names)
    mine = await ours(domain, BY_SIDS, names)
    assert {name: (mine[name], theirs.get(name)) for name in names if mine[name] != theirs.get(name)} == {}
    assert max(len(person.groups) for person in mine.values()) > 8
    assert len({person.gid for person in mine.values()}) > 5


async def test_other_settings_are_other_numbers_there_and_here(domain: Samba, tmp_path: Path) -> None:
    sid = (await sid_of(domain, "ada")).rpartition("-")[0]
    lines = "ldap_idmap_range_min = 300000\nldap_idmap_range_max = 900000\nldap_idmap_range_size = 1000\n"
    lines += f"ldap_idmap_default_domain_sid = {sid}\nldap_id_mapping = true\ndefault_shell = /bin/sh"
    settings = SidSettings(300_000, 900_000, 1000, default_domain=sid)
    names = NAMES[:10]
    theirs = await judged(domain, tmp_path, lines, names)
    mine = await ours(domain, Sources(posix_attributes=False, sids=settings, nss=False), names)
    assert mine == theirs
    assert {person.uid // 1000 for person in mine.values()} != {300}, "the RIDs lie in a further slice"


async def test_fifty_people_by_their_attributes(domain: Samba, tmp_path: Path) -> None:
    """The same with uidNumber and gidNumber: groups without a number are none.

    Only the name of a primary group may differ: by her token she is in it only if it has her as a member.
    """
    theirs = await judged(domain, tmp_path, "ldap_id_mapping = false\ndefault_shell = /bin/sh", NAMES)
    mine = await ours(domain, Sources(nss=False), NAMES)
    different = {}
    for name in NAMES:
        both = [
            (replace(p, groups=_named_but_primary(p)), {g for _, g in p.groups}) for p in (mine[name], theirs[name])
        ]
        if both[0] != both[1]:
            different[name] = both
    assert different == {}


def _named_but_primary(person: Person) -> frozenset[tuple[str, int]]:
    return frozenset(group for group in person.groups if group[1] != person.gid)


async def sid_of(domain: Samba, name: str) -> str:
    directory = Directory(settings(domain))
    try:
        known = await directory.lookup(name)
    finally:
        directory.close()
    assert known is not None
    return str(known[0].attributes["sid"])
