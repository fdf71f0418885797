"""The arithmetic of the SLURM goals: what the controller counted, percentiles, numbers of tasks, when a row is met."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.bench import p4_status, p5_usable, p5_waiting, p11_restart, slurm_cluster

SDIAG = """*******************************************************
sdiag output at Sun Nov 22 06:00:00 2026 (1795327200)
Jobs submitted: 20

Remote Procedure Call statistics by message type
\tREQUEST_JOB_INFO                        ( 2003) count:7      ave_time:151    total_time:1057
\tREQUEST_PARTITION_INFO                  ( 2009) count:{partitions}      ave_time:51     total_time:357
\tMESSAGE_NODE_REGISTRATION_STATUS        ( 1002) count:4      ave_time:51     total_time:204
\tREQUEST_SUBMIT_BATCH_JOB                ( 4003) count:{submitted}      ave_time:51     total_time:204
\tREQUEST_STATS_INFO                      ( 2035) count:{looks}      ave_time:51     total_time:204

Remote Procedure Call statistics by user
\troot            (       0) count:99     ave_time:51     total_time:204

Pending RPC statistics
\tNo pending RPCs
"""


def test_only_questions_to_learn_something_are_counted() -> None:
    """Not the nodes' own messages, not what was submitted, not the looks at the counter, nothing of the users' part."""
    before = slurm_cluster.parse_rpcs(SDIAG.format(partitions=7, submitted=1, looks=1))
    after = slurm_cluster.parse_rpcs(SDIAG.format(partitions=12, submitted=9, looks=2))
    assert before["REQUEST_JOB_INFO"] == 7
    assert "root" not in before
    assert slurm_cluster.questions(before, after) == {"REQUEST_PARTITION_INFO": 5}
    assert slurm_cluster.questions({}, after) == {"REQUEST_JOB_INFO": 7, "REQUEST_PARTITION_INFO": 12}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0), (1.0, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert slurm_cluster.percentile([float(value) for value in range(100, 0, -1)], share) == expected
    assert slurm_cluster.percentile([7.0], share) == 7.0


def test_tasks_are_counted_beyond_the_last_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(slurm_cluster.__file__).parent))
    side = importlib.import_module("slurm_side")
    assert side.made_since(1000, 1004, 32768) == 4
    # 32766 and 32767, then 300 to 309.
    assert side.made_since(32765, 309, 32768) == 12


def test_a_turn_of_several_sweeps_counts_for_one() -> None:
    said = {"cpu_s": 0.5, "tasks": 10, "rpcs": 10, "controller_s": 0.1, "wall_s": 1.0, "sweeps": 5, "loop_gap_s": 0.01}
    assert slurm_cluster.per_sweep(said) == {
        "cpu_s": 0.1, "tasks": 2, "rpcs": 2, "controller_s": 0.02, "wall_s": 0.2, "loop_gap_s": 0.01,
    }  # fmt: skip


def test_targets_for_fewer_jobs_are_as_many_times_smaller() -> None:
    """100 jobs: 30 x CPU as installed, 10 x tuned, 50 x questions."""
    common = {"controller_s": 0.0, "wall_s": 1.0, "loop_gap_s": 0.0}
    ours = {"cpu_s": 0.01, "tasks": 2.0, "rpcs": 2.0, **common}
    found = {
        "ours": ours,
        "peer": {"cpu_s": 0.31, "tasks": 500.0, "rpcs": 300.0, **common},
        "tuned": {"cpu_s": 0.09, "tasks": 99.0, "rpcs": 99.0, **common},
    }
    rows = p4_status.sweep_rows(100, 5, found, "")
    assert [row["target"] for row in rows] == [">= 30 x", ">= 50 x", ">= 50 x", ">= 10 x", ">= 50 x", ">= 50 x"]
    assert [row["met"] for row in rows] == [True, True, True, False, False, False]
    assert rows[0]["ratio"] == pytest.approx(31)


def test_ends_that_nobody_looked_for_are_no_row() -> None:
    assert p4_status.seen_rows(50, {}) == []
    [row] = p4_status.seen_rows(50, {"ours": [1.0] * 99 + [6.0], "peer": [30.0] * 100})
    assert (row["ours"], row["peer"], row["met"]) == (1.0, 30.0, True)


def test_what_a_restart_adds_is_against_the_same_hub_without_the_spawner() -> None:
    """Ours 10 ms more than its own hub, the peer 2 s more than the plain one, and 1 s tuned: 200 and 100 x."""
    seconds = {"noop": 3.0, "peer": 5.0, "tuned": 3.5, "bundle": 6.0, "ours": 6.01}
    asked = {"noop": 0.0, "peer": 3000.0, "tuned": 3000.0, "bundle": 0.0, "ours": 40.0}
    found = {name: {"cpu_s": seconds[name], "wall_s": seconds[name], "rpcs": asked[name]} for name in seconds}
    rows = p11_restart.restart_rows(1000, 3, found)
    assert [row["ratio"] for row in rows] == pytest.approx([200, 75, 50, 75, 6.0 / 6.01])
    assert [row["met"] for row in rows] == [True, False, False, False, True]
    assert rows[0]["target"] == ">= 100 x, <= 0.12 s"


def test_a_restart_that_costs_nothing_counts_for_what_can_be_measured() -> None:
    found = {name: {"cpu_s": 3.0, "wall_s": 3.0, "rpcs": 2.0} for name in ("noop", "peer", "tuned", "bundle", "ours")}
    [row, *_] = p11_restart.restart_rows(50, 3, found)
    assert (row["ours"], row["peer"], row["met"]) == (p11_restart.FLOOR_S, p11_restart.FLOOR_S, False)


def test_calls_of_squeue_are_counted_by_what_each_asks_once() -> None:
    kinds = {"REQUEST_JOB_INFO": 3, "REQUEST_JOB_INFO_SINGLE": 4, "REQUEST_PARTITION_INFO": 7, "REQUEST_FED_INFO": 4}
    assert p5_waiting.squeues(kinds) == 7


def test_waiting_rows() -> None:
    """Calls and questions by their own ratio; late is the p95 of ours, whatever the peer's."""
    common = {"cpu_s": 1.0, "controller_s": 0.1, "loop_gap_s": 0.01}
    found = {
        "ours": {"rpcs": 120, "kinds": {"REQUEST_JOB_INFO": 60, "REQUEST_PARTITION_INFO": 60}, **common},
        "peer": {"rpcs": 36_000, "kinds": {"REQUEST_JOB_INFO_SINGLE": 12_000}, **common},
        "tuned": {"rpcs": 900, "kinds": {"REQUEST_JOB_INFO_SINGLE": 300}, **common},
    }
    late = {"ours": [0.5] * 95 + [3.0] * 5, "peer": [0.4] * 100, "tuned": [5.0] * 100}
    rows = p5_waiting.waiting_rows(100, 60.0, found, late)
    assert [row["met"] for row in rows] == [True, True, True, False, False, True]
    assert (rows[0]["ours"], rows[0]["peer"], rows[2]["ours"]) == (60, 12_000, 0.5)


def test_usable_rows() -> None:
    rows = p5_usable.usable_rows({"plain": [1.0, 1.2, 0.9], "ours": [1.3], "peer": [1.4], "tuned": [1.1]})
    assert [row["met"] for row in rows] == [False, True, False]
