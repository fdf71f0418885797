"""A real OpenLDAP while it changes: locks, renames, people who leave; and what it logs about our questions."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from daas_hub.clients.directory import Directory, Verdict, fill
from daas_hub.clients.directory_session import session
from daas_hub.core.errors import AccountRefused, DirectoryUnavailable
from daas_hub.core.naming import login_name
from tests.contracts.test_directory_slapd import settings
from tests.servers.slapd import BASE, PEOPLE, SERVICE_DN, SERVICE_PASSWORD, Slapd
from tests.waiting import until

pytestmark = pytest.mark.needs("slapd")


@pytest.fixture
async def slapd(tmp_path: Path) -> AsyncIterator[Slapd]:
    server = await Slapd(tmp_path, Path("/home")).start()
    yield server
    await server.stop()


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


async def operations(slapd: Slapd, directory: Directory, name: str, password: str) -> Counter[str]:
    """The operations of one login, as the server logged them."""
    before = slapd.log.stat().st_size
    await directory.authenticate(name, password)

    def lines() -> list[str]:
        with slapd.log.open(errors="replace") as log:
            log.seek(before)
            return re.findall(r" (ACCEPT|STARTTLS|BIND dn=\S+ method|SRCH base|UNBIND|closed)", log.read())

    await until(lambda: lines().count("closed") == lines().count("ACCEPT") > 0, what="the connections are closed")
    return Counter(re.sub(r"dn=\S+", "", line) for line in lines())


async def test_unknown_people_cost_the_same_operations_as_wrong_passwords(slapd: Slapd, directory: Directory) -> None:
    wrong = await operations(slapd, directory, "ada", "wrong")
    unknown = await operations(slapd, directory, "nobody-of-that-name", "wrong")
    locked = await operations(slapd, directory, "locked", "wrong")
    without_posix = await operations(slapd, directory, "noposix", "wrong")
    assert wrong["BIND  method"] == 2
    assert wrong["SRCH base"] == 1
    assert wrong == unknown == locked == without_posix


async def test_a_login_reads_no_schema_and_binds_once_as_her(slapd: Slapd, directory: Directory) -> None:
    await operations(slapd, directory, "ada", "wrong")
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


async def test_an_answer_that_was_cut_short_is_no_answer(slapd: Slapd, directory: Directory) -> None:
    # The server's sizelimit is 50: with some groups missing, somebody would lose access without a word.
    groups = (
        f"dn: cn=g{n},ou=groups,{BASE}\nobjectClass: posixGroup\ncn: g{n}\ngidNumber: {31000 + n}\nmemberUid: ada\n"
        for n in range(60)
    )
    await slapd.add("\n".join(groups))
    with pytest.raises(DirectoryUnavailable) as error:
        await directory.lookup("ada")
    assert "sizeLimitExceeded" in error.value.log_message
    assert await directory.lookup("bob") is not None


# ---------------------------------------------------------------- any text at all


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A server that the property tests share; they change nothing."""
    server = asyncio.run(Slapd(tmp_path_factory.mktemp("slapd"), Path("/home")).start())
    yield server
    asyncio.run(server.stop())


SPECIAL = ["*", "(", ")", "\\", "\0", "\n", " ", "|", "&", "=", ",", "+", '"', "#", "ａ", "\u00ad", "\\2a", "cn=", "a"]
NAMES = st.one_of(
    st.text(max_size=20),
    st.lists(st.sampled_from([*SPECIAL, *PEOPLE]), max_size=6).map("".join),
    st.tuples(st.sampled_from(sorted(PEOPLE)), st.sampled_from(SPECIAL), st.booleans()).map(
        lambda t: t[0] + t[1] if t[2] else t[1] + t[0]
    ),
)


def test_any_text_finds_nobody_or_exactly_the_entry_of_that_name(still: Slapd) -> None:
    plain = settings(still, still.uri)
    directory = Directory(replace(plain, address=replace(plain.address, allow_plaintext=True)))
    with asyncio.Runner() as runner:

        @bounded(max_examples=1000, deadline=None)
        @given(NAMES)
        def look_up(text: str) -> None:
            found = runner.run(directory.lookup(text))
            assert (found is not None) == (login_name(text) in PEOPLE)
            assert found is None or found[0].name == login_name(text)

        look_up()
    directory.close()


def squashed(text: str) -> str:
    """As caseIgnoreMatch prepares a value (RFC 4518): case, compatibility forms, controls and blanks do not count."""
    kept = (c for c in unicodedata.normalize("NFKC", text).casefold() if unicodedata.category(c) not in ("Cc", "Cf"))
    return "".join(kept).strip()


def test_any_text_in_a_filter_matches_only_itself(still: Slapd) -> None:
    plain = settings(still, still.uri)
    with session(replace(plain.address, allow_plaintext=True)) as service:
        assert service.bind(SERVICE_DN, SERVICE_PASSWORD)

        @bounded(max_examples=1000, deadline=None)
        @given(NAMES.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
        def search(text: str) -> None:
            found = service.search(plain.user_search_base, fill(plain.user_filter, {"name": text}), ["uid"])
            assert [squashed(text) for entry in found] == [entry["uid"][0] for entry in found]
            assert len(found) <= 1

        search()
