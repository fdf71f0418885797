"""What SLURM's programs say when they cannot answer, as a reason. Pure.

The words are those of 22.05 (seen) and 24.11 (its table of errors is the same for these). A program may say several
things; the first reason of the table that fits is the cause of the others.
"""

from __future__ import annotations

from collections.abc import Mapping

NO_SUCH_JOB = "Invalid job id specified"
"""All that a controller says of a job that it does not know (any more), or does not show."""
NOT_FOUND = 127
"""The exit code of a shell, env or nsenter that finds no such program."""

REASONS: Mapping[str, tuple[str, ...]] = {
    "no_configuration": (
        "could not establish a configuration source",
        "unable to process configuration file",
        "unable to process slurm.conf",
        "failed to fetch config",
    ),
    "munge": (
        "munge encode failed",
        "munge decode failed",
        "authentication error",
        "invalid authentication credential",
        "authentication credential expired",
    ),
    "dns": ("getaddrinfo() failed", "unable to resolve", "name or service not known", "host name lookup failure"),
    "reset": (
        "connection reset by peer",
        "zero bytes were transmitted or received",
        "transport endpoint is not connected",
        "broken pipe",
        "(send failure)",
        "(receive failure)",
        "(shutdown failure)",
        "message send failure",
        "message receive failure",
        "unexpected message received",
        # sacct of a database that resets; of one that is silent only after 45 s, which nobody waits for.
        "no response to persist_init",
        # sacct of 22.05 aborts over a connection that is cut while it listens.
        "poll returned unexpected revents",
        "incompatible versions of client and server code",
    ),
    "refused": (
        "connection refused",
        "(connect failure)",
        "communication connection failure",
        "no route to host",
        "network is unreachable",
        "standby mode",
    ),
    "timeout": ("timed out",),
    "not_installed": ("command not found",),
}
"""Reason → words, in small letters, of which one is said."""

WORDS: Mapping[str, str] = {
    "no_configuration": "finds no slurm.conf",
    "munge": "cannot prove who asks: munge does not run here, or has another key or clock than the cluster",
    "dns": "cannot find the address of its server",
    "reset": "was cut off by its server",
    "refused": "reaches no server: connections are refused",
    "timeout": "gets no answer in time",
    "not_installed": "is not installed here",
    "answer": "answered what cannot be read",
}
"""Reason → the middle of a sentence that begins with the program's name."""


def reason_of(said: str, code: int | None) -> str | None:
    """The reason in what a program wrote to standard error; None where none is known there.

    ``code``: how it ended; None: it was killed for its time.
    """
    text = said.lower()
    for reason, words in REASONS.items():
        if any(word in text for word in words):
            return reason
    if code == NOT_FOUND:
        return "not_installed"
    return "timeout" if code is None else None


def no_such_job(said: str) -> bool:
    """Whether this, and nothing else, was said: that there is no such job."""
    lines = [line for line in said.splitlines() if line.strip()]
    return len(lines) == 1 and lines[0].endswith(f": {NO_SUCH_JOB}") and reason_of(said, 1) is None
