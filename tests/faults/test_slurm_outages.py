"""Six ways in which a cluster cannot be asked, and one in which only its accounting cannot: never an empty answer."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from daas_hub.clients.slurm import Slurm as Client
from daas_hub.clients.slurm_look import SharedLook
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.slurm_jobs import Phase
from tests.servers.slurm.rig import Slurm

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(name="slurm", scope="module")
def each_version(slurm_any: Slurm) -> Slurm:
    """Every test here runs on each version."""
    return slurm_any


@pytest.fixture(scope="module")
def held(slurm: Slurm) -> Iterator[int]:
    """A job that is there all the time."""
    job = slurm.submit("true", "--hold", "--output=/dev/null")
    yield int(job)
    slurm.ask("scancel", job)


@contextmanager
def elsewhere(slurm: Slurm, *changes: tuple[str, str]) -> Iterator[str]:
    """A slurm.conf for programs alone, with changes."""
    text = (slurm.world.etc / "slurm" / "slurm.conf").read_text()
    for pattern, value in changes:
        text, number = re.subn(pattern, value, text, flags=re.M)
        assert number, pattern
    path = slurm.root / "elsewhere.conf"
    path.write_text(text)
    try:
        yield str(path)
    finally:
        path.unlink()


def at_port(slurm: Slurm, port: int) -> AbstractContextManager[str]:
    changes = [(rf"^{name}Port=.*", f"{name}Port={port}") for name in ("Slurmctld", "AccountingStorage")]
    return elsewhere(slurm, *changes)


@contextmanager
def bound(*, listens: bool) -> Iterator[socket.socket]:
    with socket.socket() as s:
        s.bind(("", 0))
        if listens:
            s.listen(50)
        yield s


@contextmanager
def refusing(slurm: Slurm) -> Iterator[str]:
    """No controller runs; of the database another port."""
    with bound(listens=False) as s, slurm.refused():
        changes = ("^AccountingStoragePort=.*", f"AccountingStoragePort={s.getsockname()[1]}")
        with elsewhere(slurm, changes) as conf:
            yield conf


@contextmanager
def silent(slurm: Slurm) -> Iterator[str]:
    with bound(listens=True) as s, at_port(slurm, s.getsockname()[1]) as conf:
        yield conf


@contextmanager
def resetting(slurm: Slurm) -> Iterator[str]:
    """Connections are taken, and reset once something was asked."""

    def serve(s: socket.socket) -> None:
        with suppress(OSError):
            while True:
                one, _ = s.accept()
                with one, suppress(OSError):
                    one.recv(1)
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with bound(listens=True) as s, at_port(slurm, s.getsockname()[1]) as conf:
        thread = threading.Thread(target=serve, args=(s,))
        thread.start()
        try:
            yield conf
        finally:
            s.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def no_names(slurm: Slurm) -> Iterator[str]:
    changes = [(r"^SlurmctldHost=(\w+).*", r"SlurmctldHost=\1.invalid")]
    with elsewhere(slurm, *changes, ("^AccountingStorageHost=.*", "AccountingStorageHost=gone.invalid")) as conf:
        yield conf


@contextmanager
def no_munge(slurm: Slurm) -> Iterator[str]:
    with slurm.without_munge():
        yield ""


@contextmanager
def no_settings(slurm: Slurm) -> Iterator[str]:
    with slurm.without_settings():
        yield ""


OUTAGES: dict[str, tuple[Callable[[Slurm], AbstractContextManager[str]], float]] = {
    # Its name, the fault, and how long a program may take: refused calls are repeated for nine seconds.
    "refused": (refusing, 30),
    "timeout": (silent, 0.5),
    "reset": (resetting, 30),
    # Names are asked for ten times, once a second; what was said by then tells the reason.
    "dns": (no_names, 3),
    "munge": (no_munge, 30),
    "no_configuration": (no_settings, 30),
}


@pytest.mark.parametrize("reason", OUTAGES)
async def test_an_outage_is_no_answer(slurm: Slurm, held: int, reason: str) -> None:
    fault, within_s = OUTAGES[reason]
    with fault(slurm) as conf:
        before = children()
        ask = Client(prefix=slurm.login(), within_s=within_s, conf=conf)
        look = SharedLook(ask.jobs)
        asked = (look.get(0), look.get(0), ask.job(held), ask.job(4_000_000), ask.accounted([held]), ask.partitions())
        said = await asyncio.gather(*asked, ask.associations("ada"), ask.settings(), return_exceptions=True)
        assert children() == before
    for one in said:
        assert isinstance(one, BackendUnavailable), one
        assert one.reason == reason, one.log_message
        assert "goes on" in one.message
    assert look.last is None
    job = await Client(prefix=slurm.login(), within_s=60).job(held)
    assert job is not None
    assert job.phase is Phase.WAITING


async def test_controllers_that_hang(slurm: Slurm, held: int) -> None:
    with slurm.silent():
        before = children()
        ask = Client(prefix=slurm.login(), within_s=0.5)
        said = await asyncio.gather(ask.jobs(), ask.job(held), return_exceptions=True)
        assert [getattr(one, "reason", one) for one in said] == ["timeout"] * 2
        assert children() == before
        # What the accounting has, it still tells.
        assert (await Client(prefix=slurm.login(), within_s=60).accounted([held])).keys() == {held}


async def test_without_the_database_only_the_accounting_is_away(slurm: Slurm, held: int) -> None:
    ask = Client(prefix=slurm.login(), within_s=30)
    with slurm.without_database():
        assert held in await ask.jobs()
        assert await ask.job(4_000_000) is None
        for asked in (ask.accounted([held]), ask.associations("ada")):
            with pytest.raises(BackendUnavailable) as caught:
                await asked
            assert caught.value.reason == "refused"
    assert await ask.associations("ada")


async def test_programs_that_are_not_there(slurm: Slurm) -> None:
    inside = Client(prefix=[*slurm.login(), "env", "PATH=/nowhere"])
    outside = Client(prefix=["/nowhere/nsenter"])
    for ask in (inside, outside):
        for asked in (ask.jobs(), ask.job(1), ask.accounted([1])):
            with pytest.raises(BackendUnavailable) as caught:
                await asked
            assert caught.value.reason == "not_installed", caught.value.log_message


async def test_a_caller_that_goes_away_leaves_no_program(slurm: Slurm) -> None:
    before = children()
    with silent(slurm) as conf:
        asked = asyncio.create_task(Client(prefix=slurm.login(), within_s=60, conf=conf).jobs())
        while children() == before:
            await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.wait({asked})
    assert asked.cancelled()
    assert children() == before


def children() -> set[str]:
    """The processes that this one has started, zombies too."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return {child for task in tasks.iterdir() for child in (task / "children").read_text().split()}
