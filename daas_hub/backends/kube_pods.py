"""The pods of this hub as the watch keeps them: a row of each, and the pod itself where its row does not say enough.

What consumers get is always a pod's JSON as ``core/pods`` reads it, whether it comes from a row, from an answer that
was remembered, or from a server that gives no tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daas_hub.clients.kube import Kube, KubeMissing, KubeRefused, path
from daas_hub.clients.kube_metadata import ACCEPT, UnfitMetadata, names_and_uids
from daas_hub.clients.kube_watch import SILENT_S, KubeWatch, Rows
from daas_hub.core.models import Json
from daas_hub.core.pod_rows import COLUMNS, PodRow, row_of

FEW = 20
"""So many pods are asked one by one who they are; more are listed."""
PAGE = 50
"""Of whole pods, some 13 KB each."""
IDENTITIES = 200
"""Of a page of metadata that is read for names and uids alone."""
_CONDITIONS = frozenset({"PodScheduled", "DisruptionTarget"})


@dataclass(slots=True)
class _Answer:
    """What the API server said of one pod when it was asked."""

    pod: Json
    version: str
    row: PodRow | None
    """The row that it was asked for: it holds until the next event, and with the event of its own version, too."""


class Pods(KubeWatch[PodRow]):
    """The watch of the hub's pods."""

    def __init__(self, kube: Kube, namespace: str, labels: str, *, log: Any, silent_s: float = SILENT_S) -> None:
        self._answers: dict[str, _Answer] = {}
        self._learning: asyncio.Task[None] | None = None
        self._refused_at = 0
        """After how many lists the list of metadata was refused: it is not tried again before the next one."""
        self._namespace, self._labels = namespace, labels
        super().__init__(
            kube,
            path("pods", namespace),
            labels=labels,
            log=log,
            slim=_whole,
            rows=Rows(COLUMNS, self._row, PodRow.same),
            silent_s=silent_s,
        )

    def _row(self, cells: Sequence[str], version: str, before: PodRow | None, made: bool) -> PodRow:
        row, name = row_of(cells), cells[0]
        row.version, row.just_made = version, made
        row.uid = before.uid if before is not None else None
        answer = self._answers.get(name)
        if answer is not None:
            if version and answer.version == version:
                row.uid = answer.pod["metadata"]["uid"]
            if row.status == "Running" and row.told(name) is not None:
                del self._answers[name]
        return row

    def _take(self, found: dict[str, PodRow]) -> None:
        self._answers = {name: answer for name, answer in self._answers.items() if name in found}
        super()._take(found)

    def _tell(self, name: str) -> None:
        if name not in self.objects:
            self._answers.pop(name, None)
        super()._tell(name)

    def told(self, name: str) -> Json | None:
        """The pod as far as it is known now; None where it is not, or where the pod itself must be asked."""
        row = self.objects.get(name)
        if row is None:
            return None
        if (pod := row.told(name)) is not None:
            return pod
        answer = self._answers.get(name)
        if answer is not None and (answer.row is row or (row.version and answer.version == row.version)):
            return answer.pod
        return None

    def last(self, name: str) -> Json | None:
        """What was said of it last, though it may have changed since; for a sentence about what was in the way."""
        answer = self._answers.get(name)
        return self.told(name) or (answer.pod if answer is not None else None)

    async def known(self, name: str, uid: str | None) -> Json | None:
        """The same, where it is surely the one of that uid. Raises KubeRefused, BackendUnavailable."""
        row = self.objects.get(name)
        if row is not None and row.uid is None and uid is not None and row.whole is None:
            await self._learn()
        pod = self.told(name)
        return pod if pod is not None and (uid is None or pod["metadata"]["uid"] == uid) else None

    async def ask(self, namespace: str, name: str) -> Json | None:
        """The pod itself, asked now and remembered; None where it is gone. Raises KubeRefused, BackendUnavailable."""
        row = self.objects.get(name)
        try:
            pod = await self._kube.call("GET", path("pods", namespace, name))
        except KubeMissing:
            return None
        if namespace == self._namespace:
            self.heard(pod, row)
        return pod

    def heard(self, pod: Json, asked_of: PodRow | None = None) -> None:
        """Remember what the API server answered; ``asked_of``: the row that there was when it was asked."""
        name, version = pod["metadata"]["name"], pod["metadata"]["resourceVersion"]
        now = self.objects.get(name)
        if now is not None and now.whole is not None:
            return
        if now is not None and (now is asked_of or now.version == version):
            now.uid = pod["metadata"]["uid"]
        self._answers[name] = _Answer(slim_pod(pod), version, asked_of)

    async def _learn(self) -> None:
        """Who all of them are, once after a list: a row does not say it. Where few are unknown, nothing: ask them."""
        if self._learning is None or self._learning.done():
            if self._refused_at == self.lists or sum(row.uid is None for row in self.objects.values()) <= FEW:
                return
            self._learning = asyncio.create_task(self._learn_all())
            # Whoever waits for it may be gone when it fails.
            self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._learning)

    async def _learn_all(self) -> None:
        rows, where = dict(self.objects), path("pods", self._namespace)
        try:
            query: dict[str, str | int] = {"labelSelector": self._labels, "limit": IDENTITIES}
            while True:
                found, follow = names_and_uids(await self._kube.raw(where, query, accept=ACCEPT))
                for name, uid in found:
                    row = rows.get(name)
                    # One that has changed meanwhile may be another pod than this answer's.
                    if row is not None and self.objects.get(name) is row:
                        row.uid = uid
                if not follow:
                    break
                query["continue"] = follow
        except (KubeRefused, UnfitMetadata) as error:
            self._refused_at = self.lists
            self._log.warning("Pods cannot be listed by their metadata, each one is asked instead: %s", error)

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
        await super().close()

    async def all_whole(self) -> Mapping[str, Json]:
        """All of them with what a row does not tell, listed now. Raises KubeRefused, BackendUnavailable."""
        whole = self._kube.pages(path("pods", self._namespace), self._labels, limit=PAGE)
        return {pod["metadata"]["name"]: slim_pod(pod) async for pod in whole}


def _whole(pod: Json) -> PodRow:
    """The row of a pod where the server gives no tables."""
    meta = pod["metadata"]
    return PodRow("", "", "", "", version=meta.get("resourceVersion", ""), uid=meta["uid"], whole=slim_pod(pod))


_ASKING = ("containers", "initContainers")


def _asks(containers: Sequence[Json] | None) -> list[Json]:
    """What these ask of a node; told while there is none."""
    return [{"resources": container.get("resources") or {}} for container in containers or ()]


def slim_pod(pod: Json) -> Json:
    """What is kept of a pod."""
    meta, body, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    keep = ("phase", "reason", "message", "podIP", "containerStatuses", "initContainerStatuses")
    slim = {key: status[key] for key in keep if key in status}
    slim["conditions"] = [c for c in status.get("conditions") or () if c.get("type") in _CONDITIONS]
    return {
        "metadata": {
            key: meta[key]
            for key in ("name", "namespace", "uid", "labels", "annotations", "creationTimestamp", "deletionTimestamp")
            if key in meta
        },
        "spec": {
            "nodeName": body.get("nodeName"),
            **({} if body.get("nodeName") else {kind: _asks(body.get(kind)) for kind in _ASKING}),
            "volumes": [volume for volume in body.get("volumes") or () if "persistentVolumeClaim" in volume],
        },
        "status": slim,
    }
