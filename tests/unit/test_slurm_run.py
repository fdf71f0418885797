"""A program that is run for its answer: it ends in time with all that it started, and what it says becomes a reason."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from daas_hub.clients.slurm_run import Ran, run, unavailable
from daas_hub.clients.slurm_said import NOT_FOUND, REASONS, WORDS, no_such_job, reason_of
from tests.waiting import until

ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath)}
LONG_S = 60.0


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


async def test_what_it_said() -> None:
    ran = await run(sh("echo out; printf '\\377' >&2; exit 3"), ENVIRONMENT, within_s=LONG_S)
    assert ran == Ran(3, "out\n", "\ufffd")


async def test_much_on_both_sides() -> None:
    ran = await run(sh("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2"), ENVIRONMENT, within_s=LONG_S)
    assert (ran.code, len(ran.out), len(ran.err)) == (0, 3_000_000, 3_000_000)


async def test_its_environment_is_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    ran = await run(["env"], {**ENVIRONMENT, "LC_ALL": "C"}, within_s=LONG_S)
    assert {line.partition("=")[0] for line in ran.out.splitlines()} == {"PATH", "LC_ALL"}


async def test_it_reads_nothing() -> None:
    assert (await run(["cat"], ENVIRONMENT, within_s=LONG_S)).code == 0


async def test_time_ends_it_and_its_children(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = f"trap '' TERM INT HUP; echo said; sleep 1000 & echo $$ $! > {started}; wait"
    ran = await run(sh(script), ENVIRONMENT, within_s=0.5)
    assert (ran.code, ran.out) == (None, "said\n")
    await all_gone(started)


async def test_one_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    started = tmp_path / "started"
    asked = asyncio.create_task(run(sh(f"sleep 1000 & echo $$ $! > {started}; wait"), ENVIRONMENT, within_s=LONG_S))
    while not started.exists() or len(started.read_text().split()) < 2:
        await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await all_gone(started)


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_one_that_goes_away_while_it_starts(tmp_path: Path, turns: int) -> None:
    """However far the start has come: ``turns`` of the loop."""
    started = tmp_path / "started"
    script = f"sleep 1000 & echo $$ $! > {started}; wait"
    asked = asyncio.create_task(run(sh(script), {**ENVIRONMENT, "MARK": str(tmp_path)}, within_s=LONG_S))
    for _ in range(turns):
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await until(lambda: not with_mark(str(tmp_path)), what="nothing of it is left")


def with_mark(mark: str) -> list[str]:
    """Processes that still have this mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"MARK={mark}".encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


async def test_one_who_hides_cannot_hold_it_up(tmp_path: Path) -> None:
    """What left the group keeps the pipe open: it is no answer, and nobody waits for it."""
    hidden = tmp_path / "hidden"
    try:
        script = f"setsid sh -c 'echo $$ > {hidden}; exec sleep 1000' & while [ ! -s {hidden} ]; do :; done; exit 0"
        assert (await run(sh(script), ENVIRONMENT, within_s=1)).code is None
    finally:
        os.kill(int(hidden.read_text()), 9)


async def test_one_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        await run(["/nowhere/squeue"], ENVIRONMENT, within_s=LONG_S)


async def all_gone(started: Path) -> None:
    """The program was waited for; its children were killed in the same moment, and die in their own."""
    program, *children = started.read_text().split()
    assert is_gone(program)
    for child in children:
        await until(lambda child=child: is_gone(child), what="a child of it has ended")


def is_gone(pid: str) -> bool:
    """Whether it has ended; as a zombie it is only not yet buried by its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1, "refused"),
        ("sacct: error: Sending PersistInit msg: Connection refused", 1, "refused"),
        ("slurm_load_jobs error: Slurm backup controller in standby mode", 1, "refused"),
        ("slurm_load_jobs error: Socket timed out on send/recv operation", 1, "timeout"),
        ("sacct: error: slurm_persist_conn_open: No response to persist_init", 1, "reset"),
        ("slurm_load_jobs error: Zero Bytes were transmitted or received", 1, "reset"),
        ("slurm_load_jobs error: Transport endpoint is not connected", 1, "reset"),
        ("error[104]: Connection reset by peer\nsacct: error: No response to persist_init", 1, "reset"),
        ("squeue: error: get_addr_info: getaddrinfo() failed: Name or service not known: …", None, "dns"),
        ('squeue: error: slurm_set_addr: Unable to resolve "ctl1"', 1, "dns"),
        ("squeue: error: Munge encode failed: Failed to access … (Did you start munged?)", 1, "munge"),
        ("slurm_load_jobs error: Protocol authentication error", 1, "munge"),
        ("squeue: fatal: Could not establish a configuration source", 1, "no_configuration"),
        ("squeue: error: res_nsearch error: Unknown host\nsqueue: error: fetch_config: DNS SRV lookup failed\n"
         "squeue: error: _establish_config_source: failed to fetch config", 1, "no_configuration"),
        ("nsenter: failed to execute squeue: No such file or directory", NOT_FOUND, "not_installed"),
        ("sudo: squeue: command not found", 1, "not_installed"),
        ("", None, "timeout"),
        ("squeue: error: Unrecognized option", 1, None),
        ("", 1, None),
    ],
)  # fmt: skip
def test_what_is_said_is_a_reason(said: str, code: int | None, reason: str | None) -> None:
    assert reason_of(said, code) == reason
    error = unavailable("squeue", Ran(code, "", said))
    assert error.reason == (reason or "backend_unavailable")
    assert error.log_message.startswith("squeue ")


def test_every_reason_has_words() -> None:
    assert set(REASONS) < set(WORDS)
    assert [word for words in REASONS.values() for word in words if word != word.lower()] == []


def test_only_these_words_alone_say_that_there_is_no_job() -> None:
    assert no_such_job("slurm_load_jobs error: Invalid job id specified\n")
    for said in (
        "",
        "squeue: error: Invalid job id: 0\n",
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
        "squeue: error: Munge encode failed\nslurm_load_jobs error: Invalid job id specified\n",
        "squeue: error: something else\nslurm_load_jobs error: Invalid job id specified\n",
        "Invalid job id specified",
    ):
        assert not no_such_job(said)
