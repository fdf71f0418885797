"""Servers in a Kubernetes cluster, each a pod of its own account.

The flow of a start: the home's claim is looked at or made (``prepare``); the pod's name is saved; Secret and ConfigMap
are made, then the pod, whose uid is saved; the start is over when the server answers. The pieces: ``child`` (what
KubeSpawner would submit), ``kube_pod`` (what is ours of it), ``kube_claims`` (homes), ``kube_start`` (that flow),
``core/pods`` (what a pod's JSON means), ``clients/kube`` and ``kube_watch`` (the API).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from daas_hub.clients.kube import Kube, KubeMissing, KubeRefused, path
from daas_hub.clients.kube_watch import KubeWatch
from daas_hub.clients.passwd_files import unfit
from daas_hub.core.capacity import Capacity
from daas_hub.core.errors import AccountRefused, BackendUnavailable, DaasError, StartFailed
from daas_hub.core.logs import LINES, readable
from daas_hub.core.models import Account, Event, Found, Handle, Json, LaunchSpec, Life, Observation
from daas_hub.core.node_room import node_amounts
from daas_hub.core.pod_asks import asked_of
from daas_hub.core.pod_rules import refused_ids
from daas_hub.core.pods import MOUNTED, Problem, address, observe, of_node, spoken, step, volume_problem, why_deleted
from daas_hub.core.volumes import Planned, plan

from . import kube_left, kube_pod
from .base import Checkpoint, Doubt
from .child import check_settings
from .kube_answers import answers
from .kube_capacity import ClusterLook, site_of
from .kube_claims import Claims, claim_name
from .kube_loss import KubeLoss, no_right
from .kube_pod import HUB, LAUNCH, Rules
from .kube_pods import Pods
from .kube_start import Start, Tools, log_of, look, software_of, too_late, wait_ready
from .kube_tokens import KubeTokens
from .steps import Steps

WATCH_FRESH_S = 100.0
"""A watch that said nothing for longer is not believed (bookmarks come every minute); the API is asked instead."""
LOOK_WITHIN_S = 2.0
"""How long an adoption waits for the API server before the server itself is asked."""
WAIT_LOOK_S = 15.0
"""How often a wait for an end looks for itself, beside the watch."""
SYNC_WITHIN_S = 5.0
NO_LOG = "unable to retrieve container logs for "
UNKNOWN_HANDLE = "the handle is not one of this backend's"


class KubeBackend(KubeTokens, KubeLoss):
    """Starts servers as pods that run as the account's uid and gids."""

    name = "kubernetes"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_settings(self.config)
        self._kube = Kube(kubeconfig=self.kubeconfig, context=self.context)
        self._rules = self.volume_rules()
        self._claims = Claims(self._kube, self, self._rules, self.log)
        ours = f"{HUB}={self.hub_id}"
        self._pods = Pods(self._kube, self.namespace, f"{ours},{LAUNCH}", log=self.log)
        self._told = KubeWatch(
            self._kube,
            path("events", self.namespace),
            fields="involvedObject.kind=Pod",
            log=self.log,
            slim=self._take_event,
        )
        self._nodes = KubeWatch(self._kube, path("nodes"), log=self.log, slim=node_amounts)
        self._cluster = ClusterLook(self._kube, self._nodes, self.namespace, self.log)
        self._lost: dict[str, str] = {}
        """Pod → why it is not to be counted on any more; told when it is gone."""
        self._steps: dict[str, tuple[str, Steps]] = {}
        self._volume_troubles: dict[str, Problem] = {}
        self._looking: set[str] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._strict: bool | None = None
        self._asks_nodes = asyncio.Lock()
        self._listed_by: float | None = None
        """Until when looks wait for the first list of pods; set by the first of them."""

    # ------------------------------------------------------------ volumes

    def plan(self, account: Account, groups: Collection[str], wanted: Sequence[str]) -> tuple[Planned, ...]:
        return plan(account, groups, wanted, self._rules)

    def volume_names(self) -> tuple[str, ...] | None:
        return tuple(self._rules)

    async def prepare(self, spec: LaunchSpec) -> Mapping[str, Json]:
        account = spec.account
        if problem := unfit(account):
            raise AccountRefused(f"The account cannot be used: {problem}.", reason="unfit_account")
        gids = [account.gid, *kube_pod.group_ids(account)]
        if wrong := refused_ids(account.uid, gids, self.pod_rules(self.hub_id)):
            raise AccountRefused(
                f"The account {account.name} may not run servers in this cluster: {'; '.join(wrong)}. Ask the "
                "administrator, who sets these ranges, or leave the group.",
                reason="forbidden_id",
            )
        try:
            return await self._claims.make(spec)
        except KubeRefused as error:
            raise no_right("look at volumes", error) from error

    # ------------------------------------------------------------ start

    async def certificate_names(self, spec: LaunchSpec) -> Sequence[str]:
        if not self.server_service:
            raise StartFailed(
                "This hub encrypts what it says to servers (internal_ssl), and servers in its cluster have no names "
                "for that. Ask the administrator to set KubeBackend.server_service.",
                permanent=True,
                reason="certificate",
            )
        return (f"DNS:{kube_pod.host_of(kube_pod.names_of(spec, self.namespace), self.server_service)}",)

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        if not spec.cmd:
            raise StartFailed("DaasSpawner.cmd is empty: name the program to start.", permanent=True, reason="cmd")
        lock = self._locks.setdefault(spec.launch_id, asyncio.Lock())
        async with lock:
            names = kube_pod.names_of(spec, self.namespace)
            self._told.start()
            if not await self._pods.synced(SYNC_WITHIN_S):
                raise BackendUnavailable("The cluster cannot be asked just now. Try again in a moment.")
            there = await self._there(names.pod)
            steps = Steps()
            self._steps[spec.launch_id] = (names.pod, steps)
            saved: list[Handle] = []

            async def save(handle: Handle) -> None:
                saved.append(handle)
                await checkpoint(handle)

            tools = await self._tools()
            try:
                async with asyncio.timeout(self.wait_policy_s):
                    if there is not None and (handle := kube_pod.handle_from(there)) is not None:
                        steps.asked = asked_of(there)
                        await save(handle)
                        url = await wait_ready(handle, tools, steps)
                    else:
                        url = await Start(spec, names, tools, steps).run(save)
                # By it a hub that is restarted finds the server while the API server is away.
                await save({**saved[-1], "url": url})
                return url
            except TimeoutError as error:
                handle = saved[-1] if saved else kube_pod.handle_of(spec, names, pod_uid=None, warnings=())
                raise await too_late(handle, tools, self.wait_policy_s) from error
            finally:
                steps.finish()

    async def _there(self, name: str) -> Json | None:
        """The pod of an earlier try, with its notes."""
        if name not in self._pods.objects:
            return None
        try:
            return await self._pods.ask(self.namespace, name)
        except KubeRefused as error:
            raise no_right("read its pods", error) from error

    async def _tools(self) -> Tools:
        rules = Rules(
            strict_groups=await self._strict_groups(), read_only_root=self.read_only_root, service=self.server_service
        )
        asked = self._kube, self._pods, self.log, self.config, self.gpu_resource
        return Tools(*asked, rules, self.pod_rules(self.hub_id), self._volume_troubles, self._looking, self.tls)

    async def _strict_groups(self) -> bool:
        """Whether every node keeps an image's /etc/group from adding groups; asked once."""
        async with self._asks_nodes:
            if self._strict is None:
                self._strict = await self._nodes_are_strict()
            return self._strict

    async def _nodes_are_strict(self) -> bool:
        try:
            nodes = (await self._kube.call("GET", path("nodes"), query={"limit": 500})).get("items") or []
        except KubeRefused as error:
            self.log.warning("Nodes cannot be listed (%s): supplementalGroupsPolicy Strict is asked for unseen", error)
            nodes = []
        known = [(node["status"].get("features") or {}).get("supplementalGroupsPolicy") for node in nodes]
        return all(known)

    async def resume(self, handle: Handle) -> str:
        try:
            seen = await asyncio.wait_for(self.inspect(handle), LOOK_WITHIN_S)
        except TimeoutError:
            seen = Observation(Life.UNKNOWN, reason=f"the cluster did not answer within {LOOK_WITHIN_S:g} s")
        if seen.life is Life.UNKNOWN:
            url = handle.get("url")
            # Its prefix is in the question: at an address that somebody else has now, nobody answers there.
            if isinstance(url, str) and await answers(url, handle["service_prefix"], files=self.tls):
                return url
            raise BackendUnavailable(f"It cannot be told whether the server runs: {seen.reason}.")
        if seen.life is Life.ENDED:
            raise StartFailed(f"The server has ended: {seen.reason}.", permanent=True, reason="ended")
        try:
            async with asyncio.timeout(self.wait_policy_s):
                return await wait_ready(handle, await self._tools())
        except TimeoutError as error:
            late = await too_late(handle, await self._tools(), self.wait_policy_s)
            raise BackendUnavailable(late.message, reason="no_answer") from error

    async def events(self, handle: Handle) -> AsyncIterator[Event]:
        known = self._steps.get(handle.get("launch_id", ""))
        if known is not None:
            async for event in known[1].follow():
                yield event

    def _take_event(self, event: Json) -> Json:
        """An event of Kubernetes, onto the steps of the start that it belongs to; only its version is kept."""
        pod = (event.get("involvedObject") or {}).get("name")
        for name, steps in self._steps.values():
            if name == pod:
                message, detail, progress = step(event, steps.asked)
                steps.add(message, progress, detail)
                if (found := volume_problem(event)) is not None:
                    self._volume_troubles[pod] = found
                    self._pods.wake(pod)
                elif event.get("reason") in MOUNTED:
                    self._volume_troubles.pop(pod, None)
        return {}

    # ------------------------------------------------------------ look, end

    async def inspect(self, handle: Handle) -> Observation:
        try:
            names = kube_pod.names_in(handle)
        except ValueError as error:
            return Observation(Life.UNKNOWN, reason=str(error))
        # At a hub's start all of its servers are asked about at once: one list answers for them.
        self._listed_by = self._listed_by or time.monotonic() + LOOK_WITHIN_S
        await self._pods.synced(max(0.0, self._listed_by - time.monotonic()))
        pod = None
        try:
            if self._pods.fresh(WATCH_FRESH_S):
                pod = await self._pods.known(names.pod, handle.get("pod_uid"))
            if pod is None:
                pod = await look(self._pods, handle)
        except DaasError:
            return Observation(Life.UNKNOWN, reason=f"the cluster cannot be asked just now{self._heard()}")
        except KubeRefused as error:
            return Observation(Life.UNKNOWN, reason=f"the cluster does not let the hub look at it ({error})")
        if pod is None:
            return Observation(Life.ENDED, reason=self._lost.get(names.pod, "its pod is gone"))
        return self._with_node(pod, observe(pod, memory_bytes=handle.get("memory_bytes")))

    def _with_node(self, pod: Json, seen: Observation) -> Observation:
        """What its node adds to what a pod says: the pod's own word is the node's last one.

        Why it is lost is kept, to be told when its pod is gone.
        """
        name, node = pod["metadata"]["name"], (pod.get("spec") or {}).get("nodeName") or ""
        self._nodes.start()
        lost = None
        # A pod that was placed a moment ago may be on a node that this watch has not heard of yet.
        if seen.life is Life.RUNNING and address(pod) is not None and self._nodes.fresh(WATCH_FRESH_S):
            lost = of_node(node, self._nodes.objects.get(node))
        before = self._lost.pop(name, None)
        if lost is not None:
            self._lost[name] = lost.reason
            if before != lost.reason:
                self.log.warning("It cannot be told whether pod %s runs: %s", name, lost.reason)
        elif pod["metadata"].get("deletionTimestamp"):
            self._lost[name] = before or why_deleted(pod)
        return lost or seen

    async def log_tail(self, handle: Handle, lines: int = LINES) -> str | None:
        try:
            text = await log_of(self._kube, handle, tailLines=lines)
        except (DaasError, KubeRefused, ValueError):
            return None
        # What kubelet answers, with 200, once the container is gone and its pod is not.
        return None if text.startswith(NO_LOG) else readable(spoken(text), lines=lines)

    async def software(self, handle: Handle) -> Json:
        return await software_of(self._kube, self._pods, handle)

    async def wait_ended(self, handle: Handle, *, doubt: Doubt | None = None) -> Observation:
        known = Life.RUNNING
        with self._pods.changes(str(handle.get("pod"))) as changed:
            while True:
                changed.clear()
                seen = await self.inspect(handle)
                if seen.life is Life.ENDED:
                    return seen
                if doubt is not None and seen.life is not known:
                    known = seen.life
                    await doubt(seen)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), WAIT_LOOK_S)

    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        try:
            names = kube_pod.names_in(handle)
        except ValueError as error:
            return Observation(Life.UNKNOWN, reason=str(error))
        deadline = time.monotonic() + within_s
        body: Json = {"gracePeriodSeconds": int(max(1, min(self.stop_grace_s, within_s / 2)))}
        if handle.get("pod_uid"):
            # Never another pod that has come to have its name.
            body["preconditions"] = {"uid": handle["pod_uid"]}
        try:
            await self._kube.call("DELETE", path("pods", names.namespace, names.pod), body=body, within_s=within_s)
        except KubeMissing:
            return Observation(Life.ENDED, reason="its pod is gone")
        except (DaasError, KubeRefused) as error:
            seen = await self.inspect(handle)
            return (
                seen if seen.life is Life.ENDED else Observation(Life.UNKNOWN, reason=f"it cannot be stopped: {error}")
            )
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.wait_ended(handle), max(0.1, deadline - time.monotonic()))
        return await self.inspect(handle)

    async def find(self) -> Sequence[Found]:
        query = {"labelSelector": f"{HUB}={self.hub_id},{LAUNCH}"}
        try:
            pods = (await self._kube.call("GET", path("pods", self.namespace), query=query)).get("items") or []
        except KubeRefused as error:
            raise no_right("list its pods", error) from error
        found = []
        for pod in pods:
            handle = kube_pod.handle_from(pod)
            if handle is None or observe(pod).life is Life.ENDED:
                continue
            started = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
            found.append(Found(handle["launch_id"], handle, handle["uid"], started))
        return found

    async def cleanup(self, handle: Handle) -> None:
        names = kube_pod.names_in(handle)
        try:
            await asyncio.gather(
                self._delete("pods", names.pod),
                self._delete("secrets", names.secret),
                *([self._delete("secrets", names.site_tokens)] if handle.get("site_tokens", True) else []),
                self._delete("configmaps", names.files),
            )
        except KubeRefused as error:
            raise BackendUnavailable(f"What the launch left cannot be removed yet: {error}") from error
        self._steps.pop(str(handle.get("launch_id")), None)
        self._lost.pop(names.pod, None)
        self._volume_troubles.pop(names.pod, None)

    async def _delete(self, kind: str, name: str) -> None:
        with contextlib.suppress(KubeMissing):
            await self._kube.call("DELETE", path(kind, self.namespace, name))

    async def leftovers(self) -> Sequence[Handle]:
        try:
            return await kube_left.leftovers(self._kube, self.namespace, self.hub_id)
        except KubeRefused as error:
            raise no_right("list what launches left", error) from error

    # ------------------------------------------------------------ the rest

    async def capacity(self) -> Sequence[Capacity]:
        synced, now, age_s = await self._pods.synced(0.5), datetime.now(UTC), self._pods.age_s
        if not synced or age_s is None:
            return [Capacity(backend=self.name, as_of=now, note="the cluster has not answered yet")]
        if not self._pods.fresh(WATCH_FRESH_S):
            note = f"the cluster cannot be asked just now{self._heard()}"
            return [Capacity(backend=self.name, as_of=now - timedelta(seconds=age_s), note=note)]
        site = site_of(self.config, gpu_resource=self.gpu_resource, grows=self.cluster_grows)
        free = await self._cluster.capacity(self.name, site, fresh_s=WATCH_FRESH_S)
        unknown = Capacity(backend=self.name, as_of=now, note="its nodes cannot be read")
        return [free if free is not None else unknown]

    def _heard(self) -> str:
        """When the cluster last said anything, to be added to a reason."""
        age_s = self._pods.age_s
        return "" if age_s is None else f"; last heard of it {age_s:.0f} s ago"

    async def keep(self, volume_ids: Sequence[str]) -> Mapping[str, Json]:
        """The disks of these claims are kept from now on, whatever becomes of claim and namespace."""
        try:
            return await self._claims.retain(volume_ids)
        except (DaasError, KubeRefused) as error:
            self.log.error("The disk of %s is not retained yet: %s", [claim_name(v) for v in volume_ids], error)
            return {}

    async def close(self) -> None:
        await self._pods.close()
        await self._told.close()
        await self._cluster.close()
        await self._nodes.close()
        await self._kube.close()
