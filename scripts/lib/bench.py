"""Measure the goals: each is a module ``tests/bench/p<number>.py`` with ``GOAL`` and ``parts(long)``.

A part is a function that measures and returns rows; each is judged by itself, so that a long one is not repeated
because of a short one.

A row is a mapping with goal, name, unit, ours, peer, ratio, target, met, conditions. A module measures ours and the
peer interleaved and takes medians itself; what is done here is the guard rail around it: the same fixed piece of work
is timed before and after, and when the machine's speed changed by more than 15 % the part is measured again.

Rows are printed and saved as soon as they are measured. A part that raises is a row that says so and is not met; what
comes after it is measured all the same.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

CLONE = Path(__file__).resolve().parents[2]
KEYS = ("goal", "name", "unit", "ours", "peer", "ratio", "target", "met", "conditions")
MAX_DRIFT = 0.15
TRIES = 5
MAX_SAID = 1000
"""Characters of an error's text in its row."""


def calibrate() -> float:
    """Seconds that a fixed piece of work takes just now (the median of five): the machine's idle baseline."""

    def once() -> float:
        began = time.perf_counter()
        total = 0
        for number in range(400_000):
            total += number * number % 7
        return time.perf_counter() - began

    return statistics.median(once() for _ in range(5))


def modules() -> dict[str, ModuleType]:
    """The goals that can be measured here, by name (``P1``, ``P8-restart``, ``P12``, …)."""
    found = {}
    for path in sorted((CLONE / "tests" / "bench").glob("p[0-9]*.py")):
        module = importlib.import_module(f"tests.bench.{path.stem}")
        found[str(module.GOAL)] = module
    return dict(sorted(found.items(), key=lambda item: (int(item[0][1:].partition("-")[0]), item[0])))


def conditions(before_s: float, after_s: float, tries: int) -> str:
    """What a reader must know about a figure: the machine, its speed before and after, how often it was measured."""
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, baseline {before_s * 1e3:.1f} → "
        f"{after_s * 1e3:.1f} ms, measured {tries}×, {'root' if os.geteuid() == 0 else 'not root'}"
    )


def measure(module: ModuleType, *, long: bool) -> Iterator[list[dict[str, Any]]]:
    """One goal's rows, part by part, each as soon as it is measured."""
    try:
        parts = list(module.parts(long))
    except Exception as error:
        yield [_failed(module, error)]
        return
    for part in parts:
        try:
            rows = _measure_part(module.__name__, part)
        except Exception as error:
            rows = [_failed(module, error)]
        yield rows


def _failed(module: ModuleType, error: Exception) -> dict[str, Any]:
    """The row of what could not be measured."""
    traceback.print_exception(error)
    said = " ".join(str(error).split())[:MAX_SAID] or "it said nothing"
    row = dict.fromkeys(KEYS) | {"goal": str(module.GOAL), "name": "could not be measured", "target": "to be measured"}
    return row | {"met": False, "conditions": f"{type(error).__name__}: {said}"}


def _measure_part(name: str, part: Callable[[], Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One part's rows. Where the machine's speed never stood still, they say inconclusive and count as not met."""
    rows: Sequence[Mapping[str, Any]] = ()
    tries, steady, note = 0, False, ""
    while tries < TRIES and not steady:
        tries += 1
        before_s = calibrate()
        rows = part()
        after_s = calibrate()
        steady = abs(after_s - before_s) / min(before_s, after_s) <= MAX_DRIFT
        note = conditions(before_s, after_s, tries)
    result = []
    for row in rows:
        missing = [key for key in KEYS if key not in row]
        if missing:
            raise ValueError(f"{name}: a row lacks {', '.join(missing)}.")
        entry = {key: row[key] for key in KEYS}
        entry["conditions"] = "; ".join(text for text in (str(row["conditions"]), note) if text)
        if not steady:
            entry["met"] = False
            entry["conditions"] += "; inconclusive: the machine's speed changed by more than 15 % in every try"
        result.append(entry)
    return result


def show(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table for a terminal."""

    def text(value: object) -> str:
        if value is None:
            return "-"
        if isinstance(value, bool):
            return "yes" if value else "NO"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    head = KEYS[:-1]
    cells = [[text(row[key]) for key in head] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in [head, *cells]]
    return "\n".join(lines)


def _measure_all(goals: Sequence[ModuleType], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows, each told and saved before the next part begins; the whole table once more where there were several."""
    rows: list[dict[str, Any]] = []
    told = 0
    for module in goals:
        print(f"{module.GOAL} …", file=sys.stderr, flush=True)
        for some in measure(module, long=options.long):
            rows += some
            told += 1
            print(show(some))
            print("\n".join(dict.fromkeys(f"{row['goal']}: {row['conditions']}" for row in some)), flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=2, default=str) + "\n")
    if told > 1:
        print(show(rows))
    return rows


def main(argv: list[str]) -> int:
    """Returns 0 where every row met its target, 1 where one did not or failed, 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="goals to measure, for example P12; all without")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as a JSON list")
    parser.add_argument("--list", action="store_true", help="name the goals and measure nothing")
    parser.add_argument("--long", action="store_true", help="larger numbers; takes much longer")
    options = parser.parse_args(argv)
    known = modules()
    named = {name.upper(): name for name in known}
    if options.list:
        for name, module in known.items():
            print(f"{name}  {(module.__doc__ or '').strip().splitlines()[0]}")
        return 0
    asked = [named.get(name.upper(), name) for name in options.names]
    unknown = [name for name in asked if name not in known]
    if unknown:
        print(f"No such goal here: {', '.join(unknown)}. There are: {', '.join(known) or 'none'}.", file=sys.stderr)
        return 2
    rows = _measure_all([known[name] for name in asked or known], options)
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.path.insert(0, str(CLONE))
    sys.exit(main(sys.argv[1:]))
