"""The ``#SBATCH`` lines of a batch script, read as sbatch reads them, and which of them are ours. Pure.

The hub submits with options of its own on sbatch's command line, and these win over the script's lines. A line whose
place the command line takes has no effect; a line that would make the job somebody else's, several jobs, or one that
the hub cannot see is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Line(StrEnum):
    """What becomes of a line with such an option."""

    REPLACED = "replaced"
    REFUSED = "refused"


_COMMAND = "the hub's command line sets it"
_WHO = "the account decides who a job runs as"
_ONE = "a launch is one job"
_ID = "the hub must read the job's id at once"
_LOG = "the hub shows the log of the job, which has both"
_SAME_CLUSTER = "the hub looks at one cluster"

OPTIONS: Mapping[str, tuple[Line, str]] = {
    **dict.fromkeys(("comment", "output", "open-mode", "export", "chdir"), (Line.REPLACED, _COMMAND)),
    **dict.fromkeys(("uid", "gid"), (Line.REFUSED, _WHO)),
    **dict.fromkeys(("array", "wrap"), (Line.REFUSED, _ONE)),
    "error": (Line.REFUSED, _LOG),
    "export-file": (Line.REFUSED, "what a server gets is in its launch's folder"),
    "clusters": (Line.REFUSED, _SAME_CLUSTER),
    **dict.fromkeys(("wait", "quiet", "test-only", "help", "usage", "version"), (Line.REFUSED, _ID)),
}
"""Long name → what becomes of it and why. Every other option of sbatch is the site's."""
SHORT: Mapping[str, str] = {
    "o": "output", "D": "chdir", "a": "array", "e": "error", "M": "clusters", "W": "wait", "Q": "quiet", "h": "help",
    "V": "version", "u": "usage",
}  # fmt: skip
_FLAGS = frozenset("hHIkOQsuvVWX")
"""Short options without a value: another one may follow in the same word."""
_OTHER_NAMES = """
    account acctg-freq admin-comment batch bb bbf begin cluster-constraint constraint container contiguous core-spec
    cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution exclude
    exclusive extra extra-node-info get-user-env gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task
    gres gres-flags hint hold ignore-pbs immediate input job-name kill-on-invalid-dep licenses mail-type mail-user
    mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus minmem name network nice no-kill no-requeue nodefile
    nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket ntasks-per-tres
    oversubscribe overcommit parsable partition power prefer priority profile propagate qos reboot requeue
    reservation segment share signal sockets-per-node spread-job switches thread-spec threads-per-core time time-min
    tmp tres-bind tres-per-job tres-per-node tres-per-socket tres-per-task use-min-nodes verbose wait-all-nodes
    wckey x11
"""
_OTHERS = frozenset(_OTHER_NAMES.split())
"""Whole names that are not an abbreviation of one of ours."""
_HETEROGENEOUS = frozenset({"hetjob", "packjob"})
_OTHER_SYSTEMS = ("#SLURM", "#PBS", "#BSUB")
"""sbatch reads options from these, too."""
_BLANK = " \t\n\v\f\r"
_COMMENT = re.compile(r"\s*(#.*)?")
_SHELL = re.compile(r"#!\s*(/usr/bin/env\s+)?(/\S*/)?(sh|bash|dash|ash|ksh|mksh|zsh)(\s+-\S+)*\s*")


@dataclass(frozen=True)
class Remark:
    """Something about one line of a script, for whoever writes it."""

    line: str
    fate: Line
    text: str


def remarks(script: str) -> tuple[Remark, ...]:
    """What must be said of the lines of a script; a ``REFUSED`` one means that it cannot be submitted."""
    found = []
    if "\0" in script or "\r" in script:
        found.append(Remark("", Line.REFUSED, "has a NUL or carriage return in it, which sbatch does not read"))
    lines = script.split("\n")
    if not _SHELL.fullmatch(lines[0]):
        found.append(Remark(lines[0], Line.REFUSED, "must begin with the line of a POSIX shell, such as #!/bin/bash"))
    for line in header(script):
        if not line.startswith("#SBATCH"):
            if line.startswith(_OTHER_SYSTEMS):
                found.append(Remark(line, Line.REFUSED, "is read by sbatch, too, but not by the hub: write #SBATCH"))
            continue
        found += [Remark(line, fate, text) for fate, text in judged(line.removeprefix("#SBATCH"))]
    return tuple(found)


def header(script: str) -> list[str]:
    """The lines in which sbatch looks for options: blank and comment lines before the first command."""
    lines = script.split("\n")
    for number, line in enumerate(lines):
        if not _COMMENT.fullmatch(line):
            return lines[:number]
    return lines


CHOSEN: Mapping[str, tuple[str, str]] = {
    "partition": ("partition", "p"),
    "account": ("account", "A"),
    "qos": ("qos", "q"),
    "reservation": ("reservation", ""),
    "runtime": ("time", "t"),
}
"""Keys of ``slurm_override`` that have an option of their own, whatever the template has → its long and short name."""


def missing(script: str, chosen: Mapping[str, object]) -> list[str]:
    """Lines by which what a profile or a person asks for counts where the site's template has no place for it (that of
    batchspawner has none for account and QOS), or says something else there: sbatch takes the last one."""
    said: dict[str, str] = {}
    for line in header(script):
        for word in words(line.removeprefix("#SBATCH")) if line.startswith("#SBATCH") else ():
            name, _, value = word.partition("=")
            said[name if name.startswith("--") else name[:2]] = value
    return [
        f"#SBATCH --{option}={chosen[key]}"
        for key, (option, short) in CHOSEN.items()
        if chosen.get(key) and (said.get(f"--{option}") != chosen[key] or f"-{short}" in said)
    ]


def judged(options: str) -> Iterator[tuple[Line, str]]:
    """What must be said of the options in one line; nothing for those that are the site's."""
    for word in words(options):
        if word in _HETEROGENEOUS:
            yield Line.REFUSED, f"has {word!r}: {_ONE}"
        for name in _names(word):
            fate, why = OPTIONS[name]
            yield fate, f"has --{name}: {why}"


def _names(word: str) -> Iterator[str]:
    """Which of our options a word is. sbatch takes abbreviations, and several short ones in a word."""
    if word.startswith("--"):
        given = word[2:].partition("=")[0]
        if given in OPTIONS:
            yield given
        elif given and given not in _OTHERS:
            yield from sorted(name for name in OPTIONS if name.startswith(given))
    elif word.startswith("-"):
        for letter in word[1:]:
            if letter in SHORT:
                yield SHORT[letter]
            if letter not in _FLAGS:
                return


def words(options: str) -> list[str]:
    """The words of a line as sbatch splits it: quotes group, a backslash takes the next character as it is (but for a
    blank outside quotes), and ``#`` begins a comment."""
    found: list[str] = []
    word: list[str] | None = None
    quote, escaped = "", False
    for letter in options:
        if not quote and letter in _BLANK:
            if word is not None:
                found.append("".join(word))
            word, escaped = None, False
        elif escaped or (quote and letter not in (quote, "\\")):
            word, escaped = [*(word or []), letter], False
        elif letter == "\\":
            word, escaped = word or [], True
        elif letter in "'\"":
            word, quote = word or [], "" if quote else letter
        elif letter == "#":
            break
        else:
            word = [*(word or []), letter]
    if word is not None:
        found.append("".join(word))
    return found
