"""The ledger's contract: what holds on every engine. A module per engine runs every class with its fixture ``url``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from daas_hub.core.errors import IllegalMove, InvalidOptions, LaunchConflict, NotAllowed, NotFound, QuotaExceeded
from daas_hub.core.models import ACTIVE, Charge, Event, LaunchState, Life, Observation, Resource, Target, Who
from daas_hub.db.ledger import Kept, Ledger

from .ledger_samples import GIB, NOW, account, reservation, run, settle


class Opened:
    """A ledger on an empty database; whatever a test did, the sums follow from the rows afterwards."""

    @pytest.fixture
    def ledger(self, url: str) -> Iterator[Ledger]:
        ledger = Ledger.open(url)
        yield ledger
        try:
            assert ledger.recount() == []
        finally:
            ledger.close()


class LaunchContract(Opened):
    """Admission, limits and a launch's life."""

    # ------------------------------------------------------------ admission

    def test_a_reservation_is_what_was_asked(self, ledger: Ledger) -> None:
        r = reservation()
        row = ledger.reserve(r, now=NOW)
        assert row == ledger.get(r.launch_id) == ledger.active("a1", "")
        assert (row.state, row.target, row.created_at) == (LaunchState.RESERVED, Target.RUNNING, NOW)
        assert (row.groups, row.project) == (("physics", "students"), "beamtime")
        assert (row.charge, row.request, row.api_token_encrypted) == (r.charge, r.request, r.api_token_encrypted)
        assert ledger.get("nobody") is None

    def test_the_same_launch_again_changes_nothing(self, ledger: Ledger) -> None:
        r = reservation()
        row = ledger.reserve(r, now=NOW)
        moved = ledger.move(row.id, LaunchState.SUBMITTED, now=NOW)
        assert ledger.reserve(r, now=NOW) == moved
        assert len(ledger.launches()) == 1

    def test_launches_are_found_by_the_name_they_began_with(self, ledger: Ledger) -> None:
        begun = ledger.reserve(reservation(user_name="alice"), now=NOW)
        ledger.reserve(reservation("a2", user_name="bob"), now=NOW)
        assert [row.id for row in ledger.begun_as("alice")] == [begun.id]
        settle(ledger, begun, NOW)
        assert ledger.begun_as("alice") == []

    def test_one_active_launch_per_server(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        with pytest.raises(LaunchConflict) as refused:
            ledger.reserve(reservation(), now=NOW)
        assert refused.value.launch_id == row.id
        other = ledger.reserve(reservation(server="lab"), now=NOW)
        settle(ledger, row, NOW)
        again = ledger.reserve(reservation(), now=NOW + timedelta(seconds=1))
        assert {r.id for r in ledger.launches(states=list(ACTIVE), account_id="a1")} == {other.id, again.id}
        ended = ledger.last_ended("a1", "")
        assert ended is not None
        assert ended.id == row.id

    def test_unknown_amounts_stay_unknown(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(charge=Charge(), groups=(), project=None), now=NOW)
        stored = ledger.get(row.id)
        assert stored == row
        assert (row.charge, row.groups, row.project) == (Charge(), (), None)

    # ------------------------------------------------------------ limits

    def limit(self, ledger: Ledger, who: Who, name: str, resource: Resource, amount: float) -> None:
        ledger.limits.set(who, name, resource, amount, by="admin:root", now=NOW, note="test")

    def test_a_refusal_has_the_numbers(self, ledger: Ledger) -> None:
        self.limit(ledger, Who.GROUP_EACH, "students", Resource.CORES, 4)
        ledger.reserve(reservation(charge=Charge(3.0, GIB)), now=NOW)
        with pytest.raises(QuotaExceeded) as refused:
            ledger.reserve(reservation(server="two"), now=NOW)
        assert refused.value.message == (
            "This start needs 2 cores, but the limit for each member of group students is 4 cores at once and "
            "3 cores are in use."
        )
        numbers = refused.value.exceeded
        assert (numbers.amount, numbers.used, numbers.asked, numbers.name) == (4, 3, 2, "students")
        assert len(ledger.launches()) == 1

    def test_a_persons_limit_counts_her_alone_and_a_total_everybody(self, ledger: Ledger) -> None:
        self.limit(ledger, Who.DEFAULT_EACH, "", Resource.SERVERS, 1)
        self.limit(ledger, Who.GROUP_TOTAL, "students", Resource.SERVERS, 2)
        ledger.reserve(reservation("a1"), now=NOW)
        with pytest.raises(QuotaExceeded, match="each person"):
            ledger.reserve(reservation("a1", "two"), now=NOW)
        second = ledger.reserve(reservation("a2"), now=NOW)
        with pytest.raises(QuotaExceeded, match="all members of group students together"):
            ledger.reserve(reservation("a3"), now=NOW)
        ledger.reserve(reservation("a4", groups=("physics",)), now=NOW)
        settle(ledger, second, NOW)
        ledger.reserve(reservation("a3"), now=NOW)

    def test_a_project_total_counts_its_launches(self, ledger: Ledger) -> None:
        self.limit(ledger, Who.PROJECT_TOTAL, "beamtime", Resource.MEMORY_BYTES, GIB)
        ledger.reserve(reservation("a1"), now=NOW)
        with pytest.raises(QuotaExceeded, match="project beamtime"):
            ledger.reserve(reservation("a2"), now=NOW)
        ledger.reserve(reservation("a2", project=None), now=NOW)

    def test_what_is_limited_must_be_known(self, ledger: Ledger) -> None:
        assert ledger.limited_resources() == set()
        self.limit(ledger, Who.DEFAULT_EACH, "", Resource.CORES, 4)
        assert ledger.limited_resources() == {Resource.CORES}
        with pytest.raises(NotAllowed, match="no limit on cores"):
            ledger.reserve(reservation(charge=Charge(None, GIB)), now=NOW)
        assert ledger.launches() == []

    def test_would_fit_says_what_reserve_would(self, ledger: Ledger) -> None:
        self.limit(ledger, Who.DEFAULT_EACH, "", Resource.CORES, 4)
        ledger.reserve(reservation(), now=NOW)
        charges = {"small": Charge(2.0, GIB), "large": Charge(2.001, GIB), "unknown": Charge(None, GIB)}
        fits = ledger.would_fit("a1", ("students",), None, charges, NOW)
        assert fits == {"small": True, "large": False, "unknown": False}
        ledger.reserve(reservation(server="s", charge=charges["small"]), now=NOW)
        with pytest.raises(QuotaExceeded):
            ledger.reserve(reservation(server="l", charge=Charge(0.001, GIB)), now=NOW)

    # ------------------------------------------------------------ a launch's life

    def test_a_handle_is_replaced_by_who_has_seen_it_only(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        old, new = {"version": 1, "job": 7}, {"version": 1, "job": 7, "port": 9000}
        assert ledger.replace_handle(row.id, old, new, now=NOW) is False
        ledger.move(row.id, LaunchState.SUBMITTED, now=NOW)
        ledger.save_handle(row.id, old, now=NOW)
        assert ledger.replace_handle(row.id, {"version": 1, "job": 8}, new, now=NOW) is False
        assert ledger.replace_handle(row.id, old, new, now=NOW) is True
        assert ledger.replace_handle(row.id, old, old, now=NOW) is False
        ledger.set_target(row.id, Target.STOPPED, now=NOW, reason="test", by="limit")
        assert ledger.replace_handle(row.id, new, old, now=NOW) is False
        seen = ledger.get(row.id)
        assert seen is not None
        assert seen.handle == new
        with pytest.raises(NotFound):
            ledger.replace_handle("nobody", old, new, now=NOW)

    def test_from_start_to_end(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        ledger.move(row.id, LaunchState.SUBMITTED, now=NOW)
        ledger.save_handle(row.id, {"version": 1, "pid": 7}, now=NOW)
        running = ledger.move(row.id, LaunchState.RUNNING, now=NOW + timedelta(seconds=2))
        assert running.started_at == NOW + timedelta(seconds=2)
        ledger.record_observation(row.id, Observation(Life.UNKNOWN, reason="silent"), now=NOW + timedelta(seconds=3))
        ledger.heartbeat([row.id], now=NOW + timedelta(seconds=4))
        seen = ledger.get(row.id)
        assert seen is not None
        assert (seen.handle, seen.observed, seen.observed_reason) == ({"version": 1, "pid": 7}, Life.UNKNOWN, "silent")
        assert (seen.observed_at, seen.heartbeat_at) == (NOW + timedelta(seconds=3), NOW + timedelta(seconds=4))
        stopping = ledger.move(row.id, LaunchState.STOPPING, now=NOW + timedelta(seconds=5))
        assert stopping.stopping_since == NOW + timedelta(seconds=5)
        assert settle(ledger, row, NOW + timedelta(seconds=6)) is True
        assert settle(ledger, row, NOW + timedelta(seconds=9)) is False
        ended = ledger.get(row.id)
        assert ended is not None
        assert (ended.state, ended.ended_at, ended.exit_code) == (LaunchState.ENDED, NOW + timedelta(seconds=6), 0)
        assert (ended.reason, ended.evidence) == ("left", "exit status 0 seen by pidfd")
        assert ended.api_token_encrypted is None

    def test_only_legal_moves(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        with pytest.raises(IllegalMove):
            ledger.move(row.id, LaunchState.RUNNING, now=NOW)
        running = run(ledger, row, NOW)
        assert ledger.move(row.id, LaunchState.RUNNING, now=NOW + timedelta(hours=1)) == running
        with pytest.raises(IllegalMove, match="evidence"):
            ledger.move(row.id, LaunchState.ENDED, now=NOW)
        with pytest.raises(IllegalMove):
            ledger.move(row.id, LaunchState.RESERVED, now=NOW)
        with pytest.raises(NotFound):
            ledger.move("nobody", LaunchState.SUBMITTED, now=NOW)

    def test_an_end_needs_evidence(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        with pytest.raises(InvalidOptions, match="evidence"):
            ledger.settle(row.id, code=None, reason="", evidence=" ", now=NOW)
        for why in ("", " \n", "x" * 501):
            with pytest.raises(InvalidOptions, match=r"why: .* is not allowed; say in 1 to 500 characters") as refused:
                ledger.declare_lost(row.id, by="admin:root", why=why, now=NOW)
            assert refused.value.field == "why"
        assert ledger.get(row.id) == row
        ledger.declare_lost(row.id, by="admin:root", why=" host burnt ", now=NOW)
        ledger.declare_lost(row.id, by="admin:eve", why="again", now=NOW)
        ended = ledger.get(row.id)
        assert ended is not None
        assert (ended.reason, ended.evidence) == ("declared lost: host burnt", "none: declared lost by admin:root")
        assert [(a.who, a.action, a.subject, a.why) for a in ledger.audit.list()] == [
            ("admin:root", "declare_lost", f"launch:{row.id}", "host burnt")
        ]

    def test_an_end_never_lies_before_its_start(self, ledger: Ledger) -> None:
        row = run(ledger, ledger.reserve(reservation(), now=NOW), NOW)
        yesterday = NOW - timedelta(days=1)
        ledger.settle(row.id, code=1, reason="", evidence="seen", now=NOW, ended_at=yesterday)
        ended = ledger.get(row.id)
        assert ended is not None
        assert ended.ended_at == NOW

    def test_going_back_to_reserved_forgets_the_handle(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        ledger.move(row.id, LaunchState.SUBMITTED, now=NOW)
        ledger.save_handle(row.id, {"version": 1}, now=NOW)
        back = ledger.move(row.id, LaunchState.RESERVED, now=NOW, reason="no memory there")
        assert (back.handle, back.reason) == (None, "no memory there")

    def test_reassign_moves_the_reservation_or_leaves_it(self, ledger: Ledger) -> None:
        self.limit(ledger, Who.DEFAULT_EACH, "", Resource.CORES, 4)
        row = ledger.reserve(reservation(), now=NOW)
        why = {"version": 1, "chosen": "slurm:gpu"}
        moved = ledger.reassign(row.id, backend="slurm", charge=Charge(4.0, 2 * GIB), now=NOW, placement=why)
        assert moved.request == {**row.request, "placement": why}
        assert (moved.backend, moved.charge) == ("slurm", Charge(4.0, 2 * GIB))
        with pytest.raises(QuotaExceeded) as refused:
            ledger.reassign(row.id, backend="kubernetes", charge=Charge(4.5, GIB), now=NOW)
        assert refused.value.exceeded.used == 0
        assert ledger.get(row.id) == moved
        run(ledger, row, NOW)
        with pytest.raises(IllegalMove):
            ledger.reassign(row.id, backend="local", charge=row.charge, now=NOW)

    def test_the_first_reason_to_stop_stays(self, ledger: Ledger) -> None:
        row = run(ledger, ledger.reserve(reservation(), now=NOW), NOW)
        first = ledger.set_target(row.id, Target.STOPPED, now=NOW, reason="idle for 2 min", by="culler")
        again = ledger.set_target(row.id, Target.STOPPED, now=NOW, reason="asked", by="alice")
        assert first == again
        assert (again.target, again.target_reason, again.target_by) == (Target.STOPPED, "idle for 2 min", "culler")
        with pytest.raises(IllegalMove):
            ledger.set_target(row.id, Target.RUNNING, now=NOW, reason="", by="alice")

    def test_why_it_was_to_stop_is_why_it_ended_whoever_sees_the_end(self, ledger: Ledger) -> None:
        row = run(ledger, ledger.reserve(reservation(), now=NOW), NOW)
        ledger.set_target(row.id, Target.STOPPED, now=NOW, reason="idle for 2 min", by="culler")
        assert settle(ledger, row, NOW)
        ended = ledger.get(row.id)
        assert ended is not None
        assert ended.reason == "idle for 2 min"

    def test_adopt_gives_a_launch_to_this_boot(self, ledger: Ledger) -> None:
        row = run(ledger, ledger.reserve(reservation(), now=NOW), NOW)
        adopted = ledger.adopt(row.id, "boot-2", now=NOW)
        assert (adopted.hub_boot_id, adopted.state) == ("boot-2", LaunchState.RUNNING)
        settle(ledger, row, NOW)
        with pytest.raises(IllegalMove):
            ledger.adopt(row.id, "boot-3", now=NOW)

    def test_several_launches_are_asked_for_seen_and_adopted_at_once(self, ledger: Ledger) -> None:
        rows = [ledger.reserve(reservation(server=f"s{number}"), now=NOW) for number in range(3)]
        for row in rows:
            run(ledger, row, NOW)
        settle(ledger, rows[1], NOW)
        ids = [row.id for row in rows]
        assert ledger.these([*ids, "nothing", ids[0]]) == {each: ledger.get(each) for each in ids}
        assert ledger.these(ids[:1]) == {ids[0]: ledger.get(ids[0])}
        assert (ledger.these(["nothing"]), ledger.these([])) == ({}, {})
        # Of two looks at the same one the later stays.
        looks = [(ids[2], Life.RUNNING, ""), (ids[0], Life.RUNNING, ""), (ids[2], Life.UNKNOWN, "away")]
        later = NOW + timedelta(minutes=1)
        ledger.record_observations([(each, Observation(life, reason=why), later) for each, life, why in looks])
        seen = ledger.these(ids)
        assert [(seen[each].observed, seen[each].observed_reason) for each in ids] == [
            (Life.RUNNING, ""), (None, ""), (Life.UNKNOWN, "away"),
        ]  # fmt: skip
        assert [seen[each].observed_at for each in ids] == [later, None, later]
        assert ledger.adopt_these([*ids, "nothing"], "boot-2", now=later) == {ids[0], ids[2]}
        assert [ledger.these(ids)[each].hub_boot_id for each in ids] == ["boot-2", rows[1].hub_boot_id, "boot-2"]
        assert ledger.adopt_these(ids[1:2], "boot-3", now=later) == set()
        ada = ledger.accounts.upsert(account(), ("issuer", "subject"), "ada", NOW).id
        assert ledger.accounts.user_names([ada, ada, "nobody"]) == {ada: "ada"}

    def test_events_in_their_order(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        steps = [Event(NOW, "Submitted", "pid 7", 10), Event(NOW, "Answers", "\x00\ud800raw", None)]
        ledger.add_events(row.id, steps[:1])
        ledger.add_events(row.id, steps[1:])
        numbered = ledger.events(row.id)
        assert [number for number, _ in numbered] == [1, 2]
        assert numbered[0][1] == steps[0]
        assert numbered[1][1].detail.endswith("raw")
        assert ledger.events(row.id, after=1) == numbered[1:]
        ledger.add_events(row.id, [Event(NOW, message) for message in ("third", "fourth", "fifth")])
        later = [(number, step.message) for number, step in ledger.events(row.id, after=2)]
        assert later == [(3, "third"), (4, "fourth"), (5, "fifth")]

    def test_log_and_making_are_kept_apart_from_the_row(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation(), now=NOW)
        assert ledger.kept(row.id) == ledger.kept("nothing") == Kept(None, None, None)
        ledger.keep_log(row.id, "first")
        ledger.keep_log(row.id, "last \x00words")
        made = {"image": "site/lab:2", "packages": {"numpy": "2.1"}}
        ledger.save_software(row.id, made, image_digest="sha256:0")
        assert ledger.kept(row.id) == Kept("last \ufffdwords", made, "sha256:0")
        assert ledger.get(row.id) == row

    def test_logs_are_forgotten_by_their_end_and_nothing_else_is(self, ledger: Ledger) -> None:
        rows = [ledger.reserve(reservation(server=str(i)), now=NOW) for i in range(4)]
        made = {"image": "site/lab:2"}
        for number, row in enumerate(rows):
            ledger.keep_log(row.id, "last words")
            ledger.save_software(row.id, made, image_digest=None)
            if number < 3:
                settle(ledger, row, NOW + timedelta(days=number))
        ended_before = NOW + timedelta(days=2)
        assert ledger.forget_logs(ended_before=ended_before, at_most=1) == 1
        assert ledger.forget_logs(ended_before=ended_before) == 1
        assert ledger.forget_logs(ended_before=ended_before) == 0
        # The third ended just then, and the last has not ended.
        assert [ledger.kept(row.id).log for row in rows] == [None, None, "last words", "last words"]
        assert [ledger.kept(row.id).software for row in rows] == [made] * 4
        ended = ledger.get(rows[0].id)
        assert ended is not None
        assert (ended.state, ended.reason) == (LaunchState.ENDED, "left")

    def test_newest_first_and_by_page(self, ledger: Ledger) -> None:
        ids = [ledger.reserve(reservation(server=str(i)), now=NOW + timedelta(seconds=i)).id for i in range(5)]
        first = ledger.launches(limit=2)
        assert [row.id for row in first] == [ids[4], ids[3]]
        rest = ledger.launches(limit=9, before=first[-1].place)
        assert [row.id for row in rest] == [ids[2], ids[1], ids[0]]
        assert ledger.launches(states=[LaunchState.RUNNING]) == []
        assert len(ledger.launches(backend="local")) == 5
        assert ledger.launches(backend="slurm") == []

    @pytest.mark.parametrize("size", [1, 3, 7, 40])
    def test_pages_lose_and_repeat_nothing_of_one_instant(self, ledger: Ledger, size: int) -> None:
        same = [ledger.reserve(reservation(server=str(i)), now=NOW).id for i in range(20)]
        later = ledger.reserve(reservation(server="later"), now=NOW + timedelta(microseconds=1)).id
        earlier = ledger.reserve(reservation(server="earlier"), now=NOW - timedelta(microseconds=1)).id
        seen: list[str] = []
        place = None
        while page := ledger.launches(account_id="a1", states=list(ACTIVE), limit=size, before=place):
            assert len(page) <= size
            seen += [row.id for row in page]
            if place is None:
                # What is new while somebody reads on is newer than what she reads.
                ledger.reserve(reservation(server="new"), now=NOW + timedelta(seconds=1))
            place = page[-1].place
        assert seen == [later, *sorted(same, reverse=True), earlier]
