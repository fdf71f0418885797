"""Static homes by `helm install`: the service that makes them runs in the cluster with the hub's own image."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daas_hub.core.naming import new_id
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.servers.slapd import PEOPLE
from tests.waiting import until

from .chart import RELEASE
from .test_installed_hub import InstalledHub

pytestmark = [pytest.mark.needs("kubernetes", "kube_rig", "images", "slapd", "root"), pytest.mark.timeout(300)]
HOMES = "installed-homes"


class HubWithHomes(InstalledHub):
    """The homes are folders of the node; ``storage`` is where they lie."""

    home, users = "hub-of-installed-homes", "users-of-installed-homes"

    def __init__(self, cluster: Cluster, folder: Path, server: Image) -> None:
        super().__init__(cluster, folder, server)
        self.storage = cluster.addons.volumes_folder / new_id()
        self.storage.mkdir(mode=0o755)

    async def start(self) -> None:
        await self.kubectl("create", "namespace", HOMES)
        await super().start()
        words = ("wait", "--for=condition=Available", "deployment", "--all", "--timeout=60s")
        await self.kubectl("-n", HOMES, *words, within_s=90)

    def _directory_by_name(self) -> list[dict[str, Any]]:
        token = {"token": new_id()}
        secrets = [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "daas-homes", "namespace": n},
                "stringData": token,
            }
            for n in (self.home, HOMES)
        ]
        return [*super()._directory_by_name(), *secrets]

    def _values(self, images: dict[str, Image]) -> dict[str, Any]:
        values, place = super()._values(images), {"hostPath": {"path": str(self.storage)}}
        home = {"kind": "hostPath", "path": f"{self.storage}/{{username}}"}
        values["hub"]["config"]["KubeBackend"]["volumes"] = {"home": home}
        values["volumes"] = {"roots": [place]}
        values["homes"] = {"enabled": True, "namespace": HOMES, "createNamespace": False, "folder": place}
        return values

    async def stop(self) -> None:
        await self.kubectl("delete", "namespace", HOMES, "--wait=false", "--ignore-not-found")
        await super().stop()
        await self.kubectl("delete", "pv", "-l", "daas-hub/hub=hub", "--wait=false")


@pytest.fixture
async def hub(kube_rig: Cluster, tiny: Image, tmp_path: Path) -> AsyncIterator[HubWithHomes]:
    made = HubWithHomes(kube_rig, tmp_path, tiny)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def test_a_new_person_gets_a_home_on_the_sites_storage(hub: HubWithHomes) -> None:
    ada, home = PEOPLE["ada"], hub.storage / "ada"
    await hub.sign_in("ada")
    assert not home.exists()
    code, answer = await hub.api("POST", "/hub/api/users/ada/server")
    assert code in (201, 202), answer

    async def ready() -> bool:
        _, user = await hub.api("GET", "/hub/api/users/ada")
        return bool(user["servers"].get("", {}).get("ready"))

    await until(ready, within_s=90, every_s=0.5, what="her server is ready")
    assert (home.stat().st_uid, home.stat().st_gid, home.stat().st_mode & 0o7777) == (ada.uid, ada.gid, 0o700)
    (pod,) = await hub.names("pods")
    await hub.kubectl("-n", hub.users, "exec", pod, "-c", "notebook", "--", "sh", "-c", 'echo mine > "$HOME/result"')
    assert ((home / "result").read_text(), (home / "result").stat().st_uid) == ("mine\n", ada.uid)
    words = ("get", pod, "-o", "jsonpath={.spec.securityContext.fsGroup}")
    assert await hub.kubectl("-n", hub.users, *words) == ""

    code, answer = await hub.api("DELETE", "/hub/api/users/ada")
    assert code == 204, answer
    await asyncio.to_thread(hub.cluster.kubectl, "-n", hub.users, "wait", "--for=delete", pod, "--timeout=60s")
    assert (home / "result").read_text() == "mine\n"
    log = await hub.kubectl("-n", hub.home, "logs", f"deployment/{RELEASE}-hub", "--tail=2000")
    assert "forbidden" not in log
