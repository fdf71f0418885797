"""Regular expressions of operators over text of users, in time bounded by the lengths of both.

``re`` backtracks: ``(a+)+b`` takes minutes over forty letters, and holds the hub meanwhile. Here the pattern, read
by Python's own parser, becomes a non-deterministic automaton whose states all advance together, so a match takes
at most ``len(text) * MAX_STATES`` small steps. What an automaton cannot do (look-around, back-references, word
boundaries, flags) is refused when the pattern is read, not when a user types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

MAX_PATTERN = 1000
"""Characters of a pattern."""
MAX_STATES = 1000
MAX_TEXT = 1000
"""Characters of a text; longer ones never match."""

Test = Callable[[str], bool]
_CATEGORIES: dict[Any, Test] = {
    sre.CATEGORY_DIGIT: lambda c: c.isdecimal(),
    sre.CATEGORY_NOT_DIGIT: lambda c: not c.isdecimal(),
    sre.CATEGORY_SPACE: lambda c: c.isspace(),
    sre.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    sre.CATEGORY_WORD: lambda c: c.isalnum() or c == "_",
    sre.CATEGORY_NOT_WORD: lambda c: not (c.isalnum() or c == "_"),
}
_BEGINS = (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING)
_ENDS = (sre.AT_END, sre.AT_END_STRING)


class Pattern:
    """A pattern that must match a whole text. Raises ValueError, with the reason, for what cannot be bounded."""

    def __init__(self, source: str) -> None:
        if len(source) > MAX_PATTERN:
            raise ValueError(f"it has {len(source)} characters; at most {MAX_PATTERN} are allowed")
        try:
            tree = _parser.parse(source)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"it is not a regular expression: {error}") from error
        if tree.state.flags & ~re.UNICODE:
            raise ValueError("flags such as (?i) are not supported")
        self.source = source
        self._empty: list[list[tuple[Any, int]]] = []
        """State → (condition or None, state that is reached without reading)."""
        self._reads: list[tuple[Test, int] | None] = []
        """State → what the next character must be, and the state after it."""
        start = self._new()
        try:
            self._accept = self._sequence(tree, start)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    def fullmatch(self, text: str) -> bool:
        """Whether the whole of ``text`` matches. Bounded: about 0.1 ms for usual ones, never above 1 s."""
        if len(text) > MAX_TEXT:
            return False
        states = self._closure((0,), begins=True, ends=not text)
        last = len(text) - 1
        for i, char in enumerate(text):
            passed = [read[1] for s in states if (read := self._reads[s]) is not None and read[0](char)]
            if not passed:
                return False
            states = self._closure(passed, begins=False, ends=i == last)
        return self._accept in states

    def _closure(self, states: Iterable[int], *, begins: bool, ends: bool) -> set[int]:
        """The states and all that are reached from them without reading."""
        waiting, seen = list(states), set(states)
        while waiting:
            for condition, target in self._empty[waiting.pop()]:
                if target in seen or (condition in _BEGINS and not begins) or (condition in _ENDS and not ends):
                    continue
                seen.add(target)
                waiting.append(target)
        return seen

    # ------------------------------------------------------------ building

    def _new(self) -> int:
        if len(self._empty) >= MAX_STATES:
            raise ValueError("it is too large: write fewer or smaller repetitions {n,m}")
        self._empty.append([])
        self._reads.append(None)
        return len(self._empty) - 1

    def _step(self, at: int, condition: Any = None) -> int:
        """A new state, reached from ``at`` without reading."""
        target = self._new()
        self._empty[at].append((condition, target))
        return target

    def _read(self, at: int, test: Test) -> int:
        """A new state, reached from ``at`` by one character that passes ``test``."""
        source = at if self._reads[at] is None else self._step(at)
        target = self._new()
        self._reads[source] = (test, target)
        return target

    def _sequence(self, items: Iterable[tuple[Any, Any]], at: int) -> int:
        for op, value in items:
            at = self._item(op, value, at)
        return at

    def _item(self, op: Any, value: Any, at: int) -> int:
        if (test := _test_of(op, value)) is not None:
            return self._read(at, test)
        if op is sre.SUBPATTERN:
            _group, on, off, inner = value
            if on or off:
                raise ValueError("flags such as (?i:…) are not supported")
            return self._sequence(inner, at)
        if op is sre.BRANCH:
            return self._branch(value[1], at)
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = value
            return self._repeat(least, most, inner, at)
        if op is sre.AT and (value in _BEGINS or value in _ENDS):
            return self._step(at, value)
        raise ValueError(f"{str(op).lower().replace('_', ' ')} is not supported: its time cannot be bounded")

    def _branch(self, branches: Sequence[Any], at: int) -> int:
        ends = [self._sequence(branch, self._step(at)) for branch in branches]
        target = self._new()
        for end in ends:
            self._empty[end].append((None, target))
        return target

    def _repeat(self, least: int, most: Any, inner: Any, at: int) -> int:
        for _ in range(least):
            at = self._sequence(inner, self._step(at))
        if most is sre.MAXREPEAT:
            loop = self._step(at)
            end = self._sequence(inner, self._step(loop))
            self._empty[end].append((None, loop))
            return self._step(loop)
        ends = [at]
        for _ in range(most - least):
            at = self._sequence(inner, self._step(at))
            ends.append(at)
        target = self._new()
        for end in ends:
            self._empty[end].append((None, target))
        return target


def _test_of(op: Any, value: Any) -> Test | None:
    """What one character must be, for the operations that read exactly one."""
    if op is sre.LITERAL:
        return chr(value).__eq__
    if op is sre.NOT_LITERAL:
        return chr(value).__ne__
    if op is sre.ANY:
        return "\n".__ne__
    if op is not sre.IN:
        return None
    negated = value[0][0] is sre.NEGATE
    tests = [_member(*item) for item in value[negated:]]
    return lambda c: any(test(c) for test in tests) is not negated


def _member(op: Any, value: Any) -> Test:
    """Membership in one part of a [set]."""
    if op is sre.LITERAL:
        return chr(value).__eq__
    if op is sre.RANGE:
        low, high = value
        return lambda c: low <= ord(c) <= high
    return _CATEGORIES[value]
