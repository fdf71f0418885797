"""A real OpenLDAP while it changes: locks, renames, people who leave; and what it logs about our questions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.clients.directory import Directory, Verdict
from daas_hub.core.errors import AccountRefused, DirectoryUnavailable
from tests.contracts.test_directory_slapd import settings
from tests.servers.slapd import BASE, PEOPLE, Slapd
from tests.waiting import until

pytestmark = pytest.mark.needs("slapd")


@pytest.fixture
async def directory(slapd: Slapd) -> AsyncIterator[Directory]:
    directory = Directory(settings(slapd, slapd.uri))
    yield directory
    directory.close()


async def subject_of(directory: Directory, name: str) -> str:
    found = await directory.lookup(name)
    assert found is not None
    return found[0].subject


# ---------------------------------------------------------------- what the server sees


async def operations(slapd: Slapd, name: str, password: str) -> Counter[str]:
    """The operations of one login, the first of its directory, as the server logged them."""
    before = slapd.log.stat().st_size
    directory = Directory(settings(slapd, slapd.uri))
    await directory.authenticate(name, password)
    directory.close()

    def lines() -> list[str]:
        with slapd.log.open(errors="replace") as log:
            log.seek(before)
            return re.findall(r" (ACCEPT|STARTTLS|BIND dn=\S+ method|SRCH base|UNBIND|closed)", log.read())

    await until(lambda: lines().count("closed") == lines().count("ACCEPT") > 0, what="the connections are closed")
    return Counter(re.sub(r"dn=\S+", "", line) for line in lines())


async def test_unknown_people_cost_the_same_operations_as_wrong_passwords(slapd: Slapd) -> None:
    wrong = await operations(slapd, "ada", "wrong")
    unknown = await operations(slapd, "nobody-of-that-name", "wrong")
    locked = await operations(slapd, "locked", "wrong")
    without_posix = await operations(slapd, "noposix", "wrong")
    assert wrong["BIND  method"] == 2
    assert wrong["SRCH base"] == 1
    assert wrong == unknown == locked == without_posix


async def test_a_login_reads_no_schema_and_binds_once_as_her(slapd: Slapd) -> None:
    await operations(slapd, "ada", "wrong")
    text = slapd.log.read_text(errors="replace")
    assert "cn=Subschema" not in text
    assert 'SRCH base=""' not in text
    assert len(re.findall(rf'BIND dn="{PEOPLE["ada"].dn}" method', text)) == 1


# ---------------------------------------------------------------- locks


POLICY = f"""dn: cn=strict,{BASE}
objectClass: device
objectClass: pwdPolicy
cn: strict
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 2

"""
UNDER_IT = f"""dn: {PEOPLE["ada"].dn}
changetype: modify
add: pwdPolicySubentry
pwdPolicySubentry: cn=strict,{BASE}
"""


async def test_a_lock_out_by_a_stranger_is_not_told_and_takes_no_access(slapd: Slapd, directory: Directory) -> None:
    await slapd.add(POLICY)
    await slapd.modify(UNDER_IT)
    subject = await subject_of(directory, "ada")
    for _ in range(3):
        assert (await directory.authenticate("ada", "guessed")).verdict is Verdict.WRONG
    # Locked out now: OpenLDAP refuses the right password too, and what it would tell a stranger is nothing.
    assert (await directory.authenticate("ada", "ada-secret")).verdict is Verdict.WRONG
    found = await directory.lookup_subject(subject)
    assert found is not None
    assert found[1] is Verdict.OK


async def test_an_expired_account_is_told_only_after_the_right_password(slapd: Slapd, directory: Directory) -> None:
    change = f"dn: {PEOPLE['ada'].dn}\nchangetype: modify\nadd: objectClass\nobjectClass: shadowAccount\n-\n"
    await slapd.modify(f"{change}add: shadowExpire\nshadowExpire: 1000\n")
    assert (await directory.authenticate("ada", "ada-secret")).verdict is Verdict.EXPIRED
    assert (await directory.authenticate("ada", "wrong")).verdict is Verdict.WRONG


# ---------------------------------------------------------------- names and entries


async def test_whoever_is_renamed_is_found_by_the_lasting_id(slapd: Slapd, directory: Directory) -> None:
    subject = await subject_of(directory, "ada")
    await slapd.modify(f"dn: {PEOPLE['ada'].dn}\nchangetype: modrdn\nnewrdn: uid=ada2\ndeleteoldrdn: 1\n")
    found = await directory.lookup_subject(subject)
    assert found is not None
    assert found[0].name == "ada2"
    assert await directory.lookup("ada") is None


async def test_who_left_is_gone(slapd: Slapd, directory: Directory) -> None:
    subject = await subject_of(directory, "ada")
    await slapd.modify(f"dn: {PEOPLE['ada'].dn}\nchangetype: delete\n")
    assert await directory.lookup_subject(subject) is None


PERSON = """dn: uid={rdn},{ou}
objectClass: inetOrgPerson
objectClass: posixAccount
uid: {rdn}
cn: Other
sn: Other
uidNumber: 29999
gidNumber: 30001
homeDirectory: /home/other
userPassword: other-secret
{more}

"""


async def test_two_entries_of_one_name_let_nobody_in_and_hold_nobody_up(slapd: Slapd, directory: Directory) -> None:
    unit = f"ou=guests,ou=people,{BASE}"
    await slapd.add(f"dn: {unit}\nobjectClass: organizationalUnit\nou: guests\n")
    await slapd.add(PERSON.format(rdn="ADA", ou=unit, more=""))
    for password in ("ada-secret", "other-secret"):
        with pytest.raises(DirectoryUnavailable, match="cannot be reached") as error:
            await directory.authenticate("ada", password)
        assert "2 entries match (&(objectClass=posixAccount)(uid=ada))" in error.value.log_message
    assert (await directory.authenticate("bob", "bob-secret")).verdict is Verdict.OK


async def test_a_second_name_of_an_entry_is_not_a_second_user(slapd: Slapd, directory: Directory) -> None:
    await slapd.add(PERSON.format(rdn="carol", ou=f"ou=people,{BASE}", more="uid: alias"))
    found = await directory.lookup("carol")
    assert found is not None
    assert found[0].name == "carol"
    assert await directory.lookup("alias") is None
    assert (await directory.authenticate("alias", "other-secret")).verdict is Verdict.WRONG


ALIAS = f"""dn: uid=also-ada,ou=people,{BASE}
objectClass: alias
objectClass: extensibleObject
uid: also-ada
uidNumber: {PEOPLE["ada"].uid}
aliasedObjectName: {PEOPLE["ada"].dn}

"""


async def test_a_uid_of_two_entries_is_refused_for_a_start_and_names_both(slapd: Slapd, directory: Directory) -> None:
    subject = await subject_of(directory, "ada")
    await slapd.add(ALIAS)
    assert await directory.lookup_subject(subject, alone=True) is not None, "an alias is no second person"
    await slapd.add(PERSON.format(rdn="otto", ou=f"ou=people,{BASE}", more="").replace("29999", "20001"))
    before = slapd.log.read_text().count(" SRCH base=")
    with pytest.raises(AccountRefused, match="uid 20001 to ada and to otto") as refused:
        await directory.lookup_subject(subject, alone=True)
    cost = slapd.log.read_text().count(" SRCH base=") - before
    assert refused.value.reason == "uid_shared"
    # For everything else she is who she is, and it costs one search less.
    before = slapd.log.read_text().count(" SRCH base=")
    assert await directory.lookup_subject(subject) is not None
    assert cost == slapd.log.read_text().count(" SRCH base=") - before + 1
    await slapd.modify(f"dn: uid=otto,ou=people,{BASE}\nchangetype: delete\n")
    assert await directory.lookup_subject(subject, alone=True) is not None


# ---------------------------------------------------------------- groups


async def test_groups_with_members_by_dn(slapd: Slapd, directory: Directory) -> None:
    # RFC 2307bis: `member` with DNs. Its schema is not in Debian's package, so the gid comes by extensibleObject.
    await slapd.add(
        f"dn: cn=beamline,ou=groups,{BASE}\nobjectClass: groupOfNames\nobjectClass: extensibleObject\ncn: beamline\n"
        f"member: {PEOPLE['ada'].dn}\ngidNumber: 30007\n"
    )
    found = await directory.lookup("ada")
    other = await directory.lookup("bob")
    assert found is not None
    assert other is not None
    assert found[0].groups == ("beamline", "lab")
    assert ("beamline", 30007) in found[0].attributes["posix_groups"]
    assert other[0].groups == ("lab",)


def sixty_groups() -> str:
    """Groups that ada is in, besides lab."""
    group = "dn: cn=g{n},ou=groups,{base}\nobjectClass: posixGroup\ncn: g{n}\ngidNumber: {gid}\nmemberUid: ada\n"
    return "\n".join(group.format(n=n, base=BASE, gid=31000 + n) for n in range(60))


async def test_an_answer_that_was_cut_short_is_no_answer(slapd: Slapd, directory: Directory) -> None:
    # The server's sizelimit is 50: with some groups missing, somebody would lose access without a word.
    await slapd.add(sixty_groups())
    with pytest.raises(DirectoryUnavailable) as error:
        await directory.lookup("ada")
    assert "sizeLimitExceeded" in error.value.log_message
    assert await directory.lookup("bob") is not None


TEN = "sizelimit size.soft=10 size.hard=10"
LIMITS = {
    TEN: None,
    f"{TEN} size.prtotal=unlimited": 61,
    f"{TEN} size.prtotal=unlimited size.pr=100": 61,
    f"{TEN} size.prtotal=unlimited size.pr=10": 61,
    f"{TEN} size.prtotal=unlimited size.pr=5": None,
}
"""The server's limits → groups found of 61; None: told as a failure."""


@pytest.mark.parametrize("limits", LIMITS)
async def test_a_server_with_a_limit_of_ten_is_asked_page_by_page(tmp_path: Path, limits: str) -> None:
    class Limited(Slapd):
        def config_text(self) -> str:
            return super().config_text().replace("sizelimit 50", limits)

    server = await Limited(tmp_path, Path("/home")).start()
    directory = Directory(settings(server, server.uri))
    try:
        await server.add(sixty_groups())
        if LIMITS[limits] is None:
            with pytest.raises(DirectoryUnavailable, match="cannot be reached") as error:
                await directory.lookup("ada")
            assert "LimitExceeded" in error.value.log_message
        else:
            found = await directory.lookup("ada")
            assert found is not None
            assert len(found[0].groups) == LIMITS[limits]
    finally:
        directory.close()
        await server.stop()
