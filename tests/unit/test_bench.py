"""The bench's guard rails: what it does with rows, unknown names and a machine whose speed changes."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

CLONE = Path(__file__).resolve().parents[2]
ROW = {
    "goal": "P99",
    "name": "a pass",
    "unit": "ms",
    "ours": 1.0,
    "peer": 100.0,
    "ratio": 100.0,
    "target": ">= 50",
    "met": True,
    "conditions": "1,000 servers",
}


@pytest.fixture
def bench() -> dict[str, Any]:
    found: dict[str, Any] = runpy.run_path(str(CLONE / "scripts" / "lib" / "bench.py"))
    return found


def module(rows: list[dict[str, Any]]) -> tuple[Any, list[bool]]:
    calls: list[bool] = []

    def parts(long: bool) -> list[Any]:
        def part() -> list[dict[str, Any]]:
            calls.append(long)
            return rows

        return [part]

    return SimpleNamespace(__name__="p99", __doc__="A goal.", GOAL="P99", parts=parts), calls


def speeds(bench: dict[str, Any], values: list[float]) -> None:
    """Let the calibration find these times, one after another."""
    bench["measure"].__globals__["calibrate"] = iter(values).__next__


def test_a_steady_machine_is_measured_once(bench: dict[str, Any]) -> None:
    goal, calls = module([ROW])
    speeds(bench, [0.10, 0.11])
    [[row]] = bench["measure"](goal, long=True)
    assert calls == [True]
    assert row["met"] is True
    assert "1,000 servers" in row["conditions"]
    assert "baseline 100.0 → 110.0 ms" in row["conditions"]


def test_an_unsteady_machine_is_measured_again(bench: dict[str, Any]) -> None:
    goal, calls = module([ROW])
    speeds(bench, [0.10, 0.20, 0.20, 0.21])
    [[row]] = bench["measure"](goal, long=False)
    assert len(calls) == 2
    assert row["met"] is True


def test_a_machine_that_never_stands_still_meets_nothing(bench: dict[str, Any]) -> None:
    goal, calls = module([ROW])
    speeds(bench, [0.1, 0.2] * 5)
    [[row]] = bench["measure"](goal, long=False)
    assert len(calls) == 5
    assert row["met"] is False
    assert "inconclusive" in row["conditions"]


def test_a_row_without_its_target_is_an_error(bench: dict[str, Any]) -> None:
    goal, _ = module([{k: v for k, v in ROW.items() if k != "target"}])
    speeds(bench, [0.1, 0.1])
    [[row]] = bench["measure"](goal, long=False)
    assert row["met"] is False
    assert "lacks target" in row["conditions"]


def test_what_was_measured_is_told_and_kept_whatever_comes_next(
    bench: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, seen = tmp_path / "rows.json", []

    def fails() -> list[dict[str, Any]]:
        seen.append((capsys.readouterr().out, json.loads(file.read_text())))
        raise RuntimeError("the cluster\ndid not start")

    good, _ = module([ROW])
    bad = SimpleNamespace(__name__="p98", __doc__="One.", GOAL="P98", parts=lambda long: [good.parts(long)[0], fails])
    worse = SimpleNamespace(__name__="p97", __doc__="Two.", GOAL="P97", parts=lambda long: [][int(long)])
    bench["main"].__globals__["modules"] = lambda: {"P98": bad, "P97": worse, "P99": good}
    speeds(bench, [0.1] * 10)
    assert bench["main"](["--json", str(file)]) == 1
    [(told, kept)] = seen
    assert "a pass" in told
    assert [row["name"] for row in kept] == ["a pass"]
    rows = json.loads(file.read_text())
    assert [(row["goal"], row["met"]) for row in rows] == [
        ("P99", True), ("P98", False), ("P97", False), ("P99", True),
    ]  # fmt: skip
    assert "RuntimeError: the cluster did not start" in rows[1]["conditions"]
    assert "RuntimeError" in capsys.readouterr().out


def test_json_table_and_exit_status(bench: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goal, _ = module([ROW, {**ROW, "name": "another", "met": False, "peer": None}])
    bench["main"].__globals__["modules"] = lambda: {"P99": goal}
    speeds(bench, [0.1, 0.1])
    assert bench["main"](["p99", "--json", str(tmp_path / "rows.json")]) == 1
    assert [row["met"] for row in json.loads((tmp_path / "rows.json").read_text())] == [True, False]
    assert "another" in capsys.readouterr().out
    assert bench["main"](["--list"]) == 0
    assert "P99  A goal." in capsys.readouterr().out
    assert bench["main"](["p98"]) == 2
    assert "There are: P99" in capsys.readouterr().err
