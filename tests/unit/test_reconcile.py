"""What the reconciler decides, as tables: each line is a way in which ledger, hub and backend can differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daas_hub.core.models import Found, LaunchState, Life, Observation, Target
from daas_hub.core.reconcile import Do, Graces, Launch, Memory, Seen, decide
from daas_hub.core.turns import RESTARTED

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GRACES = Graces()
HANDLE = {"backend": "local", "version": 1}
RUNS, ENDED, UNKNOWN = (Observation(life) for life in (Life.RUNNING, Life.ENDED, Life.UNKNOWN))
S = LaunchState


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def launch(state: LaunchState = S.RUNNING, **values: Any) -> Launch:
    known: dict[str, Any] = {
        "id": "l1",
        "user_name": "ada",
        "backend": "local",
        "target": Target.RUNNING,
        "of_this_boot": True,
        "created_at": ago(1000),
        "stopping_since": None,
        "handle": HANDLE,
    }
    return Launch(state=state, **{**known, **values})


def found(launch_id: str | None = "l1") -> Found:
    return Found(launch_id, HANDLE, uid=1000, started_at=ago(500))


def seen(*launches: Launch, look: Observation | None = None, servers: Any = (), **values: Any) -> Seen:
    life = {} if look is None else {one.id: look for one in launches}
    there = {} if servers is None else {"local": servers}
    known: dict[str, Any] = {"answering": (), "blocked": (), **values}
    return Seen(launches=launches, found=there, life=life, now=NOW, **known)


EARLIER = {"of_this_boot": False}
NO_HANDLE: dict[str, Any] = {"handle": None}
UNWANTED = {"target": Target.STOPPED}


@pytest.mark.parametrize(
    ("row", "look", "answers", "does"),
    [
        # of this boot: the hub's own
        (launch(), RUNS, False, []),
        (launch(), UNKNOWN, False, []),
        (launch(S.SUBMITTED), RUNS, False, []),
        (launch(S.RESERVED, **NO_HANDLE), None, False, []),
        # of an earlier boot: adopted when it answers, from every state of a start
        (launch(**EARLIER), RUNS, True, [Do.ADOPT]),
        (launch(S.SUBMITTED, **EARLIER), RUNS, True, [Do.ADOPT]),
        (launch(S.RESERVED, **EARLIER), RUNS, True, [Do.ADOPT]),
        (launch(**EARLIER), RUNS, False, []),
        (launch(S.SUBMITTED, **EARLIER), RUNS, False, []),
        # unknown is never ended, and nothing is adopted on it
        (launch(**EARLIER), UNKNOWN, True, []),
        (launch(S.SUBMITTED, **EARLIER), UNKNOWN, False, []),
        (launch(**EARLIER), None, False, []),
        # ended: at once where its hub is gone, after a grace where it is not
        (launch(**EARLIER), ENDED, False, [Do.SETTLE]),
        (launch(S.STOPPING, **EARLIER), ENDED, False, [Do.SETTLE]),
        (launch(**EARLIER, **UNWANTED), ENDED, False, [Do.SETTLE]),
        (launch(), ENDED, False, []),
        # a start without a handle
        (launch(S.RESERVED, created_at=ago(29), **EARLIER, **NO_HANDLE), None, False, []),
        (launch(S.RESERVED, created_at=ago(30), **EARLIER, **NO_HANDLE), None, False, [Do.SETTLE]),
        (launch(S.SUBMITTED, created_at=ago(30), **EARLIER, **NO_HANDLE), None, False, [Do.SETTLE]),
        # one that waited in the hub's own queue: queued again, unless nobody wants it any more
        (launch(S.QUEUED, **NO_HANDLE), None, False, []),
        (launch(S.QUEUED, **EARLIER, **NO_HANDLE), None, False, [Do.ADOPT]),
        (launch(S.QUEUED, **EARLIER, **NO_HANDLE, **UNWANTED), None, False, [Do.SETTLE]),
        (launch(S.STOPPING, created_at=ago(30), **EARLIER, **NO_HANDLE), None, False, [Do.SETTLE]),
        # stops
        (launch(S.STOPPING, stopping_since=ago(69), **UNWANTED), RUNS, False, []),
        (launch(S.STOPPING, stopping_since=ago(70), **UNWANTED), RUNS, False, [Do.STOP]),
        (launch(S.STOPPING, stopping_since=ago(70), **UNWANTED), UNKNOWN, False, [Do.STOP]),
        (launch(S.STOPPING, stopping_since=ago(1), **UNWANTED, **EARLIER), RUNS, False, [Do.STOP]),
        (launch(**UNWANTED), RUNS, False, [Do.STOP]),
        (launch(**UNWANTED, **EARLIER), RUNS, True, [Do.STOP]),
        (launch(**UNWANTED), UNKNOWN, False, [Do.STOP]),
        (launch(S.ENDED), ENDED, False, []),
    ],
)
def test_one_launch(row: Launch, look: Observation | None, answers: bool, does: list[Do]) -> None:
    actions, _ = decide(seen(row, look=look, answering={row.id} if answers else ()), Memory(), GRACES)
    assert [action.do for action in actions] == does


def test_a_backend_that_cannot_be_asked_settles_nothing() -> None:
    row = launch(S.RESERVED, **EARLIER, **NO_HANDLE)
    assert decide(seen(row, servers=None), Memory(), GRACES)[0] == []


def test_who_cannot_be_queued_again_after_a_restart_is_settled_after_a_grace() -> None:
    row = launch(S.QUEUED, **EARLIER, **NO_HANDLE)
    [asked], memory = decide(seen(row, servers=None), Memory(), GRACES)
    assert asked.do is Do.ADOPT
    late = Memory({key: ago(GRACES.requeue_s) for key in memory.since})
    [over], _ = decide(seen(row, servers=None), late, GRACES)
    assert over.do is Do.SETTLE
    assert over.observation is not None
    assert over.observation.reason == RESTARTED
    assert decide(seen(row, blocked=["ada"]), Memory(), GRACES)[0][0].do is Do.SETTLE


def test_what_an_interrupted_start_left_is_found_by_its_launch_id() -> None:
    row = launch(S.SUBMITTED, **EARLIER, **NO_HANDLE)
    [action], _ = decide(seen(row, servers=[found("other"), found("l1")]), Memory(), GRACES)
    assert (action.do, action.handle) == (Do.SAVE_HANDLE, HANDLE)


def test_an_end_that_the_hub_does_not_settle_is_settled_after_a_grace() -> None:
    first, memory = decide(seen(launch(), look=ENDED), Memory(), GRACES)
    assert first == []
    early = Memory({key: ago(GRACES.ended_s - 1) for key in memory.since})
    assert decide(seen(launch(), look=ENDED), early, GRACES)[0] == []
    late = Memory({key: ago(GRACES.ended_s) for key in memory.since})
    [action], _ = decide(seen(launch(), look=ENDED), late, GRACES)
    assert action.do is Do.SETTLE
    assert action.observation is ENDED


def test_a_server_without_a_launch_is_reaped_after_a_grace_and_only_if_it_stays() -> None:
    nothing, memory = decide(seen(servers=[found("lost")]), Memory(), GRACES)
    assert nothing == []
    late = Memory({key: ago(GRACES.reap_s) for key in memory.since})
    [action], _ = decide(seen(servers=[found("lost")]), late, GRACES)
    assert (action.do, action.launch_id, action.handle) == (Do.REAP, "lost", HANDLE)
    gone, forgotten = decide(seen(), late, GRACES)
    assert (gone, forgotten.since) == ([], {})


def test_an_interrupted_start_that_never_answers_is_stopped_after_a_grace_in_which_it_could() -> None:
    row = launch(S.SUBMITTED, created_at=ago(10_000), **EARLIER)
    nothing, memory = decide(seen(row, look=RUNS), Memory(), GRACES)
    assert nothing == []
    early = Memory({key: ago(GRACES.unanswered_s - 1) for key in memory.since})
    assert decide(seen(row, look=RUNS), early, GRACES)[0] == []
    late = Memory({key: ago(GRACES.unanswered_s) for key in memory.since})
    [action], _ = decide(seen(row, look=RUNS), late, GRACES)
    assert action.do is Do.STOP
    # While its backend cannot be asked it cannot come up: the time begins anew.
    nothing, forgotten = decide(seen(row, look=UNKNOWN), late, GRACES)
    assert (nothing, forgotten.since) == ([], {})


def test_what_a_launch_left_is_removed_after_a_grace_unless_it_has_a_server_or_is_active() -> None:
    left = {"local": [{**HANDLE, "launch_id": name} for name in ("l1", "lost", "found")]}
    now = seen(launch(), look=RUNS, servers=[found("found")], left=left)
    nothing, memory = decide(now, Memory(), GRACES)
    assert nothing == []
    assert memory.since.keys() == {"orphan:local:found", "left:local:lost"}
    late = Memory({key: ago(GRACES.reap_s) for key in memory.since})
    actions, _ = decide(now, late, GRACES)
    assert [(action.do, action.launch_id) for action in actions] == [(Do.REAP, "found"), (Do.REAP, "lost")]
    assert (actions[1].handle or {})["launch_id"] == "lost"
    gone, forgotten = decide(seen(launch(), look=RUNS, left={"local": left["local"][:1]}), late, GRACES)
    assert (gone, forgotten.since) == ([], {})


def test_the_next_pass_comes_when_a_grace_is_over() -> None:
    memory = Memory({"a": ago(10), "b": ago(25), "overdue": ago(40)})
    assert memory.next_due_s(NOW, 30) == 5
    assert memory.next_due_s(NOW, 10) is None
    assert Memory().next_due_s(NOW, 30) is None


def test_a_server_with_a_launch_is_never_reaped() -> None:
    for state in S:
        if state is not S.ENDED:
            _, memory = decide(seen(launch(state), look=RUNS, servers=[found()]), Memory(), GRACES)
            assert not any(key.startswith("orphan") for key in memory.since), state


def test_a_blocked_person_loses_her_servers() -> None:
    actions, _ = decide(seen(launch(), look=RUNS, blocked={"ada"}), Memory(), GRACES)
    assert [action.do for action in actions] == [Do.BLOCK]
    actions, _ = decide(seen(launch(**EARLIER), look=RUNS, answering={"l1"}, blocked={"ada"}), Memory(), GRACES)
    assert [action.do for action in actions] == [Do.BLOCK]
    actions, _ = decide(seen(launch(**UNWANTED), look=RUNS, blocked={"ada"}), Memory(), GRACES)
    assert [action.do for action in actions] == [Do.STOP]
