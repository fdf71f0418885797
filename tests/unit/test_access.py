"""The table of what an answer about a person means (docs/reference/access.md), line by line."""

from __future__ import annotations

import itertools

import pytest

from daas_hub.core.access import Answer, Browser, Limits, believable, decide, too_old

HOUR = 3600.0
TABLE = """
answer         age_h  admin  fewer | browser    tokens  servers  starts    banner  alert
valid          0      no     no    | keep       keep    keep     yes       no      no
valid          0      no     yes   | keep       shrink  warn     filtered  no      no
valid          0      yes    yes   | keep       shrink  warn     filtered  no      no
revoked        0      no     no    | end        revoke  stop     no        no      no
revoked        99     yes    no    | end        revoke  stop     no        no      no
sign_in_again  0      no     no    | sign_in    keep    keep     yes       no      no
unreachable    0      no     no    | keep       keep    keep     cached    yes     no
unreachable    4      no     no    | keep       keep    keep     cached    yes     no
unreachable    24     no     no    | keep       keep    keep     cached    yes     no
unreachable    24.1   no     no    | read_only  keep    keep     no        yes     no
unreachable    1      yes    no    | keep       keep    keep     cached    yes     no
unreachable    1.1    yes    no    | read_only  keep    keep     no        yes     no
unclear        0      no     no    | keep       keep    keep     no        yes     yes
unclear        24.1   no     no    | read_only  keep    keep     no        yes     yes
unclear        1.1    yes    no    | read_only  keep    keep     no        yes     yes
"""


@pytest.mark.parametrize("line", TABLE.strip().splitlines()[1:])
def test_a_line_of_the_table(line: str) -> None:
    answer, age_h, admin, fewer, _, *wanted = line.split()
    access = decide(
        Answer(answer), age_s=float(age_h) * HOUR, limits=Limits(), admin=admin == "yes", fewer_groups=fewer == "yes"
    )
    said = ["yes" if flag else "no" for flag in (access.banner, access.alert)]
    assert [access.browser, access.tokens, access.servers, access.starts, *said] == wanted


def test_only_revoked_takes_anything_from_who_is_signed_in() -> None:
    ages = (0.0, 4 * HOUR, 24 * HOUR, 1000 * HOUR)
    for answer, age_s, admin, fewer in itertools.product(Answer, ages, (True, False), (True, False)):
        access = decide(answer, age_s=age_s, limits=Limits(), admin=admin, fewer_groups=fewer)
        assert access.ends is (answer is Answer.REVOKED)
        assert (access.tokens == "revoke") is (access.servers == "stop") is access.ends


def test_the_limits_are_the_sites() -> None:
    limits = Limits(people_s=60, admins_s=30)
    for admin, age_s, browser in (
        (False, 60, Browser.KEEP),
        (False, 61, Browser.READ_ONLY),
        (True, 31, Browser.READ_ONLY),
    ):
        assert decide(Answer.UNREACHABLE, age_s=age_s, limits=limits, admin=admin).browser is browser


def test_the_reason_has_the_numbers() -> None:
    assert "1 d 1 h old" in too_old(25 * HOUR, 24 * HOUR)
    assert "for 1 d after" in too_old(25 * HOUR, 24 * HOUR)


@pytest.mark.parametrize(
    ("ends", "of", "believed"),
    [(0, 0, True), (10, 10, True), (11, 21, False), (11, 22, True), (500, 1000, True), (501, 1000, False)],
)
def test_how_many_may_leave_at_once(ends: int, of: int, believed: bool) -> None:
    assert believable(ends, of, 0.5, over=True) is believed
    assert believable(ends, of, 1.0, over=True)
    assert believable(ends, of, 1.0, over=False) is (ends <= 10)
