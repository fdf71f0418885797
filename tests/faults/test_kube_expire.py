"""Letting go of volumes in a real cluster: said first, done on demand, and never anything but what the ledger names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daas_hub import cli
from daas_hub.backends.kube_claims import claim_name
from daas_hub.core.models import Json, LaunchSpec
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import Ledger
from daas_hub.db.volumes import Volume, VolumeState
from tests.contracts.backend import Saved
from tests.servers.kube_place import KubePlace, kube_place
from tests.servers.kubernetes.client import Client
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

pytestmark = [pytest.mark.needs("kubernetes", "root"), pytest.mark.timeout(180)]
OVER = datetime.now(UTC) - timedelta(days=1)
LONG_AGO = OVER - timedelta(days=90)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.sqlite"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url, busy_timeout_s=5.0, create=True)
    yield opened
    opened.close()


@pytest.fixture
async def place(kube: Client, tiny_name: str) -> AsyncIterator[KubePlace]:
    async with kube_place(kube, tiny_name) as place:
        yield place


async def expire(place: KubePlace, url: str, *more: str) -> tuple[int, str]:
    words = ["volumes", "expire", "--url", url, "--kubeconfig", str(place.kube.kubeconfig), *more]
    result = await asyncio.to_thread(CliRunner().invoke, cli.app, words)
    return result.exit_code, result.output


def new_volume(place: KubePlace, ledger: Ledger, who: str = "zora") -> tuple[Volume, LaunchSpec]:
    """Her home as the hub plans it, and a launch that mounts it."""
    uid = place.account.uid + len(ledger.accounts.list())
    facts = {**vars(place.account), "name": who, "uid": uid}
    account = ledger.accounts.upsert(type(place.account)(**facts), ("ldap:site", who), who, now=LONG_AGO)
    (home,) = place.backend.plan(account, (), ())
    volume = ledger.volumes.ensure("home", "kubernetes", home.place, now=LONG_AGO, account_id=account.id)
    return volume, place.spec(new_id(), mounts=(home.mount(volume.id, known=False),))


async def made(place: KubePlace, ledger: Ledger, spec: LaunchSpec) -> Saved:
    """Prepared, started and written down, as the hub does it."""
    saved = Saved()
    for volume_id, what in (await place.backend.prepare(spec)).items():
        ledger.volumes.record_made(volume_id, what)
    await place.backend.start(spec, saved)
    for volume_id, what in (await place.backend.keep([mount.volume_id for mount in spec.mounts])).items():
        ledger.volumes.record_made(volume_id, what)
    return saved


async def disk_of(place: KubePlace, volume: Volume) -> Json:
    (claim,) = [c for c in await place.objects("pvc") if c["metadata"]["name"] == claim_name(volume.id)]
    return await asyncio.to_thread(place.kube.get, "persistentvolume", claim["spec"]["volumeName"])


async def test_what_is_over_is_said_first_and_deleted_on_demand(place: KubePlace, ledger: Ledger, url: str) -> None:
    volume, spec = new_volume(place, ledger)
    saved = await made(place, ledger, spec)
    await place.ask("exec", saved.last["pod"], "-c", "notebook", "--", "sh", "-c", "echo mine > /home/zora/result")
    disk = await disk_of(place, volume)
    folder = Path(disk["spec"]["local"]["path"])
    assert (folder / "result").read_text() == "mine\n"

    assert await expire(place, url) == (0, "No volume's time is over.\n")
    ledger.volumes.retain("zora", now=LONG_AGO, expires_at=OVER)
    status, said = await expire(place, url)
    assert status == 0
    assert f"{volume.id}  home of zora (uid {place.account.uid}) on kubernetes, retained since {LONG_AGO:%F}" in said
    assert f"its disk {disk['metadata']['name']} are deleted, with ALL FILES on it" in said
    assert "Nothing was deleted; run it again with --yes" in said
    assert ledger.volumes.get(volume.id).state is VolumeState.RETAINED
    assert (folder / "result").exists()

    status, said = await expire(place, url, "--yes")
    assert (status, f"NOT REMOVED: The pod {saved.last['pod']} uses it" in said) == (1, True), said
    assert (folder / "result").exists()
    await place.backend.stop(saved.last, within_s=30)
    await place.backend.cleanup(saved.last)

    async def no_pod() -> bool:
        return await place.objects("pods") == []

    await until(no_pod, within_s=30, what="its pod is gone")

    status, said = await expire(place, url, "--yes", "--by", "admin:root")
    assert (status, "expired: its claim and its disk are gone, with all files" in said) == (0, True), said
    assert await place.objects("pvc") == []
    assert not folder.exists()
    assert ledger.volumes.get(volume.id).state is VolumeState.EXPIRED
    (row,) = ledger.audit.list(subject=f"volume:{volume.id}")
    assert (row.who, row.action) == ("admin:root", "volume_expire")
    assert await expire(place, url, "--yes") == (0, "No volume's time is over.\n")


async def test_a_disk_whose_claim_is_gone_is_let_go_too(place: KubePlace, ledger: Ledger, url: str) -> None:
    volume, spec = new_volume(place, ledger)
    saved = await made(place, ledger, spec)
    folder = Path((await disk_of(place, volume))["spec"]["local"]["path"])
    await place.backend.stop(saved.last, within_s=30)
    await place.ask("delete", "pvc", claim_name(volume.id), "--wait=true")
    assert folder.exists()
    ledger.volumes.retain("zora", now=LONG_AGO, expires_at=OVER)
    assert (await expire(place, url, "--yes"))[0] == 0
    assert not folder.exists()


async def test_another_ones_claim_or_disk_is_never_deleted(place: KubePlace, ledger: Ledger, url: str) -> None:
    eves, spec = new_volume(place, ledger, "eve")
    saved = await made(place, ledger, spec)
    await place.backend.stop(saved.last, within_s=30)
    disk = await disk_of(place, eves)
    zoras, _ = new_volume(place, ledger)
    ledger.volumes.retain("zora", now=LONG_AGO, expires_at=OVER)

    # A ledger that was restored badly, or edited.
    ledger.volumes.record_made(zoras.id, {"claim": claim_name(eves.id), "namespace": place.namespace})
    status, said = await expire(place, url, "--yes")
    assert (status, "it is another one" in said) == (1, True), said
    ledger.volumes.record_made(zoras.id, {"claim": claim_name(zoras.id), "disk": disk["metadata"]["name"]})
    status, said = await expire(place, url, "--yes")
    assert (status, f"belongs to the claim {place.namespace}/{claim_name(eves.id)}" in said) == (1, True), said
    after = await disk_of(place, eves)
    assert after["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert Path(disk["spec"]["local"]["path"]).exists()


async def test_without_a_cluster_nothing_is_changed(place: KubePlace, ledger: Ledger, url: str, tmp_path: Path) -> None:
    volume, _ = new_volume(place, ledger)
    ledger.volumes.record_made(volume.id, {"claim": claim_name(volume.id), "namespace": place.namespace})
    ledger.volumes.retain("zora", now=LONG_AGO, expires_at=OVER)
    status, _ = await expire(place, url, "--yes", "--kubeconfig", str(tmp_path / "none"))
    assert status == 1
    assert ledger.volumes.get(volume.id).state is VolumeState.RETAINED


@pytest.mark.needs("kube_rig")
async def test_a_folder_of_the_site_stays(kube_rig: Cluster, tiny: Image, ledger: Ledger, url: str) -> None:
    folder = kube_rig.addons.volumes_folder / new_id()
    (folder / "zora").mkdir(parents=True)
    (folder / "zora" / "result").write_text("kept")
    traits = {
        "volume_roots": [{"hostPath": {"path": str(folder)}}],
        "volumes": {"home": {"kind": "hostPath", "path": f"{folder}/{{username}}"}},
    }
    async with kube_place(kube_rig, tiny.name, **traits) as place:
        volume, spec = new_volume(place, ledger)
        for volume_id, what in (await place.backend.prepare(spec)).items():
            ledger.volumes.record_made(volume_id, what)
        ledger.volumes.retain("zora", now=LONG_AGO, expires_at=OVER)
        status, said = await expire(place, url)
        assert (status, f"the folder {folder}/zora stays, for the site to remove" in said) == (0, True), said
        status, said = await expire(place, url, "--yes")
        assert (status, "the folder itself is the site's and stays" in said) == (0, True), said
        left = await asyncio.to_thread(
            kube_rig.kubectl, "get", "pv", "-l", f"daas-hub/volume={volume.id}", "-o", "name"
        )
        assert (left, await place.objects("pvc")) == ("", [])
        assert (folder / "zora" / "result").read_text() == "kept"
