"""The Kubernetes backend after a loss: whose servers these are, what they say of themselves, disks without claims."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from daas_hub.clients.kube import Kube, KubeRefused
from daas_hub.core.disks import DiskReport
from daas_hub.core.errors import BackendUnavailable, ConfigError
from daas_hub.core.models import Handle
from daas_hub.core.recall import OwnedVolume, Seen

from . import kube_disks, kube_recall
from .base import Backend
from .kube_settings import KubeSettings


class KubeLoss(KubeSettings, Backend):
    """The part of the backend that is needed once a database or a namespace is lost."""

    _kube: Kube

    def claim(self, ledger_id: str) -> None:
        self._aside(lambda kube: kube_recall.claim(kube, self.namespace, self.hub_id, ledger_id, take=False))

    def _aside(self, work: Callable[[Kube], Coroutine[Any, Any, None]]) -> None:
        """Do it now, in a loop of its own: whoever calls may stand in one that runs."""

        async def alone() -> None:
            kube = Kube(kubeconfig=self.kubeconfig, context=self.context)
            try:
                await kube.open()
            except ConfigError as error:
                # A hub without its cluster still lets people sign in.
                raise BackendUnavailable(error.message, reason="cluster_unavailable") from error
            try:
                await work(kube)
            except KubeRefused as error:
                raise no_right("keep a ConfigMap of its ledger", error) from error
            finally:
                await kube.close()

        with ThreadPoolExecutor(1) as threads:
            threads.submit(asyncio.run, alone()).result()

    async def recall(self) -> Seen:
        try:
            return await kube_recall.recall(self._kube, self.namespace, self.hub_id)
        except KubeRefused as error:
            raise no_right("list pods, claims and disks", error) from error

    async def token_of(self, handle: Handle) -> str | None:
        try:
            return await kube_recall.token_of(self._kube, handle)
        except KubeRefused as error:
            raise no_right("read its Secrets", error) from error

    async def take_over(self, ledger_id: str) -> None:
        try:
            await kube_recall.claim(self._kube, self.namespace, self.hub_id, ledger_id, take=True)
        except KubeRefused as error:
            raise no_right("keep a ConfigMap of its ledger", error) from error

    async def rebind(self, recorded: Sequence[OwnedVolume], *, dry_run: bool) -> DiskReport:
        try:
            return await kube_disks.rebind(self._kube, self.namespace, self.hub_id, recorded, dry_run=dry_run)
        except KubeRefused as error:
            raise no_right("list claims and disks", error) from error


def no_right(what: str, error: KubeRefused) -> BackendUnavailable:
    """The cluster refuses this to the account that asked."""
    return BackendUnavailable(
        f"The cluster does not let the hub {what}. Ask the administrator.",
        log_message=f"The hub's service account cannot {what}: {error}",
        reason="cluster_rights",
    )
