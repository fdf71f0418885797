"""The demo, as somebody meets it who has just cloned the project."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import stat
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daas_hub.clients import processes
from daas_hub.db.ledger import LaunchRow, Ledger
from tests.servers.demo import DemoServer, Visitor, demo_python
from tests.servers.ports import free_port
from tests.waiting import LONG, until

pytestmark = pytest.mark.timeout(180)
IDLE_S = 20
ZONE = "Pacific/Auckland"
"""Far from UTC: a time without a zone is taken for one half a day off, and servers stop at once or never."""


@pytest.fixture
async def demo(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DemoServer]:
    """On a machine of that zone; the other tests start theirs with the clock of this machine."""
    monkeypatch.setenv("TZ", ZONE)
    server = DemoServer(place, "--idle-after", str(IDLE_S), "--dir", str(place / "demo"))
    try:
        yield await server.start()
    finally:
        await server.stop()


def listening() -> set[tuple[str, int]]:
    """Address and port of every listening TCP socket of this machine, as the kernel prints them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, port = fields[1].split(":")
                found.add((address, int(port, 16)))
    return found


def launches(demo: DemoServer) -> list[LaunchRow]:
    """What this run of the demo has started, newest first; what it was seeded with came from no hub."""
    ledger = Ledger.open(f"sqlite:///{demo.dir}/state/ledger.sqlite", create=False)
    try:
        return [row for row in ledger.launches() if row.hub_boot_id != "seed"]
    finally:
        ledger.close()


def active_launches(demo_dir: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{demo_dir}/state/ledger.sqlite?mode=ro", uri=True) as db:
        rows = db.execute("select user_name, server_name, state from launch where state != 'ended'").fetchall()
    db.close()
    return rows


@pytest.mark.needs("root")
async def test_from_the_ready_file_to_an_idle_stop_and_ctrl_c(demo: DemoServer) -> None:
    """One demo, in the order in which a person meets it."""
    people = demo.ready["people"]
    assert (len(people), len({g for p in people for g in p["groups"]})) == (6, 3)
    assert [sum(p[key] for p in people) for key in ("admin", "locked", "over_quota")] == [1, 1, 1]
    assert set(demo.ready) == {"url", "dir", "idle_after_s", "people"}
    assert all(set(p) == {"name", "password", "groups", "admin", "locked", "over_quota"} for p in people)
    assert demo.ready["idle_after_s"] == IDLE_S
    assert stat.S_IMODE(demo.ready_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((demo.dir / "state").stat().st_mode) == 0o700
    port = int(demo.url.rpartition(":")[2])
    assert {a for a, p in listening() if p == port} == {"0100007F"}, "127.0.0.1 and nothing else"
    for person in people:
        assert person["password"] in demo.log_text()
    _everything_runs_in_the_zone(demo)
    _, login = await Visitor(demo.url).call("GET", "/hub/login")
    assert f"<strong>Basic</strong> that is idle for {IDLE_S} s is stopped" in login
    await _doctor_finds_the_directory(demo)
    await _locked_is_told(demo)
    await _over_quota_is_refused_with_numbers(demo)
    await _server_runs_as_the_person_and_is_stopped_when_idle(demo)
    marked = demo.processes()
    assert marked
    assert await demo.end() == 0
    assert [p for p in marked if processes.alive(p)] == []
    assert active_launches(demo.dir) == []
    hub_id = json.loads((demo.dir / "state/hub_id.json").read_text())
    assert list(Path("/sys/fs/cgroup").rglob(f"*{hub_id}*")) == []
    assert not {p for _, p in listening()} & {port}
    assert not demo.ready_file.exists()


def _everything_runs_in_the_zone(demo: DemoServer) -> None:
    """Hub, proxy and services have it, and it is not taken for UTC because its rules are missing here."""
    for known in demo.processes():
        assert f"TZ={ZONE}".encode() in Path(f"/proc/{known.pid}/environ").read_bytes().split(b"\0")
    log = (demo.dir / "state/hub.log").read_text()
    stamp = re.search(r"^\[I (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", log, re.MULTILINE)
    assert stamp is not None, log[:1000]
    local = datetime.fromisoformat(stamp[1])
    [launch] = launches(demo)
    here = local.replace(tzinfo=ZoneInfo(ZONE))
    assert here.utcoffset() != timedelta(0)
    assert abs(here - launch.created_at) < timedelta(hours=1)


async def _doctor_finds_the_directory(demo: DemoServer) -> None:
    """The demo's configuration as an operator would examine it: what a demo sets otherwise is said."""
    state = demo.dir / "state"
    env = {**demo.env(), "JUPYTERHUB_CRYPT_KEY": (state / "crypt_key").read_text(), "DAAS_DEMO_TOKEN": "x"}
    process = await asyncio.create_subprocess_exec(
        str(demo_python()),
        *("-P", "-m", "daas_hub.cli", "doctor", "--config", str(state / "jupyterhub_config.py")),
        env=env,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    lines = out.decode().splitlines()
    assert any(re.fullmatch(r"ok    directory ldap://\S+: the service bind works", line) for line in lines), lines
    assert any(line.startswith("ok    ledger") for line in lines)
    assert any("JupyterHub.cleanup_servers: True" in line for line in lines if line.startswith("note"))
    assert process.returncode == 0, lines


async def _locked_is_told(demo: DemoServer) -> None:
    locked = Visitor(demo.url)
    _, page = await locked.sign_in(demo.person(locked=True))
    wrong = Visitor(demo.url)
    _, other = await wrong.sign_in(demo.person(), password="wrong")
    assert "locked" in page.lower()
    assert "locked" not in other.lower()


async def _over_quota_is_refused_with_numbers(demo: DemoServer) -> None:
    quinn = demo.person(over_quota=True)
    visitor = Visitor(demo.url)
    await visitor.sign_in(quinn)
    status, answer = await visitor.api("POST", f"users/{quinn['name']}/server", {"profile": "basic"})
    assert status == 403, answer
    assert "2 cores" in str(answer) or "2 GiB" in str(answer)


async def _server_runs_as_the_person_and_is_stopped_when_idle(demo: DemoServer) -> None:
    person = demo.person()
    visitor = Visitor(demo.url)
    await visitor.sign_in(person)
    status, answer = await visitor.api("POST", f"users/{person['name']}/server", {"profile": "basic"})
    assert status in (201, 202), answer

    async def server() -> Any:
        _, model = await visitor.api("GET", f"users/{person['name']}")
        return model["servers"].get("")

    async def ready() -> bool:
        found = await server()
        return bool(found and found["ready"])

    await until(ready, within_s=60, what="her server", every_s=0.2)
    home = demo.dir / "homes" / person["name"]
    site = json.loads((demo.dir / "state/site.json").read_text())
    [known] = [p for p in site["people"] if p["name"] == person["name"]]
    assert (home.stat().st_uid, stat.S_IMODE(home.stat().st_mode)) == (known["uid"], 0o700)
    record = next((demo.dir / "run").glob("*/*/record.json"))
    pid = json.loads(record.read_text())["pid"]
    assert processes.uid_of(pid) in {p["uid"] for p in site["people"]}
    assert b"JUPYTERHUB_ACTIVITY_INTERVAL=15" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")

    async def stopped() -> bool:
        return await server() is None

    # Servers report every 15 s; the culler looks again itself before it stops one.
    await until(stopped, within_s=IDLE_S + 60, what="idle stop", every_s=0.5)
    [launch] = [one for one in launches(demo) if one.user_name == person["name"]]
    assert launch.target_by == "culler"
    assert launch.ended_at is not None
    assert launch.ended_at - launch.created_at >= timedelta(seconds=IDLE_S), "not before it was idle for that long"
    _, page = await visitor.call("GET", "/hub/home")
    assert "idle for" in page


@pytest.mark.needs("root")
@pytest.mark.parametrize("hub_too", [True, *([False] if LONG else [])])
async def test_after_a_sigkill_the_next_start_with_the_same_folder_clears_up(place: Path, hub_too: bool) -> None:
    """The demo alone: its hub still stops what it knows. The hub as well: proxy and servers are left behind."""
    first = await DemoServer(place, "--dir", str(place / "demo")).start()
    before = {p["name"]: p["password"] for p in first.ready["people"]}
    marked = first.processes()
    servers = [json.loads(r.read_text()) for r in (first.dir / "run").glob("*/*/record.json")]
    assert servers
    hub = json.loads((first.dir / "state/process-hub.json").read_text())["pid"]
    if hub_too:
        # Stopped first, so that it cannot hear of the demo's end.
        os.kill(hub, signal.SIGSTOP)
    assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    if hub_too:
        os.kill(hub, signal.SIGKILL)
        assert any(processes.alive(p) for p in marked if p.pid != hub), "something is left for the next start"
    first.ready_file.unlink()
    second = DemoServer(place, "--dir", str(place / "demo"))
    try:
        await second.start(within_s=120)
        assert {p["name"]: p["password"] for p in second.ready["people"]} == before
        assert [p for p in marked if processes.alive(p)] == []
        for old in servers:
            known = processes.ProcessId(old["boot_id"], old["pid"], old["start_time"])
            assert not processes.alive(known)
        assert len(active_launches(second.dir)) == 1, "only the new server of the person over quota"
    finally:
        await second.stop()


@pytest.mark.needs("root")
async def test_without_root_it_says_that_there_is_no_isolation(place: Path) -> None:
    uid = 54321
    os.chown(place, uid, uid)
    folder = place / "d ä#%?"
    demo = DemoServer(place, "--dir", str(folder), user=(uid, uid))
    try:
        await demo.start()
        visitor = Visitor(demo.url)
        _, login = await visitor.call("GET", "/hub/login")
        assert "shared uid: no isolation" in login.lower()
        assert "shared uid: no isolation" in demo.log_text()
        handle = json.loads(next((folder / "run").glob("*/*/record.json")).read_text())
        assert processes.uid_of(handle["pid"]) == uid
        assert handle["warnings"] == [], "nobody lacks a group where all share one uid"
        assert {path.name for path in place.iterdir()} == {folder.name, "ready.json", "demo.log"}
        assert {path.name for path in (folder / "state").glob("*.sqlite")} == {"ledger.sqlite", "jupyterhub.sqlite"}
        assert await demo.end() == 0
    finally:
        await demo.stop()


@pytest.mark.needs("root")
async def test_a_temporary_folder_is_removed(place: Path) -> None:
    port = free_port()
    demo = await DemoServer(place, "--port", str(port)).start()
    folder = demo.dir
    assert demo.url == f"http://127.0.0.1:{port}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert await demo.end(signal.SIGTERM) == 0
    assert not folder.exists()


@pytest.mark.needs("root")
async def test_a_port_in_use_is_said_and_nothing_is_left(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = DemoServer(place, "--dir", str(place / "demo"), "--port", str(port))
        with pytest.raises(
            AssertionError, match=rf"(?s)ended with 1:.*--port {port} cannot be used: Address already in use"
        ):
            await demo.start()
    demo.ready = {"dir": str(place / "demo")}
    assert demo.processes() == []
    assert active_launches(demo.dir) == []
    assert not demo.ready_file.exists()


@pytest.mark.needs("root")
async def test_two_demos_do_not_share_a_folder(demo: DemoServer, place: Path) -> None:
    second = DemoServer(place / "demo" / "homes", "--dir", str(place / "demo"))
    with pytest.raises(AssertionError, match="Another demo is running"):
        await second.start()
    assert demo.process is not None
    assert demo.process.poll() is None


@pytest.mark.needs("root")
async def test_a_folder_that_accounts_cannot_reach_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(AssertionError, match="other accounts cannot reach it"):
        await DemoServer(tmp_path, "--dir", str(tmp_path / "demo")).start()
