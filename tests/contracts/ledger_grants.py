"""The ledger's contract about places that schedule by themselves: allocation, suspension, and their own accounting."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from daas_hub.core.grants import Booked, Given, Grant, Run
from daas_hub.core.models import Charge, LaunchState, Resource, Who
from daas_hub.db.ledger import LaunchRow, Ledger

from .ledger import Opened
from .ledger_samples import GIB, NOW, reservation, run, settle

START = NOW.replace(microsecond=0)
NODE = Given(8, 16 * GIB, 0)
S = timedelta(seconds=1)


def begun(ledger: Ledger, *, answered: int = 10) -> LaunchRow:
    """A launch whose job began at START and whose server answered so many seconds later; two cores were asked."""
    return run(ledger, ledger.reserve(reservation(), now=NOW), START + answered * S)


def told(ledger: Ledger, row: LaunchRow, grant: Grant, after_s: int) -> None:
    ledger.grant(row.id, grant, source="slurm", now=START + after_s * S)


def ended(ledger: Ledger, row: LaunchRow, after_s: int, booked: Booked | None = None) -> None:
    now = START + after_s * S
    assert ledger.settle(row.id, code=0, reason="left", evidence="seen", now=now, booked=booked)


def accounted(*runs: tuple[int, int, int], given: Given = NODE, final: bool = True) -> Booked:
    """From, to and counted seconds of each run, since START."""
    return Booked(
        tuple(Run(given, START + one * S, START + other * S, counted) for one, other, counted in runs), "sacct", final
    )


def used(ledger: Ledger, row: LaunchRow) -> tuple[int, int]:
    """Seconds of servers and of cores."""
    sums = ledger.counted(row.id)
    return sums["server_s"], sums["core_ms"] // 1000


class GrantsContract(Opened):
    """What was asked, what was given, and what accounting says."""

    def test_what_was_allocated_counts_from_the_begin_of_the_run(self, ledger: Ledger) -> None:
        row = begun(ledger)
        told(ledger, row, Grant(NODE, START, START + timedelta(hours=2)), 12)
        stored = ledger.get(row.id)
        assert stored is not None
        assert (stored.charge, stored.ends_at) == (Charge(8.0, 16 * GIB), START + timedelta(hours=2))
        (line,) = ledger.audit.list(subject=f"launch:{row.id}")
        assert (line.who, line.action) == ("slurm", "allocation")
        assert line.old == {"cores": 2.0, "memory_bytes": GIB, "gpus": 0}
        assert line.new == {"cores": 8.0, "memory_bytes": 16 * GIB, "gpus": 0}
        assert ledger.recount() == []
        # Told again, as after a restart of the hub: nothing changes.
        told(ledger, row, Grant(NODE, START, START + timedelta(hours=2)), 20)
        ended(ledger, row, 100)
        assert used(ledger, row) == (100, 800)
        assert len(ledger.audit.list(subject=f"launch:{row.id}")) == 1

    def test_more_than_was_asked_is_told_to_limits(self, ledger: Ledger) -> None:
        ledger.limits.set(Who.DEFAULT_EACH, "", Resource.CORES, 4, by="admin:root", now=NOW)
        row = begun(ledger)
        (passed,) = ledger.grant(row.id, Grant(NODE, START), source="slurm", now=START + 12 * S)
        assert (passed.resource, passed.amount, passed.used, passed.asked) == ("cores", 4, 0, 8)
        (notice,) = ledger.notices.list("a1")
        assert "counts for it: 8 cores, 16 GiB of memory. It passes the limit for each person" in notice.text
        assert not ledger.would_fit("a1", (), None, {"one": Charge(1.0)}, NOW)["one"]
        ended(ledger, row, 60)
        assert ledger.notices.list("a1") == [], "it was about a server that runs"
        assert ledger.would_fit("a1", (), None, {"one": Charge(1.0)}, NOW)["one"]

    @pytest.mark.parametrize(
        ("given", "charge"),
        [
            (Given(1, None, 0), Charge(1.0, GIB)),
            (Given(None, None, None), Charge(2.0, GIB)),
            (Given(2, GIB, 2), Charge(2.0, GIB, 2)),
        ],
    )
    def test_what_is_not_told_stays_as_asked(self, ledger: Ledger, given: Given, charge: Charge) -> None:
        row = begun(ledger)
        told(ledger, row, Grant(given, START), 12)
        stored = ledger.get(row.id)
        assert stored is not None
        assert stored.charge == charge

    def test_suspended_and_requeued_time_does_not_count(self, ledger: Ledger) -> None:
        row = begun(ledger)
        told(ledger, row, Grant(NODE, START), 12)
        for after_s in (100, 110):
            told(ledger, row, Grant(None), after_s)
        held = ledger.get(row.id)
        assert held is not None
        assert held.charge.cores == 8, "it keeps its reservation"
        assert ledger.recount() == []
        told(ledger, row, Grant(NODE, START), 200)
        told(ledger, row, Grant(None), 300)
        # A run of its own, heard of a little late, with less than the one before.
        told(ledger, row, Grant(Given(4, 8 * GIB, 0), START + 400 * S), 403)
        ended(ledger, row, 500)
        assert used(ledger, row) == (100 + 100 + 100, 8 * 200 + 4 * 100)
        moved = ledger.get(row.id)
        assert moved is not None
        assert moved.charge.cores == 4

    def test_accounting_corrects_what_was_counted_and_only_once(self, ledger: Ledger) -> None:
        row = begun(ledger)
        told(ledger, row, Grant(NODE, START), 12)
        told(ledger, row, Grant(None), 100)
        told(ledger, row, Grant(NODE, START), 202)
        # Seen 3 s after it was over; 99 s of it suspended, as SLURM says.
        exact = accounted((0, 300, 201))
        ended(ledger, row, 303, exact)
        assert used(ledger, row) == (201, 201 * 8)
        assert ledger.books_due() == []
        assert ledger.book(row.id, accounted((0, 500, 500)), now=START) == 0, "it was not due"
        assert used(ledger, row) == (201, 201 * 8)

    def test_accounting_that_was_away_corrects_later(self, ledger: Ledger) -> None:
        row = begun(ledger)
        told(ledger, row, Grant(Given(2, GIB, 0), START), 12)
        ended(ledger, row, 305, accounted((0, 300, 300), given=Given(2, GIB, 0), final=False))
        assert used(ledger, row) == (300, 600)
        ((waits, since),) = ledger.books_due()
        assert (waits.id, since) == (row.id, START + 305 * S)
        assert ledger.book(row.id, accounted(final=False), now=START + timedelta(hours=1)) == 0
        later = accounted((0, 100, 100), (160, 300, 140))
        assert ledger.book(row.id, later, now=START + timedelta(hours=1)) > 0
        assert used(ledger, row) == (240, 240 * 8)
        assert ledger.recount() == []
        assert ledger.books_due() == []
        assert ledger.book(row.id, later, now=START + timedelta(hours=2)) == 0

    def test_gpus_of_one_run_are_not_those_of_another(self, ledger: Ledger) -> None:
        row = begun(ledger)
        told(ledger, row, Grant(Given(8, 16 * GIB, 2), START), 12)
        runs = accounted((0, 100, 100)).runs + accounted((100, 200, 100), given=Given(8, 16 * GIB, 2)).runs
        ended(ledger, row, 200, Booked(runs, "sacct", final=True))
        assert ledger.counted(row.id)["gpu_s"] == 200

    def test_what_only_the_job_tells_leaves_earlier_runs_as_they_were_counted(self, ledger: Ledger) -> None:
        row = begun(ledger)
        told(ledger, row, Grant(NODE, START), 12)
        told(ledger, row, Grant(None), 100)
        told(ledger, row, Grant(NODE, START + 200 * S), 201)
        ended(ledger, row, 310, accounted((200, 300, 100), final=False))
        assert used(ledger, row) == (200, 1600)

    def test_a_place_without_books_is_not_asked_again(self, ledger: Ledger) -> None:
        row = begun(ledger)
        ledger.save_handle(row.id, {"backend": "local", "version": 1}, now=NOW)
        ledger.declare_lost(row.id, by="admin:root", why="its node burnt down", now=START + 60 * S)
        assert [one.id for one, _ in ledger.books_due()] == [row.id]
        assert ledger.book(row.id, None, now=NOW) == 0
        assert ledger.books_due() == []
        other = begun(ledger)
        settle(ledger, other, START + 60 * S)
        ledger.forget_books(other.id)
        assert ledger.books_due() == []

    def test_what_ran_and_never_answered_is_counted_as_it_was_accounted_for(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        ledger.move(row.id, LaunchState.SUBMITTED, now=NOW)
        told(ledger, row, Grant(NODE, START), 5)
        ended(ledger, row, 60, accounted((0, 50, 50)))
        assert used(ledger, row) == (50, 400)
        told(ledger, row, Grant(NODE, START), 70)
        assert used(ledger, row) == (50, 400), "it has ended"

    def test_a_notice_about_its_end_goes_with_it(self, ledger: Ledger) -> None:
        row = begun(ledger)
        like = "Your server will be stopped at "

        def announce(text: str) -> list[str]:
            ledger.notices.announce("a1", "", row.id, text, like=like, now=NOW)
            return [notice.text for notice in ledger.notices.list("a1")]

        assert ledger.notices.launches() == []
        assert announce(f"{like}9:00") == [f"{like}9:00"]
        assert announce(f"{like}9:00") == [f"{like}9:00"]
        assert ledger.notices.launches() == [row.id]
        assert announce(f"{like}9:30") == [f"{like}9:30"]
        (notice,) = ledger.notices.list("a1")
        ledger.notices.dismiss(notice.id, now=NOW)
        assert announce(f"{like}9:30") == [], "it was dismissed"
        assert announce(f"{like}9:40") == [f"{like}9:40"]
        assert announce("") == []
        announce(f"{like}9:50")
        now: datetime = START + 60 * S
        reason = "its time of 2 h on SLURM was over"
        assert ledger.settle(row.id, code=0, reason=reason, evidence="seen", now=now, time_over=True)
        (notice,) = ledger.notices.list("a1")
        assert notice.text == f"Your server was stopped: {reason}. Files in your home are kept."
