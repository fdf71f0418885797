"""What was counted becomes what a place says was used: tables, and what holds for whatever was counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas_hub.core.books import Ran, Stretch, before, charge_given, differences, sum_of, used
from daas_hub.core.grants import Given
from daas_hub.core.models import Charge
from daas_hub.core.quota import Amounts

ONE = Amounts(1, 1000, 2**30, 0)
NODE = Amounts(1, 8000, 2**34, 1)
MORE = NODE.plus(ONE, -1)


def run(from_s: int, to_s: int, counted_s: int, amounts: Amounts = NODE) -> Ran:
    return Ran(from_s, to_s, counted_s, amounts)


@pytest.mark.parametrize(
    ("have", "want", "rows"),
    [
        ([], [], []),
        ([Stretch(0, 9, ONE)], [Stretch(0, 9, ONE)], []),
        ([Stretch(0, 5, ONE), Stretch(5, 9, ONE)], [Stretch(0, 9, ONE)], []),
        ([Stretch(5, 9, ONE)], [Stretch(0, 9, NODE)], [Stretch(0, 5, NODE), Stretch(5, 9, MORE)]),
        ([Stretch(0, 9, ONE)], [Stretch(0, 5, ONE)], [Stretch(5, 9, Amounts().plus(ONE, -1))]),
        # What was corrected already: the rows are summed first.
        ([Stretch(0, 9, ONE), Stretch(5, 9, Amounts().plus(ONE, -1))], [Stretch(0, 5, ONE)], []),
    ],
)
def test_differences(have: list[Stretch], want: list[Stretch], rows: list[Stretch]) -> None:
    assert differences(have, want) == rows


stretches = st.lists(
    st.builds(
        lambda at, length, n: Stretch(at, at + length, Amounts(1, n * 1000, n, 0)),
        st.integers(0, 50), st.integers(0, 50), st.integers(0, 3),
    ),
    max_size=6,
)  # fmt: skip


@given(stretches, stretches)
def test_corrected_once_there_is_no_difference(have: list[Stretch], want: list[Stretch]) -> None:
    rows = differences(have, want)
    assert differences([*have, *rows], want) == []
    assert sum_of([*have, *rows]) == sum_of(want)


@pytest.mark.parametrize(
    ("have", "ran", "counted"),
    [
        # Not suspended: all of it, whatever was counted of it.
        ([], run(0, 100, 100), [(0, 100)]),
        ([(10, 90)], run(0, 100, 100), [(0, 100)]),
        ([(10, 120)], run(0, 100, 100), [(0, 100)]),
        # Suspended while nothing was counted; heard of late, and of its end late, too.
        ([(10, 30), (60, 100)], run(0, 100, 70), [(0, 30), (60, 100)]),
        ([(10, 32), (63, 100)], run(0, 100, 70), [(0, 33), (63, 100)]),
        ([(10, 30), (60, 100)], run(0, 100, 75), [(0, 35), (60, 100)]),
        ([(10, 30), (60, 100)], run(0, 100, 60), [(0, 30), (60, 90)]),
        ([(10, 30), (60, 70)], run(0, 70, 5), [(0, 5)]),
        # Suspended and never heard of.
        ([(10, 100)], run(0, 100, 70), [(0, 70)]),
        # It says more than there is.
        ([], run(0, 100, 500), [(0, 100)]),
        ([], run(50, 50, 0), []),
    ],
)
def test_where_the_time_of_a_run_lies(have: list[tuple[int, int]], ran: Ran, counted: list[tuple[int, int]]) -> None:
    rows = [Stretch(one, other, ONE) for one, other in have]
    assert used(rows, [ran]) == [Stretch(one, other, NODE) for one, other in counted]


def test_each_run_is_looked_at_by_itself() -> None:
    have = [Stretch(0, 10, ONE), Stretch(30, 40, ONE)]
    found = used(have, [run(0, 12, 12), run(28, 40, 12, ONE)])
    assert found == [Stretch(0, 12, NODE), Stretch(28, 40, ONE)]


def test_the_part_before_a_moment() -> None:
    assert before([Stretch(0, 10, ONE), Stretch(10, 20, ONE), Stretch(20, 30, ONE)], 15) == [
        Stretch(0, 10, ONE), Stretch(10, 15, ONE),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "given", "counts"),
    [
        (Charge(1.0, 5), Given(8, 9, 0), Charge(8.0, 9)),
        (Charge(8.0, 9), Given(1, 5, 0), Charge(1.0, 5)),
        (Charge(1.0, 5), Given(), Charge(1.0, 5)),
        (Charge(), Given(2, None, 1), Charge(2.0, None, 1)),
        # A site that does not track GPUs tells none of a launch that has one.
        (Charge(1.0, 5, 1), Given(1, 5, 0), Charge(1.0, 5, 1)),
        (Charge(1.0, 5, 1), Given(1, 5, 2), Charge(1.0, 5, 2)),
    ],
)
def test_what_a_launch_counts_for(asked: Charge, given: Given, counts: Charge) -> None:
    assert charge_given(asked, given) == counts
