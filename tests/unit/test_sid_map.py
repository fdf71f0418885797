"""SIDs as uids: Debian's libsss_idmap says the same, and what it says in one order of events only is refused."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from daas_hub.core.errors import AccountRefused, ConfigError
from daas_hub.core.sid_map import SidSettings, check, murmur3, posix_id, split
from tests.servers.sss_idmap import asked

DOMAIN = "S-1-5-21-3623811015-3361044348-30300820"
SIDS = 10_000


def _domain(dice: random.Random) -> str:
    return "S-1-5-21-" + "-".join(str(dice.choice((dice.randrange(2**32), dice.randrange(5)))) for _ in range(3))


def _settings(dice: random.Random, domains: list[str]) -> SidSettings:
    """sssd's own, or some by which slices are few, so that they get into each other's way."""
    listed = tuple(domains[1 : dice.randrange(1, 5)])
    helpers = dice.choice((10, 10, 0, 1, 3))
    default = dice.choice(("", domains[0], domains[4]))
    if dice.random() < 0.4:
        return SidSettings(domains=listed, default_domain=default, helpers=dice.choice((10, helpers)))
    size = dice.choice((100, 1000, 200_000, dice.randrange(100, 300_000)))
    low = dice.randrange(1, 10**6)
    high = low + size * dice.choice((6, 40, dice.randrange(6, 100))) + dice.randrange(size)
    return SidSettings(low, high, size, dice.random() < 0.3, default, listed, helpers)


def _rid(dice: random.Random, size: int) -> int:
    near = dice.randrange(14) * size + dice.randrange(-2, 3)
    return max(0, min(dice.choice((dice.randrange(500, 5000), near, near, dice.randrange(60 * size))), 2**32 - 1))


@pytest.mark.needs("sss_idmap")
def test_debians_libsss_idmap_says_the_same() -> None:
    """A number is the one that a fresh machine gives; a refusal is sssd's, too, or its number is not the only one."""
    dice = random.Random(1)
    outcomes: Counter[str] = Counter()
    for _ in range(SIDS // 20):
        domains = [_domain(dice) for _ in range(5)]
        settings = _settings(dice, domains)
        for _ in range(20):
            sid = f"{dice.choice(domains)}-{_rid(dice, settings.range_size)}"
            theirs = asked(settings, settings.domains, sid)
            try:
                ours = posix_id(settings, sid)
            except AccountRefused:
                if theirs is not None:
                    outcomes["of some machines"] += 1
                    assert _depends_on_order(settings, sid), (settings, sid)
                else:
                    outcomes["refused by both"] += 1
                continue
            assert ours == theirs, (settings, sid)
            outcomes["number"] += 1
    assert sum(outcomes.values()) == SIDS
    assert outcomes["number"] > SIDS / 2
    assert min(outcomes.values()) > SIDS / 100, outcomes


def _depends_on_order(settings: SidSettings, sid: str) -> bool:
    """Whether machines that met the same domains and people in another order, or a stranger first, say otherwise."""
    domain, rid = split(sid)
    size = settings.range_size
    known = dict.fromkeys(filter(None, (settings.default_domain, *settings.domains)))
    # Where a domain is not listed, none of its people has a number unless the first one's is certain.
    wanted = (sid,) if domain in known else (f"{domain}-0", sid)
    usual = [asked(settings, settings.domains, each) for each in wanted]
    for before in ((domain, *settings.domains), ("S-1-5-21-1-2-3", *settings.domains)):
        if [asked(settings, before, each) for each in wanted] != usual:
            return True
    others = [(part, other) for part in range(1, rid // size + 1) for other in (*known, domain)]
    earlier = [f"{other}-{part * size}" for part, other in others if (part, other) != (rid // size, domain)]
    return asked(settings, settings.domains, *earlier, sid) != usual[-1]


def test_no_two_sids_have_one_number() -> None:
    """Also where slices are so few that their hashes meet all the time."""
    dice = random.Random(2)
    for _ in range(100):
        domains = tuple(_domain(dice) for _ in range(3))
        settings = SidSettings(5000, 5000 + 300, 10, dice.random() < 0.3, dice.choice(("", domains[0])), domains, 10)
        given: dict[int, str] = {}
        for sid in (f"{domain}-{rid}" for domain in domains for rid in range(0, 400, 5)):
            try:
                number = posix_id(settings, sid)
            except AccountRefused:
                continue
            assert given.setdefault(number, sid) == sid
            assert settings.range_min <= number < settings.range_max
        assert len(given) > 6


def test_sssds_defaults() -> None:
    """Figures of libsss_idmap 2.8.2."""
    assert posix_id(SidSettings(), f"{DOMAIN}-1104") == 674001104
    assert posix_id(SidSettings(default_domain=DOMAIN), f"{DOMAIN}-1104") == 201104
    assert posix_id(SidSettings(), f"{DOMAIN}-200000") == 1787200000


def test_the_hash() -> None:
    """Values that other implementations publish."""
    known = {(b"", 0): 0, (b"", 1): 0x514E28B7, (b"aaaa", 0x9747B28C): 0x5A97808A, (b"abc", 0x9747B28C): 0xC84A62DD}
    assert {given: murmur3(*given) for given in known} == known


@pytest.mark.parametrize(
    "sid",
    ["", "S-1-5-32-544", "S-1-5-18", DOMAIN, f"{DOMAIN}-01", f"{DOMAIN}- 1", f"{DOMAIN}-+1", f"{DOMAIN}-4294967296",
     "S-1-5-21-4294967296-1-2-500", f"{DOMAIN}-500\n", f"{DOMAIN}-５００", f" {DOMAIN}-500", f"{DOMAIN}-500-1"],
)  # fmt: skip
def test_what_is_no_account_of_a_domain_is_refused(sid: str) -> None:
    with pytest.raises(AccountRefused, match="is not the SID of an account"):
        posix_id(SidSettings(), sid)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SidSettings(range_min=0), "sid_range_min 0"),
        (SidSettings(range_min=10, range_max=9), "sid_range_max 9"),
        (SidSettings(range_max=2**31), "2147483648"),
        (SidSettings(range_size=0), "sid_range_size 0"),
        (SidSettings(range_size=2_000_000_001), "at least one range"),
        (SidSettings(helpers=-1), "sid_helper_slices is -1"),
        (SidSettings(default_domain="site.test"), "'site.test' is not the SID of a domain"),
        (SidSettings(domains=(f"{DOMAIN}-500",)), "is not the SID of a domain"),
        (SidSettings(1000, 3000, 1000, domains=("S-1-5-21-1-1-1", "S-1-5-21-1-1-2", "S-1-5-21-1-1-3")), "no slice is"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: SidSettings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(settings)


def test_a_domain_that_is_not_listed_where_the_order_counts() -> None:
    with pytest.raises(AccountRefused, match="list it in sid_domains"):
        posix_id(SidSettings(autorid=True), f"{DOMAIN}-500")
    one_slice = SidSettings(1000, 2000, 1000, domains=("S-1-5-21-1-1-1",))
    with pytest.raises(AccountRefused, match="raise sid_range_max"):
        posix_id(one_slice, f"{DOMAIN}-500")
