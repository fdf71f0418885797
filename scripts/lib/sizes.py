"""The size budgets of the design: files ≤ 400 lines (median ≤ 150), functions ≤ 60 (median ≤ 10, p90 ≤ 30)."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
FILE_MAX, FILE_MEDIAN = 400, 150
FUNCTION_MAX, FUNCTION_MEDIAN, FUNCTION_P90 = 60, 10, 30


def code_files() -> list[Path]:
    """Every Python file of ours."""
    roots = [CLONE / "daas_hub", CLONE / "tests", CLONE / "scripts" / "lib"]
    return sorted(p for root in roots for p in root.rglob("*.py") if "__pycache__" not in p.parts)


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of each function, nested ones too; a docstring is not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            lines -= (first.end_lineno or first.lineno) - first.lineno + 1
        yield node.name, node.lineno, lines


def problems() -> Iterator[str]:
    """One line for each budget that is broken."""
    file_lengths: list[int] = []
    lengths: list[int] = []
    for path in code_files():
        shown = path.relative_to(CLONE)
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        if n_lines:
            file_lengths.append(n_lines)
        if n_lines > FILE_MAX:
            yield f"{shown}: {n_lines} lines; at most {FILE_MAX}"
        for name, line, length in functions(path):
            if shown.parts[0] == "daas_hub":
                lengths.append(length)
            if length > FUNCTION_MAX:
                yield f"{shown}:{line}: {name} has {length} lines; at most {FUNCTION_MAX}"
    if (median := statistics.median(file_lengths)) > FILE_MEDIAN:
        yield f"median length of files is {median:g} lines; at most {FILE_MEDIAN}"
    if (median := statistics.median(lengths)) > FUNCTION_MEDIAN:
        yield f"median length of functions is {median:g} lines; at most {FUNCTION_MEDIAN}"
    if (p90 := statistics.quantiles(lengths, n=10)[-1]) > FUNCTION_P90:
        yield f"nine of ten functions have up to {p90:g} lines; at most {FUNCTION_P90}"
    print(f"   files: median {statistics.median(file_lengths):g}; functions: median {statistics.median(lengths):g}")


if __name__ == "__main__":
    found = list(problems())
    print("\n".join(found))
    sys.exit(1 if found else 0)
