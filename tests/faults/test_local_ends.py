"""Servers of this machine that end in every bad way, and hubs that do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.backends import local_probe
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.faults.local_server import begin, gone, pids_of, quoted
from tests.servers.local_place import UID, LocalPlace, alive
from tests.waiting import until

pytestmark = pytest.mark.needs("root")
REPO = Path(__file__).parents[2]


async def test_nothing_of_a_crashed_server_is_left(place: LocalPlace, saved: Saved) -> None:
    await begin(place, saved, children=3)
    handle = saved.last

    async def all_there() -> bool:
        return len(await pids_of(handle)) == 4

    await until(all_there)
    pids = await pids_of(handle)
    os.kill(handle["pid"], signal.SIGSEGV)
    seen = await asyncio.wait_for(place.backend.wait_ended(handle), 5)
    assert seen.reason == "it was ended by SIGSEGV"
    await place.backend.cleanup(handle)
    assert await gone(pids)
    assert not [group for group in handle["groups"] if Path(group).exists()]
    assert not Path(handle["dir"]).exists()


async def test_what_a_user_left_can_always_be_removed(place: LocalPlace, saved: Saved) -> None:
    """A tree too deep for recursion, read-only folders, links to what root alone may change."""
    url = await begin(place, saved)
    deep = "python3 -c 'import os\nfor n in range(3000): os.mkdir(chr(100)); os.chdir(chr(100))'"
    inside = (
        "cd $JUPYTER_RUNTIME_DIR && ln -s /etc etc && ln -s /etc/passwd p && mkdir -p ro/x && chmod 0 ro && "
        f"{deep} && cd $JUPYTERLAB_SETTINGS_DIR && {deep}"
    )
    assert await quoted(place, url, inside) == ""
    await place.backend.stop(saved.last, within_s=10)
    await place.backend.cleanup(saved.last)
    assert not Path(saved.last["dir"]).exists()
    assert Path("/etc/passwd").exists()


async def test_no_zombie_stays(place: LocalPlace, saved: Saved) -> None:
    await begin(place, saved)
    os.kill(saved.last["pid"], signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{saved.last['pid']}").exists(), within_s=5, what="collected, unasked")


async def test_a_pid_that_is_somebody_elses_now_is_never_killed(place: LocalPlace, saved: Saved) -> None:
    await begin(place, saved)
    innocent = subprocess.Popen(["sleep", "1000"])
    try:
        before = saved.last | {"pid": innocent.pid, "start_time": saved.last["start_time"] - 1, "groups": []}
        seen = await place.backend.stop(before | {"launch_id": new_id()}, within_s=5)
        assert seen.life is Life.ENDED
        another_boot = saved.last | {"boot_id": "another", "launch_id": new_id()}
        seen = await place.backend.stop(another_boot, within_s=5)
        assert (seen.life, seen.reason) == (Life.ENDED, "the machine was restarted")
        assert innocent.poll() is None
        assert await alive(saved.last["pid"])
    finally:
        innocent.kill()
        innocent.wait()


async def test_find_believes_only_what_users_could_not_have_written(place: LocalPlace, saved: Saved) -> None:
    await begin(place, saved)
    record = Path(saved.last["dir"]) / "record.json"
    true = record.read_text()

    async def found() -> int:
        return len(await place.backend.find())

    assert await found() == 1
    os.chown(record, UID, UID)
    assert await found() == 0, "the account could have written it"
    os.chown(record, 0, 0)
    record.chmod(0o666)
    assert await found() == 0, "anybody could have written it"
    record.chmod(0o600)
    for fault in ({"uid": UID + 1}, {"start_time": 1}, {"boot_id": "b"}, {"launch_id": "other"}, {"version": 9}):
        record.write_text(json.dumps(json.loads(true) | fault))
        assert await found() == 0, fault
    record.write_text("{")
    assert await found() == 0
    record.write_text(true)
    assert await found() == 1


# ---------------------------------------------------------------- ports


async def test_a_port_that_was_lost_is_replaced(
    place: LocalPlace, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    lost, free = taken.sockets[0].getsockname()[1], local_probe.free_port
    ports = iter([lost])
    monkeypatch.setattr(local_probe, "free_port", lambda *_: next(ports, None) or free())
    try:
        await begin(place, saved)
    finally:
        taken.close()
        await taken.wait_closed()
    assert [handle["port"] == lost for handle in saved.handles] == [True, False]
    assert not await alive(saved.handles[0]["pid"])


async def test_somebody_who_listens_in_its_place_is_not_believed(place: LocalPlace, saved: Saved) -> None:
    """Another user waits on the port and answers as a server would: nobody may be sent there."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nX-JupyterHub-Version: 6.1.1\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    place.backend.wait_policy_s = 2
    with pytest.raises(StartFailed):
        await begin(place, saved, silent=True)
    assert await alive(saved.last["pid"])
    trap = await asyncio.start_server(answer, "127.0.0.1", saved.last["port"])
    try:
        assert await local_probe.answers(saved.last["port"], "/user/zora/api")
        place.backend.wait_policy_s = 1
        with pytest.raises(Exception, match="did not answer"):
            await place.backend.resume(saved.last)
    finally:
        trap.close()
        await trap.wait_closed()


# ---------------------------------------------------------------- who she is


async def test_an_account_that_nss_does_not_know_has_a_name_inside(place: LocalPlace, saved: Saved) -> None:
    url = await begin(place, saved)
    assert await quoted(place, url, "whoami") == "zora\n"
    assert await quoted(place, url, "id -un; id -gn; id -Gn") == "zora\nzora\nzora crew\n"
    inside = (
        "python3 -c 'import getpass,os,pwd;os.environ.clear();print(getpass.getuser(),pwd.getpwuid(os.getuid())[4])'"
    )
    assert await quoted(place, url, inside) == "zora Zora  the First\n"
    assert "zora" not in Path("/etc/passwd").read_text()


async def test_a_machines_own_user_of_the_same_name_does_not_matter(place: LocalPlace, saved: Saved) -> None:
    """The directory's `daemon` is not the machine's."""
    account = replace(place.account, name="daemon")
    url = await begin(place, saved, account=account)
    assert await quoted(place, url, "whoami; id -u daemon") == f"daemon\n{UID}\n"


async def test_nothing_of_the_hubs_environment_leaks(
    place: LocalPlace, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "hub-secret")
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "hub-secret")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    url = await begin(place, saved)
    printed = await quoted(place, url, "env")
    assert "hub-secret" not in printed
    assert "TZ=Pacific/Auckland" in printed


# ---------------------------------------------------------------- hubs that die


def hub(place: LocalPlace, launch_id: str, when: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.faults.hub_process", str(place.root), launch_id, when]
    return subprocess.Popen(argv, cwd=REPO, stdout=subprocess.PIPE, text=True, start_new_session=True)


async def test_a_server_survives_its_hub_and_the_next_one_knows_all(place: LocalPlace) -> None:
    launch_id = new_id()
    with await asyncio.to_thread(hub, place, launch_id, "running") as process:
        assert process.stdout is not None
        handle = json.loads(await asyncio.to_thread(process.stdout.readline))
        url = (await asyncio.to_thread(process.stdout.readline)).strip()
        os.killpg(process.pid, signal.SIGKILL)
    (found,) = await place.backend.find()
    assert (found.launch_id, found.uid) == (launch_id, UID)
    assert {name: found.handle[name] for name in ("pid", "start_time", "port")}.items() <= handle.items()
    assert await place.backend.resume(found.handle) == url
    ended = asyncio.create_task(place.backend.wait_ended(found.handle))
    os.kill(found.handle["pid"], signal.SIGTERM)
    seen = await asyncio.wait_for(ended, 5)
    assert (seen.life, seen.exit_code) == (Life.ENDED, None)
    assert "not known" in seen.reason


async def test_a_hub_killed_before_the_handle_was_saved_leaves_nothing_that_runs(place: LocalPlace) -> None:
    launch_id = new_id()
    with await asyncio.to_thread(hub, place, launch_id, "checkpoint") as process:
        assert process.stdout is not None
        handle = json.loads(await asyncio.to_thread(process.stdout.readline))
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
    await until(lambda: gone([handle["pid"]]), within_s=5, what="the helper ends with its hub")
    assert await place.backend.find() == []
    assert await pids_of(handle) == []
    assert (await place.backend.inspect(handle)).life is Life.ENDED
    await place.backend.cleanup(handle)
    assert not Path(handle["dir"]).exists()


async def test_signals_that_the_hub_ignores_or_blocks_reach_its_servers(place: LocalPlace, saved: Saved) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        url = await begin(place, saved)
        status = await quoted(place, url, "grep -E 'Sig(Blk|Ign)' /proc/$PPID/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        signal.signal(signal.SIGUSR1, before)
    masks = {line.split(":")[0]: int(line.split(":")[1], 16) for line in status.splitlines()}
    assert masks["SigBlk"] == 0
    assert masks["SigIgn"] & (1 << (signal.SIGUSR1 - 1)) == 0
