"""Which server is asked next: by tier, priority and lot, around those that failed, and back again."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas_hub.core.failover import Failure, Server, Tier, arranged, discovered, listed, order

A, B = listed(["ldap://a", "ldap://b"], Tier.PRIMARY)
(C,) = listed(["ldap://c"], Tier.BACKUP)
ALL = [C, B, A]


def least(_most: int) -> int:
    return 0


def uris(failures: dict[str, Failure], now: float, hold_s: float = 30) -> str:
    found = order(ALL, failures, now, hold_s=hold_s, draw=least)
    return "".join(server.uri[-1] for server in found)


HUNG, REFUSED = Failure(100, slow=True), Failure(100, slow=False)


@pytest.mark.parametrize(
    ("failures", "now", "expected"),
    [
        ({}, 100, "abc"),
        ({"ldap://a": HUNG}, 129.9, "bc"),
        ({"ldap://a": HUNG}, 130, "abc"),
        ({"ldap://a": REFUSED}, 129.9, "bca"),
        ({"ldap://a": REFUSED}, 130, "abc"),
        ({"ldap://a": HUNG, "ldap://b": HUNG}, 110, "c"),
        ({"ldap://a": HUNG, "ldap://b": REFUSED}, 110, "cb"),
        ({"ldap://a": HUNG, "ldap://b": HUNG, "ldap://c": HUNG}, 110, ""),
        ({"ldap://a": REFUSED, "ldap://b": REFUSED, "ldap://c": REFUSED}, 110, "abc"),
        ({"ldap://a": Failure(100, slow=True, tried_until=140)}, 135, "bc"),
        ({"ldap://a": Failure(100, slow=True, tried_until=140)}, 140, "abc"),
        ({"ldap://x": HUNG}, 110, "abc"),
    ],
)
def test_servers_that_failed_are_left_out_for_a_while(failures: dict[str, Failure], now: float, expected: str) -> None:
    assert uris(failures, now) == expected


def test_without_hold_down_nobody_is_left_out() -> None:
    assert uris({"ldap://a": HUNG}, 100, hold_s=0) == "abc"


def test_weights_are_shares_of_the_first_place() -> None:
    random = Random(2782)
    heavy, light, never = (
        Server(name, Tier.DISCOVERED, 1, weight) for name, weight in (("h", 30), ("l", 10), ("n", 0))
    )
    far = Server("far", Tier.DISCOVERED, 2, 1000)
    firsts = Counter[str]()
    for _ in range(4000):
        places = arranged([far, light, heavy, never], lambda most: random.randint(0, most))
        assert places[-1] is far
        firsts[places[0].uri] += 1
    assert 2.6 < firsts["h"] / firsts["l"] < 3.4
    # A draw of 0, one in 41: the RFC's "very small chance of being selected".
    assert 50 < firsts["n"] < 160


@given(
    st.lists(st.tuples(st.sampled_from(Tier), st.integers(0, 3), st.integers(0, 65535)), max_size=8),
    st.dictionaries(st.integers(0, 7).map(str), st.builds(Failure, st.floats(0, 100), st.booleans())),
    st.randoms(use_true_random=False),
)
def test_nobody_is_lost_or_asked_twice(
    ranks: list[tuple[Tier, int, int]], failures: dict[str, Failure], random: Random
) -> None:
    servers = [Server(str(n), *rank) for n, rank in enumerate(ranks)]
    found = order(servers, failures, 100.0, hold_s=30, draw=lambda most: random.randint(0, most))
    held = {s.uri for s in servers if s.uri in failures and failures[s.uri].slow and failures[s.uri].at > 70}
    assert sorted(s.uri for s in found) == sorted({s.uri for s in servers} - held)
    free = [s for s in found if s.uri not in failures]
    assert [(s.tier, s.priority) for s in free] == sorted((s.tier, s.priority) for s in free)


def test_records_of_dns_are_servers_inside_the_domain_only() -> None:
    records = [(0, 5, 389, "DC1.Site.Test."), (1, 0, 3389, "site.test."), (0, 1, 389, "evil.test."),
               (0, 1, 389, "notsite.test."), (0, 1, 389, "site.test.evil.org."), (0, 0, 0, ".")]  # fmt: skip
    inside, outside = discovered(records, "site.test.")
    assert inside == [
        Server("ldap://dc1.site.test:389", Tier.DISCOVERED, 0, 5),
        Server("ldap://site.test:3389", Tier.DISCOVERED, 1, 0),
    ]
    assert outside == ["evil.test", "notsite.test", "site.test.evil.org"]
