"""From claims to an account: agreement, refusals that name what is wrong, nothing guessed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from traitlets.config import Config

from daas_hub.accounts.resolve import Sources, resolve
from daas_hub.core.account import AccountPolicy, Claim, merge
from daas_hub.core.errors import AccountRefused, AccountUnresolved, ConfigError
from daas_hub.core.models import Account, AccountGroup, Identity
from daas_hub.core.sid_map import SidSettings
from daas_hub.spawners.spawner import DaasSpawner

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = AccountPolicy()
LDAP = Claim("ldap:site", "ada", 20001, 30001, (AccountGroup("lab", 30001),), "/home/ada", "/bin/bash", "Ada L.")
NSS = Claim("nss", "ada", 20001, 30001, (AccountGroup("lab", 30001), AccountGroup("beam", 30002)), "/home/ada")
SILENT = Claim("nss", "ada", None, None)


def test_sources_that_agree_make_one_account() -> None:
    account = merge("ada", [LDAP, NSS], POLICY, NOW)
    assert (account.uid, account.gid, account.home, account.shell) == (20001, 30001, "/home/ada", "/bin/bash")
    assert account.groups == (AccountGroup("lab", 30001), AccountGroup("beam", 30002))
    assert account.source == "ldap:site+nss"
    assert account.fetched_at == NOW


def test_a_source_that_does_not_know_her_is_no_disagreement() -> None:
    assert merge("ada", [LDAP, SILENT], POLICY, NOW).source == "ldap:site"


def test_the_primary_group_is_always_there() -> None:
    assert merge("ada", [replace(LDAP, groups=())], POLICY, NOW).groups == (AccountGroup("ada", 30001),)


def test_nobody_knows_her() -> None:
    with pytest.raises(AccountUnresolved, match="ldap:site, nss"):
        merge("ada", [replace(LDAP, uid=None, gid=None), SILENT], POLICY, NOW)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ([LDAP, replace(NSS, uid=20002)], "20001 by ldap:site but 20002 by nss"),
        ([LDAP, replace(NSS, gid=30002)], "30001 by ldap:site but 30002 by nss"),
        ([LDAP, replace(NSS, groups=(AccountGroup("lab", 7),))], "gid 30001 by ldap:site but 7 by nss"),
        ([replace(LDAP, gid=None)], "no gid in ldap:site"),
        ([replace(LDAP, uid=None), NSS], "no uid in ldap:site"),
        ([replace(LDAP, home=None)], "no usable home"),
        ([replace(LDAP, home="home/ada")], "no usable home"),
        ([replace(LDAP, home="/")], "no usable home"),
        ([replace(LDAP, home="/home/../etc")], "no usable home"),
        ([replace(LDAP, uid=0)], "uid 0 is below"),
        ([replace(LDAP, uid=999)], "uid 999 is below the lowest one allowed, 1000"),
        ([replace(LDAP, uid=-1)], "below"),
        ([replace(LDAP, uid=65534)], "reserved range 65520-65535"),
        ([replace(LDAP, uid=61184)], "reserved range 61184-65519"),
        ([replace(LDAP, uid=2**31)], "reserved range 2147483648-4294967295"),
        ([replace(LDAP, gid=0)], "gid 0"),
        ([replace(LDAP, groups=(AccountGroup("root", 0),))], "gid 0"),
        ([replace(LDAP, gid=2**32 - 1)], "is not a group"),
        ([replace(LDAP, uid=2**32)], "is not a user"),
        ([replace(LDAP, groups=(AccountGroup("wraps", 2**32),))], r"gid 4294967296 \(wraps\) is not a group"),
        ([replace(LDAP, groups=(AccountGroup("nogroup", 65534),))], r"gid 65534 \(nogroup\) lies in the reserved"),
        ([replace(LDAP, home="//")], "no usable home"),
        ([replace(LDAP, home="/./")], "no usable home"),
        ([replace(LDAP, home="/home/ada:0:0")], "no usable home"),
        ([replace(LDAP, home="/home/ada\nroot")], "no usable home"),
    ],
)
def test_refused(claims: list[Claim], said: str) -> None:
    with pytest.raises(AccountRefused, match=said):
        merge("ada", claims, POLICY, NOW)


def test_what_is_no_number_of_the_kernels_is_refused_whatever_is_reserved() -> None:
    for uid in (2**32 - 1, 2**32, 2**32 + 20001):
        with pytest.raises(AccountRefused, match="is not a user"):
            merge("ada", [replace(LDAP, uid=uid)], AccountPolicy(reserved=()), NOW)


def test_a_denied_name() -> None:
    with pytest.raises(AccountRefused, match="system account"):
        merge("slurm", [replace(LDAP, name="slurm")], POLICY, NOW)


async def test_resolve_asks_all_sources_and_nss_really_knows_this_machine() -> None:
    """`daemon` is in every passwd file: NSS answers with uid 1 and the directory's other uid is refused."""
    identity = Identity(
        "ldap:site", "uuid", "daemon", attributes={"uid_number": 20001, "gid_number": 30001, "home": "/home/d"}
    )

    async def nothing(_name: str) -> Account | None:
        return None

    with pytest.raises(AccountRefused, match="20001 by ldap:site but 1 by nss"):
        await resolve(identity, sources=Sources(), admin_row=nothing, policy=POLICY, now=NOW)
    account = await resolve(
        replace(identity, name="ada"), sources=Sources(nss=False), admin_row=nothing, policy=POLICY, now=NOW
    )
    assert account.uid == 20001


async def test_an_administrators_row_counts_and_must_agree() -> None:
    identity = Identity("ldap:site", "uuid", "no-such-person-here")
    row = Account("", "no-such-person-here", 20009, 30009, (), "/home/n", "/bin/sh", "admin", NOW)

    async def entered(name: str) -> Account | None:
        assert name == "no-such-person-here"
        return row

    account = await resolve(identity, sources=Sources(), admin_row=entered, policy=POLICY, now=NOW)
    assert (account.uid, account.source) == (20009, "administrator")
    other = replace(identity, attributes={"uid_number": 20010, "gid_number": 30009, "home": "/home/n"})
    with pytest.raises(AccountRefused, match="20009 by administrator but 20010 by ldap:site"):
        await resolve(other, sources=Sources(), admin_row=entered, policy=POLICY, now=NOW)


async def test_a_number_that_is_none_is_refused() -> None:
    async def nothing(_name: str) -> Account | None:
        return None

    identity = Identity("ldap:site", "uuid", "ada", attributes={"uid_number": "twenty", "gid_number": 1})
    with pytest.raises(AccountRefused, match="'twenty' as uid_number"):
        await resolve(identity, sources=Sources(nss=False), admin_row=nothing, policy=POLICY, now=NOW)


IN_A_DOMAIN = Identity(
    "ldap:site",
    "guid",
    "ada",
    attributes={
        "sid": "S-1-5-21-3623811015-3361044348-30300820-1104",
        "primary_group_sid": "S-1-5-21-3623811015-3361044348-30300820-513",
        "group_sids": [
            ["lab", "S-1-5-21-3623811015-3361044348-30300820-1105"],
            ["Domain Users", "S-1-5-21-3623811015-3361044348-30300820-513"],
            ["Users", "S-1-5-32-545"],
        ],
        "home": "/home/ada",
    },
)
MAPPED = Sources(sids=SidSettings(), nss=False)


async def _nothing(_name: str) -> Account | None:
    return None


async def test_sids_are_a_source() -> None:
    account = await resolve(IN_A_DOMAIN, sources=MAPPED, admin_row=_nothing, policy=POLICY, now=NOW)
    assert (account.uid, account.gid, account.source) == (674001104, 674000513, "SIDs of ldap:site")
    assert account.groups == (AccountGroup("Domain Users", 674000513), AccountGroup("lab", 674001105))
    assert account.home == "/home/ada"
    with pytest.raises(AccountUnresolved):
        await resolve(IN_A_DOMAIN, sources=Sources(nss=False), admin_row=_nothing, policy=POLICY, now=NOW)


async def test_sids_and_attributes_must_agree_where_both_count() -> None:
    numbers = {"uid_number": 20001, "gid_number": 674000513}
    both = replace(IN_A_DOMAIN, attributes={**IN_A_DOMAIN.attributes, **numbers})
    with pytest.raises(AccountRefused, match="20001 by ldap:site but 674001104 by SIDs of ldap:site"):
        await resolve(both, sources=MAPPED, admin_row=_nothing, policy=POLICY, now=NOW)
    sids_only = replace(MAPPED, posix_attributes=False)
    account = await resolve(both, sources=sids_only, admin_row=_nothing, policy=POLICY, now=NOW)
    assert (account.uid, account.source) == (674001104, "SIDs of ldap:site")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"primary_group_sid": None}, "has no gid in SIDs of ldap:site"),
        ({"sid": "S-1-5-32-544"}, "'S-1-5-32-544' is not the SID of an account"),
        ({"group_sids": [["odd", "S-1-5-21-1-2-3-x"]]}, "is not the SID of an account"),
        ({"group_sids": [["far", "S-1-5-21-3623811015-3361044348-30300820-4294967295"]]}, "have no slice"),
        ({"group_sids": [["lab", "S-1-5-21-1-2-3-7"], ["lab", "S-1-5-21-1-2-3-8"]]}, "disagree on the group lab"),
    ],
)
async def test_sids_that_give_no_number_refuse_her(changed: dict[str, object], said: str) -> None:
    odd = replace(IN_A_DOMAIN, attributes={**IN_A_DOMAIN.attributes, **changed})
    with pytest.raises(AccountRefused, match=said):
        await resolve(odd, sources=MAPPED, admin_row=_nothing, policy=POLICY, now=NOW)


async def test_who_has_no_sid_is_not_known_by_it() -> None:
    other = Identity("https://id.test", "sub", "ada")
    with pytest.raises(AccountUnresolved, match=r"SIDs of https://id\.test"):
        await resolve(other, sources=MAPPED, admin_row=_nothing, policy=POLICY, now=NOW)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_posix_attributes": False}, "one of them must be on"),
        ({"sid_map": True, "sid_range_size": 0}, "sid_range_size 0"),
        ({"sid_map": True, "sid_default_domain": "SITE"}, "'SITE' is not the SID of a domain"),
        ({"sid_map": True, "sid_domains": ["S-1-5-21-1"]}, "'S-1-5-21-1' is not the SID of a domain"),
        (
            {"sid_map": True, "allocated_uids": [[300_000, 300_009]], "allocated_gids": [[300_000, 300_009]]},
            "overlaps the range of SIDs, 200000-2000200000",
        ),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, object], said: str) -> None:
    spawner = DaasSpawner(config=Config(DaasSpawner=settings))
    with pytest.raises(ConfigError, match=said):
        (spawner.sources(), spawner.allocator_ranges())
