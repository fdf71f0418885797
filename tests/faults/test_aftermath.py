"""The check at the end of every fault can fail: each of its parts finds the fault that is planted here."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.aftermath import agreed, check_aftermath, differences, watched_site
from tests.faults.leaks import forget_argv, launch_token, leaks, watched_argv
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

STANDING = """
import asyncio as _asyncio, pathlib as _pathlib, time as _time
async def _stand():
    while True:
        await _asyncio.sleep(0.05)
        if _pathlib.Path("stand").exists():
            _pathlib.Path("stand").unlink()
            _time.sleep(1.5)
_standing = _asyncio.get_running_loop().create_task(_stand())
"""
"""For a hub's configuration: a blocking call in its loop, whenever the file ``stand`` is there."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = watched_site(more=STANDING)
    try:
        asyncio.run(made.start())
        for name in ("ada", "bob"):
            asyncio.run(made.sign_in(name))
        asyncio.run(made.hub.start_server("ada"))
        yield made
    finally:
        asyncio.run(made.stop())


@pytest.fixture(autouse=True)
async def sound(site: Site) -> None:
    """What is planted is the only thing that is wrong."""
    site.hub.forget_gaps()
    await check_aftermath(site)


@contextmanager
def process(site: Site, name: str, *words: str) -> Iterator[int]:
    """A process that runs as one of the site's people."""
    person = site.person(name)
    argv = [reachable_python(), "-c", "import sys; sys.stdin.read()", *words]
    environment = {"HOME": str(site.home(name))}
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, env=environment, user=person.uid, group=person.gid, extra_groups=[]
    ) as made:
        yield made.pid
        assert made.stdin is not None
        made.stdin.close()


# ---------------------------------------------------------------- resources = ledger


async def test_a_process_without_a_row(site: Site) -> None:
    with process(site, "bob") as pid:
        await until(lambda: pid in site.servers(), what="it is there")
        assert differences(site) == [f"process {pid} is a server, but no running launch"]
        with pytest.raises(AssertionError, match="no running launch"):
            await agreed(site, within_s=0.5)


async def test_a_row_without_a_process_and_a_sum_that_is_wrong(site: Site) -> None:
    ledger = site.ledger()
    (row,) = site.launches()
    assert row.handle is not None
    try:
        ledger.save_handle(row.id, {**row.handle, "pid": 1}, now=row.created_at)
        told = differences(site)
        ledger.save_handle(row.id, row.handle, now=row.created_at)
        assert "ada's launch is running, but its process 1 is not" in told
        with ledger._db.engine.begin() as c:
            c.exec_driver_sql("UPDATE balance SET servers = servers + 1")
        assert [line for line in differences(site) if line.startswith("a sum is wrong")]
    finally:
        ledger.recount(fix=True)
        ledger.close()
    assert differences(site) == []


async def test_a_folder_of_a_launch_that_has_ended(site: Site) -> None:
    left = site.run / site.hub_id / "0123456789"
    left.mkdir()
    assert differences(site) == [f"{left} is left"]
    left.rmdir()


# ---------------------------------------------------------------- no secret


async def test_a_token_in_a_log(site: Site) -> None:
    log = site.state / "service.log"
    log.write_text(f"GET /hub/api?token={launch_token(site, 'ada')}\n")
    assert leaks(site) == [f"a launch's token of ada in the log {log}"]
    with pytest.raises(AssertionError, match="in the log"):
        await check_aftermath(site)
    log.unlink()


async def test_a_secret_in_an_argv(site: Site) -> None:
    with process(site, "ada", site.hub.crypt_key) as pid:
        assert leaks(site) == [f"the crypt key in the argv of {pid}"]
        await until(lambda: any(site.hub.crypt_key.encode() in argv for argv in watched_argv(site)), what="it was seen")
    # It was seen, so that it has ended helps nothing.
    assert pid not in site.processes()
    assert leaks(site) == [f"the crypt key in the argv of {pid}"]
    forget_argv(site)


@pytest.mark.parametrize("secret", ["token", "password", "service password", "cookie"])
async def test_a_file_that_others_can_read(site: Site, secret: str) -> None:
    cookie = next(value for name, value in site.cookies if name == "ada" and len(value) > 40)
    text = {"token": launch_token(site, "ada"), "password": "ada-secret", "service password": "service-secret"}
    file = site.homes / "notes"
    file.write_text(text.get(secret, cookie))
    file.chmod(0o600)
    assert leaks(site) == []
    file.chmod(0o640)
    person = site.person("ada")
    # Her group is bob's group, too.
    os.chown(file, person.uid, person.gid)
    found = leaks(site)
    file.unlink()
    assert [line for line in found if f"for bob in {file}" in line]
    assert not [line for line in found if "for anybody" in line]
    assert bool([line for line in found if "for ada" in line]) is (secret == "service password")


async def test_an_environment_with_what_is_the_hubs(site: Site) -> None:
    person = site.person("ada")
    environment = {"HOME": str(site.home("ada")), "JUPYTERHUB_CRYPT_KEY": site.hub.crypt_key}
    argv = [reachable_python(), "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, env=environment, user=person.uid, group=person.gid, extra_groups=[]
    ) as made:
        await until(lambda: made.pid in site.processes("ada"), what="it is there")
        assert leaks(site) == [f"the crypt key for ada in /proc/{made.pid}/environ"]
        assert made.stdin is not None
        made.stdin.close()


# ---------------------------------------------------------------- the loop


async def test_a_call_that_blocks_the_loop(site: Site) -> None:
    (site.state / "stand").touch()
    await until(lambda: not (site.state / "stand").exists(), what="the hub stands")
    with pytest.raises(AssertionError, match="the hub's loop stood still"):
        await check_aftermath(site)


async def test_a_gap_of_an_earlier_boot_counts(site: Site) -> None:
    (site.state / "stand").touch()
    await until(lambda: not (site.state / "stand").exists(), what="the hub stands")
    await site.hub.http("GET", f"{site.hub.hub_url}/hub/health")
    await site.hub.stop()
    with pytest.raises(AssertionError, match="the hub's loop stood still"):
        await check_aftermath(site)


def test_a_hub_without_the_measure_is_no_proof(site: Site) -> None:
    other = type(site.hub)(site.state / "other", "")
    with pytest.raises(AssertionError, match="not measured"):
        other.worst_gap_s()


# ---------------------------------------------------------------- every fault


def test_every_fault_on_a_real_hub_ends_with_the_check() -> None:
    """A module that has a hub has it from here, and each of its tests is checked."""
    folder, checked = Path(__file__).parent, 0
    for path in folder.glob("test_*.py"):
        if path == Path(__file__):
            continue
        tree = ast.parse(path.read_text())
        called = {name for node in ast.walk(tree) if isinstance(node, ast.Call) for name in [_name(node.func)]}
        assert not called & {"Site", "HubServer"}, f"{path.name} makes a hub of its own"
        if not called & {"faulty_site", "watched_site"}:
            continue
        fixtures = {_definition(f) for f in tree.body if "faulty_site" in _called(f)}
        hubs = {_definition(f) for f in tree.body if _called(f) & {"faulty_site", "watched_site"}} - {""}
        for test in tree.body:
            # The other tests of such a module have no hub: there is no other way to one.
            hub = _called(test) & {"faulty_site", "watched_site", *hubs} or hubs & _arguments(test)
            if _definition(test).startswith("test_") and hub:
                has = _called(test) & {"faulty_site", "check_aftermath"} or fixtures & _arguments(test)
                assert has, f"{path.name}: {_definition(test)} does not look at what the fault left"
                checked += 1
    assert checked > 10


def _definition(node: ast.AST) -> str:
    return node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""


def _arguments(node: ast.AST) -> set[str]:
    return {a.arg for a in node.args.args} if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else set()


def _called(node: ast.AST) -> set[str]:
    return {_name(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}


def _name(func: ast.expr) -> str:
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
