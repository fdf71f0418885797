"""The Kubernetes backend for tests: a namespace of its own, labelled *restricted* as the chart labels it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from traitlets.config import Config

from daas_hub.backends.kube import KubeBackend
from daas_hub.core.models import Account, AccountGroup, Handle, LaunchSpec, Mount, Resources
from daas_hub.core.naming import new_id
from tests.contracts.backend import SECRET, Place
from tests.servers.kubernetes.client import Client, KubectlFailed
from tests.servers.tiny_server import program

UID, GID, EXTRA_GID = 20001, 20001, 20002
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


class KubePlace(Place):
    """One Kubernetes backend with one account in one namespace."""

    def __init__(self, kube: Client, namespace: str, image: str, *, home: str = "/home/zora", **traits: Any) -> None:
        self.kube, self.namespace, self.image = kube, namespace, image
        config = Config()
        config.KubeSpawner.image = image
        config.KubeSpawner.image_pull_policy = "IfNotPresent"
        self.traits: dict[str, Any] = {
            "config": config,
            "kubeconfig": str(kube.kubeconfig),
            "namespace": namespace,
            "hub_id": "contract",
            "home_size": "1Gi",
            "stop_grace_s": 3.0,
            "wait_policy_s": 60,
            **traits,
        }
        self.backends: list[KubeBackend] = []
        self.backend = self.another()
        self.home = Mount(new_id(), home, home)
        self.account = Account(
            id=new_id(),
            name="zora",
            uid=UID,
            gid=GID,
            groups=(AccountGroup("zora", GID), AccountGroup("crew", EXTRA_GID)),
            home=home,
            shell="/bin/sh",
            source="test",
            fetched_at=datetime.now(UTC),
            display_name="Zora: the\nFirst",
        )

    def another(self) -> KubeBackend:
        backend = KubeBackend(**self.traits)
        self.backends.append(backend)
        return backend

    def spec(
        self,
        launch_id: str,
        *,
        account: Account | None = None,
        resources: Resources | None = None,
        cmd: tuple[str, ...] | None = None,
        environment: Mapping[str, str] | None = None,
        override: Mapping[str, Any] | None = None,
        mounts: tuple[Mount, ...] | None = None,
        server_name: str = "",
        **options: Any,
    ) -> LaunchSpec:
        return LaunchSpec(
            launch_id=launch_id,
            hub_id="contract",
            account=account or self.account,
            user_name="zora",
            server_name=server_name,
            resources=resources or Resources(cpu_limit=0.2, mem_limit_bytes=128 * 2**20),
            cmd=cmd or program("python3", **options),
            environment={"FROM_THE_PROFILE": "yes", **(environment or {})},
            secrets={"JUPYTERHUB_API_TOKEN": SECRET},
            mounts=mounts if mounts is not None else (self.home,),
            service_prefix="/user/zora/",
            override=override or {},
        )

    async def end(self, handle: Handle) -> None:
        """Let the server crash. It does not answer that, and its container is gone then."""
        code = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:8888{handle['service_prefix']}end')"
        with contextlib.suppress(KubectlFailed):
            await self.ask("exec", handle["pod"], "-c", "notebook", "--", "python3", "-c", code)

    async def seen_by_others(self, handle: Handle) -> str:
        """The pod as the API has it, its log and its events."""
        pod = handle["pod"]
        whole = await self.ask("get", "pod", pod, "-o", "json")
        log = await self.ask("logs", pod, "-c", "notebook")
        events = await self.ask("get", "events", "-o", "json")
        files = await self.ask("get", "configmaps", "-o", "json")
        return whole + log + events + files

    async def ask(self, *words: str) -> str:
        """kubectl in this place's namespace."""
        return await asyncio.to_thread(self.kube.kubectl, "-n", self.namespace, *words)

    async def objects(self, kind: str) -> list[dict[str, Any]]:
        """Everything of a kind in the namespace."""
        items: list[dict[str, Any]] = json.loads(await self.ask("get", kind, "-o", "json"))["items"]
        return items

    async def close(self) -> None:
        for backend in self.backends:
            await backend.close()


@asynccontextmanager
async def kube_place(kube: Client, image: str, **traits: Any) -> AsyncIterator[KubePlace]:
    """A place in a fresh namespace; the namespace goes with all that is in it."""
    with kube.namespace(**RESTRICTED) as namespace:
        place = KubePlace(kube, namespace, image, **traits)
        try:
            yield place
        finally:
            await place.close()
