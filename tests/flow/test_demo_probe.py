"""Before the demo's hub starts, every account is tried: what cannot run is said, and nothing of it is left."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from daas_hub.clients import processes
from daas_hub.clients.processes import ProcessId
from daas_hub.demo.run import Demo, Options
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)


def demo_with(program: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Demo, io.StringIO]:
    """A demo in whose environment jupyterhub-singleuser is this shell script, and what it says."""
    script = place / "bin" / "jupyterhub-singleuser"
    script.parent.mkdir(mode=0o755)
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    said = io.StringIO()
    return Demo(Options(dir=place / "demo"), Console(file=said, width=1000)), said


async def test_an_environment_in_which_accounts_cannot_run_a_server_is_said_before_the_hub_starts(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo, said = demo_with("echo no such module; exit 3", place, monkeypatch)
    assert await demo.run() == 1
    assert "Servers could not start here." in said.getvalue()
    assert "does not run as ada" in said.getvalue()
    assert "no such module" in said.getvalue()
    assert not (place / "demo/state/hub.log").exists()


async def test_ctrl_c_while_accounts_are_tried_leaves_none_of_the_processes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It does not end by itself, nor because its output is closed.
    demo, _ = demo_with(f"exec sleep 1000.{os.getpid()}", place, monkeypatch)
    run = asyncio.create_task(demo.run())
    expected = 6 if os.geteuid() == 0 else 1
    await until(lambda: len(trials()) == expected, within_s=30, what="one process of each account")
    left = trials()
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(run, 30) == 0
    assert [known for known in left if processes.alive(known)] == []


def trials() -> list[ProcessId]:
    """The processes of our script."""
    argv = b"sleep\0" + f"1000.{os.getpid()}".encode() + b"\0"
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes() == argv:
                known = processes.identify(int(entry.name))
                found += [known] if known else []
        except OSError:
            continue
    return found
