"""Many people in one conversation with the directory: one search for a page of them, groups in the same connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from daas_hub.core.directory import DN_SUBJECT, Attributes, subject_of
from daas_hub.core.errors import DirectoryUnavailable

T = TypeVar("T")
DOUBTS = frozenset({"directory_ambiguous", "directory_incomplete"})
"""Reasons of errors that concern one person: the directory answers, and what it says of her cannot be right."""


def look_up(
    subjects: Sequence[str],
    *,
    search: Callable[[Sequence[str]], Sequence[Attributes]],
    by_dn: Callable[[str], Attributes | None],
    judge: Callable[[Attributes | None], T],
    doubt: Callable[[str], DirectoryUnavailable],
    base: Callable[[], Sequence[Attributes]],
    hidden: Callable[[], DirectoryUnavailable],
) -> Mapping[str, T | DirectoryUnavailable]:
    """Lasting id → what ``judge`` says of its entry (None: there is none), or why nothing can be said of her.

    Where nobody is found and ``base``, the place of people itself, is not seen, that says nothing: raises ``hidden``.
    Raises DirectoryUnavailable where nothing can be said of anybody.
    """
    lasting = [subject for subject in subjects if not subject.startswith(DN_SUBJECT)]
    found: dict[str, list[Attributes]] = {}
    for entry in search(lasting) if lasting else ():
        found.setdefault(subject_of(entry).casefold(), []).append(entry)
    if not found and not base():
        raise hidden()
    said: dict[str, T | DirectoryUnavailable] = {}
    for subject in subjects:
        try:
            if subject.startswith(DN_SUBJECT):
                entries = [entry for entry in [by_dn(subject)] if entry is not None]
            else:
                entries = found.get(subject.casefold(), [])
            if len(entries) > 1:
                raise doubt(f"{len(entries)} entries have the lasting id {subject}")
            said[subject] = judge(entries[0] if entries else None)
        except DirectoryUnavailable as error:
            if error.reason not in DOUBTS:
                raise
            said[subject] = error
    return said
