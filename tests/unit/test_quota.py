"""Which limits apply, which one is named, and what the refusal says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas_hub.core import quota
from daas_hub.core.errors import Exceeded
from daas_hub.core.models import Charge, Limit, Resource, Who
from daas_hub.core.quota import Amounts

NOW = datetime(2026, 3, 2, tzinfo=UTC)
GIB = 2**30
CORES, SERVERS, MEMORY, GPUS = Resource.CORES, Resource.SERVERS, Resource.MEMORY_BYTES, Resource.GPUS


def limit(who: Who, name: str, resource: Resource, amount: float, **more: object) -> Limit:
    return Limit(0, who, name, resource, amount, **more)  # type: ignore[arg-type]


EVERYBODY = limit(Who.DEFAULT_EACH, "", CORES, 2)
STUDENTS = limit(Who.GROUP_EACH, "students", CORES, 4)
STAFF = limit(Who.GROUP_EACH, "staff", CORES, 16)
HERS = limit(Who.USER, "a1", CORES, 1)
OTHER_USERS = limit(Who.USER, "a2", CORES, 99)
LAB_TOTAL = limit(Who.GROUP_TOTAL, "lab", CORES, 40)
BEAM_TOTAL = limit(Who.PROJECT_TOTAL, "beam", CORES, 80)
ALL = (EVERYBODY, STUDENTS, STAFF, HERS, OTHER_USERS, LAB_TOTAL, BEAM_TOTAL)


@pytest.mark.parametrize(
    ("rows", "groups", "project", "expected"),
    [
        ((), ("students",), None, ()),
        ((EVERYBODY,), (), None, (EVERYBODY,)),
        ((EVERYBODY, STUDENTS), (), None, (EVERYBODY,)),
        # A group's rule comes before everybody's, also where it is smaller; of several the largest.
        ((EVERYBODY, STUDENTS), ("students",), None, (STUDENTS,)),
        ((limit(Who.DEFAULT_EACH, "", CORES, 9), STUDENTS), ("students",), None, (STUDENTS,)),
        ((STUDENTS, STAFF), ("students", "staff"), None, (STAFF,)),
        # Her own row comes before all, also where it is the smallest.
        ((EVERYBODY, STUDENTS, STAFF, HERS), ("students", "staff"), None, (HERS,)),
        ((EVERYBODY, OTHER_USERS), (), None, (EVERYBODY,)),
        # Totals apply besides.
        (ALL, ("students", "lab"), "beam", (HERS, LAB_TOTAL, BEAM_TOTAL)),
        (ALL, ("students",), None, (HERS,)),
        # Each resource by itself.
        (
            (HERS, limit(Who.DEFAULT_EACH, "", SERVERS, 3)),
            (),
            None,
            (limit(Who.DEFAULT_EACH, "", SERVERS, 3), HERS),
        ),
        # What later parts enforce does not count here.
        ((limit(Who.USER, "a1", CORES, 1, window_s=3600),), (), None, ()),
        ((limit(Who.USER, "a1", CORES, 1, selector="profile=x"),), (), None, ()),
        ((limit(Who.USER, "a1", CORES, 1, ends_at=NOW),), (), None, ()),
        ((limit(Who.USER, "a1", CORES, 1, starts_at=NOW + timedelta(seconds=1)),), (), None, ()),
    ],
)
def test_what_applies(
    rows: tuple[Limit, ...], groups: tuple[str, ...], project: str | None, expected: tuple[Limit, ...]
) -> None:
    assert quota.applying(rows, account_id="a1", groups=groups, project=project, now=NOW) == expected
    assert quota.applying(reversed(rows), account_id="a1", groups=groups, project=project, now=NOW)[:1] == expected[:1]


def test_dates_are_half_open() -> None:
    row = limit(Who.DEFAULT_EACH, "", CORES, 1, starts_at=NOW, ends_at=NOW + timedelta(hours=1))
    for at, there in ((NOW, True), (NOW + timedelta(hours=1), False), (None, False)):
        assert bool(quota.applying([row], account_id="a1", groups=(), project=None, now=at)) is there


@pytest.mark.parametrize(
    ("amount", "used", "asked", "passes"),
    [
        (4, 0, 4.0, True),
        (4, 2, 2.0, True),
        (4, 2, 2.001, False),
        (0, 0, 0.001, False),
        # Nothing asked: an overdrawn limit is not in the way.
        (0, 0, 0.0, True),
        (2, 4, 0.0, True),
        (2, 4, 0.5, False),
        (0.3, 0.2, 0.1, True),  # exact: floats would say no
    ],
)
def test_a_limit_passes_up_to_its_amount(amount: float, used: float, asked: float, passes: bool) -> None:
    rows = [limit(Who.DEFAULT_EACH, "", CORES, amount)]
    balance = {"user:a1": Amounts(cores=round(used * 1000))}
    exceeded = quota.exceeded(rows, balance, Charge(asked, 0), "a1")
    assert (not exceeded) is passes
    for numbers in exceeded:
        assert (numbers.amount, numbers.used, numbers.asked) == (amount, used, asked)


def test_all_that_are_passed_are_named_and_the_one_with_least_left_first() -> None:
    rows = [
        limit(Who.GROUP_EACH, "students", CORES, 4),
        limit(Who.GROUP_TOTAL, "lab", CORES, 40),
        limit(Who.DEFAULT_EACH, "", MEMORY, 8 * GIB),
        limit(Who.DEFAULT_EACH, "", SERVERS, 2),
    ]
    used = {"user:a1": Amounts(2, 3000), "group:lab": Amounts(30, 39_500)}
    named = quota.exceeded(rows, used, Charge(2.0, GIB), "a1")
    # Nothing left at all; 0.5 left; 1 left. Memory is enough.
    assert [(n.resource, n.who) for n in named] == [
        ("servers", "default-each"),
        ("cores", "group-total"),
        ("cores", "group-each"),
    ]
    assert quota.refusal_others(named[1:]) == (
        "It would also pass the limit for all members of group lab together of 40 cores (39.5 cores in use, "
        "2 cores asked) and the limit for each member of group students of 4 cores (3 cores in use, 2 cores asked)."
    )
    assert quota.refusal_others(named[:1]) == (
        "It would also pass the limit for each person of 2 servers (2 servers in use, 1 server asked)."
    )
    nothing = Exceeded("gpus", "user", "a1", 0, 0, 1)
    assert quota.refusal_others([nothing]) == "It would also pass your own limit, which allows no GPUs."
    assert quota.refusal_others([]) == ""


SMALL = quota.Held("small", frozenset({"user:a1", "group:lab"}), Amounts(1, 1000))
BIG = quota.Held("", frozenset({"user:a1", "group:lab"}), Amounts(1, 3000))


@pytest.mark.parametrize(
    ("amount", "total", "asked", "said"),
    [
        (4, 100, 1, "Stopping your server small or your default server would help."),
        (4, 100, 2, "Stopping your default server would help."),
        (4, 100, 4, "Stopping your server small and your default server together would help."),
        (4, 100, 5, "Only an administrator can change that."),
        (
            9,
            10,
            5,
            "No server of yours that could be stopped is enough: wait until others end, or ask an administrator.",
        ),
        (9, 12, 3, "Stopping your default server would help."),
    ],
)
def test_what_would_help_is_said_by_name(amount: float, total: float, asked: float, said: str) -> None:
    """She holds 1 and 3 cores; others of her group hold 8."""
    rows = [limit(Who.USER, "a1", CORES, amount), limit(Who.GROUP_TOTAL, "lab", CORES, total)]
    used = {"user:a1": Amounts(2, 4000), "group:lab": Amounts(6, 12_000)}
    charge = Charge(asked, GIB)
    assert quota.exceeded(rows, used, charge, "a1")
    assert quota.relief_said(quota.relief(rows, used, charge, "a1", [SMALL, BIG])) == said


def test_only_what_is_needed_is_named() -> None:
    rows = [limit(Who.USER, "a1", CORES, 4)]
    held = [quota.Held(name, frozenset({"user:a1"}), Amounts(1, 1000)) for name in ("a", "b", "c", "d")]
    found = quota.relief(rows, {"user:a1": Amounts(4, 4000)}, Charge(2.0, GIB), "a1", held)
    assert (found.servers, found.together) == (("c", "d"), True)


def test_unknown_amounts_matter_only_where_they_are_limited() -> None:
    rows = [limit(Who.DEFAULT_EACH, "", MEMORY, GIB)]
    assert quota.uncounted(rows, Charge(None, GIB)) is None
    missing = quota.uncounted(rows, Charge(1.0, None))
    assert missing is not None
    assert quota.refusal_uncounted(missing) == (
        "This profile sets no limit on memory for its servers, but the limit for each person counts them. "
        "An administrator must complete the profile."
    )


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (
            Exceeded("cores", "group-each", "students", 4, 3, 2),
            "This start needs 2 cores, but the limit for each member of group students is 4 cores at once and "
            "3 cores are in use.",
        ),
        (
            Exceeded("servers", "default-each", "", 1, 1, 1),
            "This start would be 1 server more, but the limit for each person is 1 server at once and "
            "1 server is in use.",
        ),
        (
            Exceeded("memory_bytes", "user", "0f3a", 8 * GIB, 1.5 * GIB, 7 * GIB),
            "This start needs 7 GiB, but your own limit is 8 GiB at once and 1.5 GiB is in use.",
        ),
        (
            Exceeded("gpus", "project-total", "beam", 4, 4, 1),
            "This start needs 1 GPU, but the limit for project beam as a whole is 4 GPUs at once and "
            "4 GPUs are in use.",
        ),
        (
            Exceeded("gpus", "default-each", "", 0, 0, 2),
            "This start needs 2 GPUs, but the limit for each person allows no GPUs.",
        ),
        (
            Exceeded("cores", "group-total", "lab", 40, 40, 0.5),
            "This start needs 0.5 cores, but the limit for all members of group lab together is 40 cores at once "
            "and 40 cores are in use.",
        ),
    ],
)
def test_what_a_refusal_says(numbers: Exceeded, text: str) -> None:
    assert quota.refusal(numbers) == text


def test_scopes_are_sorted_and_each_counts_once() -> None:
    assert quota.scopes("a1", ("b", "a", "b"), "p") == ("group:a", "group:b", "project:p", "user:a1")
    assert quota.scopes("a1", (), None) == ("user:a1",)


@given(st.lists(st.tuples(st.floats(0, 64), st.integers(0, 2**40)), max_size=20), st.floats(0, 100))
def test_admitted_starts_never_pass_the_limit(starts: list[tuple[float, int]], amount: float) -> None:
    rows = [limit(Who.DEFAULT_EACH, "", CORES, amount)]
    held = Amounts()
    for cores, memory in starts:
        charge = Charge(cores, memory)
        if not quota.exceeded(rows, {"user:a1": held}, charge, "a1"):
            held = held.plus(quota.amounts(charge))
    assert held.cores <= amount * 1000 + 1e-6
    for cores, memory in starts:
        back = held.plus(quota.amounts(Charge(cores, memory)), -1)
        assert back.plus(quota.amounts(Charge(cores, memory))) == held
