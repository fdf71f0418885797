"""Processes told apart: nobody who took over a number is ever signalled."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.clients import processes
from daas_hub.clients.helper_program import HelperProgram
from daas_hub.clients.processes import ProcessId
from daas_hub.core.errors import BackendUnavailable

AT = r"[RSD]( [\w.]+)?"
"""A state, and the place in the kernel if we may know it."""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "1000"], env={"MARK": "m1"})
    yield child
    child.kill()
    child.wait()


def id_of(child: subprocess.Popen[bytes]) -> ProcessId:
    process = processes.identify(child.pid)
    assert process is not None
    return process


def test_a_process_is_alive_until_it_ends_and_a_zombie_is_not(child: subprocess.Popen[bytes]) -> None:
    process = id_of(child)
    assert processes.alive(process)
    with processes.pidfd(process) as fd:
        assert fd is not None
        assert not processes.has_ended(fd)
        assert processes.send(process, signal.SIGTERM)
        os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOWAIT)
        assert processes.has_ended(fd)
        assert not processes.alive(process)
        assert processes.collect(fd) == -signal.SIGTERM
        assert processes.collect(fd) is None
    assert processes.identify(child.pid) is None


@pytest.mark.parametrize("field", ["start_time", "boot_id"])
def test_one_who_took_over_the_number_is_not_hit(child: subprocess.Popen[bytes], field: str) -> None:
    process = id_of(child)
    before = (
        replace(process, start_time=process.start_time - 1) if field == "start_time" else replace(process, boot_id="b")
    )
    assert not processes.alive(before)
    assert processes.open_pidfd(before) is None
    assert not processes.send(before, signal.SIGKILL)
    assert child.poll() is None


def test_a_number_that_no_process_can_have() -> None:
    nobody = ProcessId(processes.boot_id(), 2**31, 1)
    assert not processes.alive(nobody)
    assert processes.open_pidfd(nobody) is None


def test_descendants_are_found_by_their_mark(child: subprocess.Popen[bytes]) -> None:
    assert processes.with_environment("MARK", "m1", os.getuid()) == [id_of(child)]
    assert processes.with_environment("MARK", "m", os.getuid()) == []
    assert processes.with_environment("MARK", "m1", os.getuid() + 1) == []


def test_what_a_program_and_those_that_it_started_wait_for() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 1000; :"], start_new_session=True) as shell:
        try:
            while "sleep" not in (seen := processes.waits_for(shell.pid)):
                assert shell.poll() is None
            assert re.fullmatch(rf"sh {shell.pid} {AT}, sleep \d+ {AT}", seen), seen
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
    assert processes.waits_for(shell.pid) == ""


async def test_a_helper_that_says_nothing_is_looked_at() -> None:
    program = HelperProgram(["sleep"])
    with pytest.raises(BackendUnavailable) as caught:
        await program.ask("1000", within_s=0.01)
    assert caught.value.reason == "unsure"
    words = rf"sleep 1000 has said nothing for 0\.01 s; it is at: sleep \d+ {AT}"
    assert re.fullmatch(words, caught.value.log_message), caught.value.log_message
    await program.close()


def test_when_a_process_was_started(child: subprocess.Popen[bytes]) -> None:
    started = processes.started_at(id_of(child))
    assert started is not None
    # Boot time is kept in whole seconds.
    assert abs(datetime.now(UTC) - started) < timedelta(seconds=3)
    assert processes.started_at(replace(id_of(child), boot_id="another")) is None


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::")]
)
def test_who_listens_on_a_port(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as server:
        server.bind((address, 0))
        port = server.getsockname()[1]
        assert processes.listener_uid(port) is None
        server.listen()
        assert processes.listener_uid(port) == os.getuid()
    deadline = time.monotonic() + 5
    while processes.listener_uid(port) is not None:
        assert time.monotonic() < deadline


def test_who_listens_on_one_address_of_the_loopback_network() -> None:
    with socket.socket() as server:
        server.bind(("127.7.8.9", 0))
        server.listen()
        port = server.getsockname()[1]
        assert processes.listener_uid(port, "127.7.8.9") == os.getuid()
        assert processes.listener_uid(port) is None
