"""A site whose servers are the project's own images in pods, with a root file system that nobody can write to."""

from __future__ import annotations

import asyncio
import base64
import io
import tarfile
import zipfile
from typing import Any

from tests.flow.kube_site import KubeSite
from tests.servers.kernels import ServerApi
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

MORE = """
c.KubeBackend.read_only_root = True
c.DaasSpawner.profile_list = [
    {"display_name": "Usual", "slug": "usual", "default": True, "resources": {"cpu_limit": 2, "mem_limit": "1G"},
     "environment": {"R_REPOS": "http://127.0.0.1:9/cran"}},
    {"display_name": "Safe", "slug": "safe", "resources": {"cpu_limit": 2, "mem_limit": "1G"},
     "environment": {"DAAS_SAFE_START": "1"}},
]
"""


class LabSite(KubeSite):
    """One person, ada, and her server."""

    def __init__(self, cluster: Cluster, namespace: str, image: Image) -> None:
        super().__init__(cluster, namespace, image.name, more=MORE, proxy=False)

    async def lab(self, profile: str = "usual") -> ServerApi:
        """Start ada's server and wait until the hub has reached it."""
        status, answer = await self.hub.start_server("ada", options={"profile": profile})
        assert status in (201, 202), answer
        server = await self.hub.server("ada")
        assert server is not None
        assert server["ready"], server
        pod = await self.pod()
        return ServerApi(f"http://{pod['status']['podIP']}:8888/user/ada/", self.hub.token)

    async def pod(self) -> dict[str, Any]:
        """Her pod."""
        (pod,) = await self.pods("daas-hub/component=server")
        return pod

    async def stop_lab(self) -> None:
        """Stop her server and wait until its pod is gone."""
        await self.hub.api("DELETE", "users/ada/server")
        await until(self._gone, within_s=60, what="the pod is gone")

    async def _gone(self) -> bool:
        return not await self.pods("daas-hub/component=server")

    async def put(self, path: str, content: bytes) -> None:
        """Write a small file in her home."""
        words = 'mkdir -p "$(dirname "$1")" && printf %s "$2" | base64 -d > "$1"'
        place, encoded = f"{self.home('ada')}/{path}", base64.b64encode(content).decode()
        await self.inside((await self.pod())["metadata"]["name"], "sh", "-c", words, "sh", place, encoded)

    async def out_of(self, *argv: str) -> str:
        """What a program prints in her pod, started as the image starts everything."""
        name = (await self.pod())["metadata"]["name"]
        return await asyncio.wait_for(self.inside(name, "/usr/local/lib/daas/start", *argv), 100)


def wheel(name: str, code: str) -> bytes:
    """A wheel with one module."""
    made, info = io.BytesIO(), f"{name}-1.0.dist-info"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name}-says = {name}:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return made.getvalue()


def r_source(name: str) -> bytes:
    """A source package for R with one function in R and one in C: it needs a compiler."""
    files = {
        "DESCRIPTION": f"Package: {name}\nVersion: 1.0\nTitle: A Test\nDescription: Of a test.\nLicense: GPL-3\n"
        "Author: Nobody\nMaintainer: Nobody <nobody@example.org>\n",
        "NAMESPACE": f"export(seven)\nuseDynLib({name}, c_seven)\n",
        "R/seven.R": "seven <- function() .Call(c_seven)\n",
        "src/seven.c": "#include <Rinternals.h>\nSEXP c_seven(void) { return ScalarInteger(7); }\n",
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()
