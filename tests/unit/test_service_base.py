"""What our services share: one acts, they end with their hub, settings arrive whole."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from daas_hub.backends.local import LocalBackend
from daas_hub.core.errors import ConfigError
from daas_hub.db.ledger import Ledger
from daas_hub.services.base import Service, utcnow
from daas_hub.services.culler import Culler
from daas_hub.services.reconciler import Reconciler
from daas_hub.services.settings import SCOPES, Environment, definitions, dump_config, load_config_from_env, roles
from tests.waiting import until

ENVIRON = {
    "JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api",
    "JUPYTERHUB_API_TOKEN": "secret-token",
    "DAAS_LEDGER_URL": "sqlite:///nowhere",
}


class Counting(Service):
    """Counts its turns."""

    word = "counting"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.turns = 0

    async def turn(self) -> float:
        self.turns += 1
        if self.turns == 2:
            raise RuntimeError("a surprise")
        return 0.01


def environment(url: str, **sections: Any) -> Environment:
    return Environment(ENVIRON["JUPYTERHUB_API_URL"], "t", url, config=sections)


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path}/ledger.sqlite"
    Ledger.open(made).close()
    return made


@asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(service.run()) for service in services]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def quick(url: str) -> Counting:
    return Counting(environment(url, Counting={"lease_s": 3.0}))


async def test_one_of_two_acts_and_the_other_follows_when_it_ends(url: str) -> None:
    first, second = quick(url), quick(url)
    async with running(second):
        async with running(first):
            await until(lambda: first.turns + second.turns > 10, what="turns")
            leader, other = (first, second) if first.turns else (second, first)
            assert leader.turns > 10
            assert other.turns == 0
        if leader is first:
            # It gave its lease back, so nobody waits until that has run out.
            await until(lambda: second.turns > 0, within_s=5, what="the other acts")


async def test_a_lease_that_somebody_took_away_stops_it(url: str) -> None:
    service = quick(url)
    async with running(service):
        await until(lambda: service.turns > 3, what="turns")
        ledger = Ledger.open(url)
        ledger.leases.release(service.lease, service._holder)
        assert ledger.leases.acquire(service.lease, "another", 60, utcnow())
        await until(lambda: not service.holds_lease, within_s=5, what="it noticed")
        stopped_at = service.turns
        later = time.monotonic() + 1.5  # it asks for its lease again meanwhile
        await until(lambda: time.monotonic() > later, what="some time")
        assert service.turns <= stopped_at + 1
        ledger.close()


async def test_a_turn_that_fails_is_not_the_last(url: str) -> None:
    service = quick(url)
    async with running(service):
        await until(lambda: service.turns >= 2, what="the turn that fails")
        service.wake()
        await until(lambda: service.turns > 5, what="turns after it")


def test_rules_that_cannot_work_end_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="idle_after_s is '1h'"):
        Culler(environment(url, Culler={"rules": [{"idle_after_s": "1h"}]}))


def test_a_reconciler_that_does_not_know_its_hubs_boot_refuses(url: str) -> None:
    with pytest.raises(ConfigError, match="DAAS_HUB_BOOT_ID"):
        Reconciler(environment(url))


# ---------------------------------------------------------------- the end with the hub

HUB = """
import os, subprocess, sys, time
env = dict(os.environ, DAAS_HUB_PID=str(os.getpid()) if sys.argv[1] == "told" else "")
child = subprocess.Popen([sys.executable, "-c", sys.argv[2]], env=env, start_new_session=True)
print(child.pid, flush=True)
if sys.argv[3] == "die":
    os._exit(0)
time.sleep(100)
"""
SERVICE = """
import os, threading, time
time.sleep({before})
from daas_hub.services.parent import end_with_parent
pid = os.environ["DAAS_HUB_PID"]
over = threading.Event()
import signal
signal.signal(signal.SIGTERM, {handler})
end_with_parent(int(pid) if pid else None, over.set)
{after}
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("told", "before", "handler", "after", "dies"),
    [
        # the kernel's signal alone
        ("told", 0, "signal.SIG_DFL", "time.sleep(100)", False),
        ("untold", 0, "signal.SIG_DFL", "time.sleep(100)", False),
        # where there is no such signal: the look every second
        ("told", 0, "signal.SIG_IGN", "over.wait()", False),
        # a hub that was gone before anybody asked for the signal
        ("told", 1, "signal.SIG_IGN", "time.sleep(100)", True),
        # a service that does not end by itself
        ("told", 0, "signal.SIG_IGN", "time.sleep(100)", False),
    ],
)
async def test_a_service_ends_with_a_killed_hub(told: str, before: int, handler: str, after: str, dies: bool) -> None:
    code = SERVICE.format(before=before, handler=handler, after=after)
    argv = [sys.executable, "-c", HUB, told, code, "die" if dies else "live"]
    hub = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    assert hub.stdout is not None
    pid = int(await hub.stdout.readline())
    try:
        if not dies:
            ready: Callable[[], bool] = lambda: len(list(Path(f"/proc/{pid}/task").iterdir())) > 1  # noqa: E731
            await until(ready, what="the service watches")
            hub.kill()
        await hub.wait()
        await until(lambda: not alive(pid), within_s=15, what="service gone")
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- settings


def test_what_the_hub_writes_is_what_a_service_reads() -> None:
    c = Config()
    c.Culler.rules = [{"name": "a", "users": {"x"}, "idle_after_s": 5}]
    c.DaasHub.backends = {"local": LocalBackend}
    c.Other.secret = "not for services"
    text = dump_config(c, ["Culler", "DaasHub", "Reconciler"])
    read = Environment.read({**ENVIRON, "DAAS_SERVICE_CONFIG": text, "DAAS_HUB_PID": "7", "DAAS_HUB_ID": "h"})
    assert read.config["Culler"] == {"rules": [{"name": "a", "users": ["x"], "idle_after_s": 5}]}
    assert read.backends == {"local": "daas_hub.backends.local.LocalBackend"}
    assert "Other" not in json.loads(text)
    assert (read.hub_pid, read.hub_id) == (7, "h")
    assert "secret-token" not in repr(read)


def test_what_is_no_plain_data_is_named() -> None:
    c = Config()
    c.Culler.rules = [{"users": print}]
    with pytest.raises(ConfigError, match=r"c.Culler.rules\[0\].users must be plain data"):
        dump_config(c, ["Culler"])


@pytest.mark.parametrize("name", sorted(ENVIRON))
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Environment.read({**ENVIRON, name: ""})


@pytest.mark.parametrize("text", ["{", "[]", '{"Culler": 1}'])
def test_a_config_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="DAAS_SERVICE_CONFIG"):
        load_config_from_env({"DAAS_SERVICE_CONFIG": text})


def test_each_service_has_the_scopes_of_its_table_and_no_other() -> None:
    assert {service["name"] for service in definitions()} == set(SCOPES)
    assert {name: list(scopes) for name, scopes in SCOPES.items() if scopes} == {
        role["name"]: role["scopes"] for role in roles()
    }
    assert {role["name"]: role["scopes"] for role in roles()} == {
        "daas-reconciler": ["start:servers", "custom:daas:hub"],
    }
