"""Pods that outlive the hub's database and the ledger: the same processes afterwards, and everything about them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from daas_hub.core.models import LaunchState
from daas_hub.db.engine import Database
from daas_hub.db.recount import recount
from tests.faults.kube_recovery import LONG, SERVERS, RecoverySite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.client import Client
from tests.waiting import until

pytestmark = [pytest.mark.needs("kubernetes", "slapd", "root"), pytest.mark.timeout(900 if LONG else 400)]


@pytest.fixture
async def site(kube: Client, tiny_name: str) -> AsyncIterator[RecoverySite]:
    with kube.namespace(**RESTRICTED) as namespace:
        site = RecoverySite(kube, namespace, tiny_name)
        await site.start()
        try:
            yield site
        finally:
            await site.stop()


async def test_the_reconciler_gives_a_hub_without_memory_its_pods_back(site: RecoverySite) -> None:
    """The hub's database is deleted, the ledger kept: who signs in again finds her server, though nobody started it."""
    before = await site.start_servers()
    assert before.keys() == set(SERVERS)
    launches = {server: row.id for server, row in site.active().items()}
    await site.lose_hub()
    await site.hub.start()
    for name in dict.fromkeys(name for name, _ in SERVERS):
        await site.sign_in(name)
    await until(site.served, within_s=120, every_s=0.3, what="all servers adopted")
    assert await site.seen() == before
    assert {server: row.id for server, row in site.active().items()} == launches
    await site.works(before)


async def test_adopt_rebuilds_the_hub_from_the_ledger(site: RecoverySite) -> None:
    """Nobody signs in: the command makes users and servers of the hub again, and says first what it will do."""
    before = await site.start_servers()
    launches = {server: (row.id, row.account_id) for server, row in site.active().items()}
    await site.lose_hub()
    await site.hub.start()
    status, said = await site.adopt("--dry-run")
    assert status == 3, said
    assert said.count("the hub would find it again") == len(SERVERS)
    assert (await site.hub.api("GET", "users"))[1] == [], "a dry run made users"
    status, said = await site.adopt()
    assert status == 0, said
    assert f"The hub serves {len(SERVERS)} of {len(SERVERS)} servers." in said
    assert await site.served()
    assert await site.seen() == before
    await site.works(before)
    assert {server: (row.id, row.account_id) for server, row in site.active().items()} == launches
    groups = (await site.hub.api("GET", "users/ada"))[1]["groups"]
    assert groups == ["lab"], "the directory's groups are back without a sign-in"
    status, said = await site.adopt("--dry-run")
    assert status == 0, said


async def test_adopt_rebuilds_everything_from_the_cluster(site: RecoverySite) -> None:
    """Both databases are gone: the hub refuses to judge the pods, and the command rebuilds ledger and hub."""
    before = await site.start_servers()
    (pod,) = [process.pod for server, process in before.items() if server == ("ada", "")]
    await site.inside(pod, "sh", "-c", f"echo kept > {site.home('ada')}/result")
    rows = site.active()
    await site.lose_hub()
    site.lose_ledger()
    with pytest.raises(AssertionError, match="known to another ledger"):
        await site.hub.start()
    assert await site.seen() == before

    status, said = await site.adopt("--dry-run")
    assert status == 3, said
    assert site.launches() == [], "a dry run wrote launches"
    status, said = await site.adopt(token=False)
    assert status == 0, said
    await site.hub.start()
    status, said = await site.adopt()
    assert status == 0, said
    assert await site.served()
    assert await site.seen() == before
    await site.works(before)
    again = site.active()
    for server, old in rows.items():
        new = again[server]
        same = ("id", "account_id", "profile", "charge", "groups", "project", "backend", "handle")
        assert {key: getattr(new, key) for key in same} == {key: getattr(old, key) for key in same}
        assert new.state is LaunchState.RUNNING
    books = Database(f"sqlite:///{site.ledger_file}", busy_timeout_s=5)
    try:
        assert recount(books) == []
    finally:
        books.close()

    await site.sign_in("ada")
    await site.hub.api("DELETE", "users/ada/server")
    await until(lambda: ("ada", "") not in site.active(), within_s=60, every_s=0.3, what="stopped")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    (pod,) = [process.pod for server, process in (await site.seen()).items() if server == ("ada", "")]
    assert (await site.inside(pod, "cat", f"{site.home('ada')}/result")).strip() == "kept"
    assert site.active()["ada", ""].account_id == rows["ada", ""].account_id


async def test_conflicts_are_named_and_nothing_is_written(site: RecoverySite) -> None:
    """Two pods of one server, and a person whom the directory lost: nothing is written unless they are left out."""
    before = await site.start_servers()
    pods = {pod["metadata"]["name"]: pod for pod in await site.pods()}
    pod = pods[before["bob", ""].pod]
    await site.lose_hub()
    site.lose_ledger()
    await site.slapd.modify(f"dn: {site.person('dora').dn}\nchangetype: delete\n")
    twin = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "daas-twin",
            "namespace": site.namespace,
            "labels": {**pod["metadata"]["labels"], "daas-hub/launch": "f" * 32},
            "annotations": pod["metadata"]["annotations"],
        },
        "spec": {key: value for key, value in pod["spec"].items() if key not in ("nodeName", "serviceAccountName")},
    }
    site.cluster.apply(twin)
    status, said = await site.adopt("--dry-run")
    assert status == 4, said
    conflicts = [line for line in said.splitlines() if line.startswith("CONFLICT")]
    assert len(conflicts) == 2, said
    assert any("daas-twin" in line and pod["metadata"]["name"] in line for line in conflicts)
    assert any("dora" in line and "no active account" in line for line in conflicts)
    status, said = await site.adopt()
    assert status == 4, said
    assert not site.ledger_file.exists()
    status, said = await site.adopt("--skip-conflicts", token=False)
    assert status == 4, said
    assert site.active().keys() == {server for server in SERVERS if server[0] != "dora"} - {("bob", "")}
    assert {p["metadata"]["name"] for p in await site.pods()} == {*pods, "daas-twin"}


async def test_tokens_after_a_lost_crypt_key(site: RecoverySite) -> None:
    """The key is another one: tokens come from the pods' Secrets; where one is gone, too, that is said."""
    before = await site.start_servers()
    await site.lose_hub()
    site.hub.crypt_key = "cd" * 32
    site.cluster.kubectl("-n", site.namespace, "delete", "secret", f"{before['bob', ''].pod}-secret")
    await site.hub.start()
    status, said = await site.adopt("--dry-run")
    assert said.count("its token cannot be had (the crypt key is not the one") == 1, said
    status, said = await site.adopt()
    assert status == 1, said
    assert site.active()["bob", ""].id in said
    assert await site.seen() == before
    await site.works({server: process for server, process in before.items() if server != ("bob", "")})
    assert json.dumps(said).count(before["ada", ""].token) == 0
