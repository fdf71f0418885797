"""One start in the cluster, step by step: names, what stands beside the pod, the pod, and the wait until it answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from traitlets.config import Config

from daas_hub.clients.kube import MERGE, Kube, KubeConflict, KubeRefused, path
from daas_hub.core.backoff import delays
from daas_hub.core.errors import BackendUnavailable, StartFailed
from daas_hub.core.logs import LINES, readable
from daas_hub.core.looks import look_every_s
from daas_hub.core.models import Handle, Json, LaunchSpec, Life
from daas_hub.core.pod_asks import asked_of
from daas_hub.core.pod_rules import PodRules, violations
from daas_hub.core.pods import (
    SERVER,
    Problem,
    Trouble,
    address,
    held,
    image_of,
    manifest_in,
    observe,
    packages_in,
    problem,
    refused,
    spoken,
)

from . import kube_pod
from .base import Checkpoint
from .child import build_pod
from .finished import finished
from .kube_answers import listens, there, url_of
from .kube_beside import files_of, read, secret_of, site_tokens_of
from .kube_claims import claims_of
from .kube_pod import Names, Rules
from .kube_pods import Pods
from .local_homes import AnyLogger
from .steps import Steps

ASK_AGAIN_S, ASK_AGAIN_AT_LAST_S = 1.0, 5.0
CHECK_EVERY_S = 15.0
"""How often a wait asks the API server although the watch says nothing."""
HEAD_BYTES = 64 * 1024
"""Of a log, in which the launcher's lines about the image stand."""


@dataclass(frozen=True)
class Tools:
    """What all starts of one backend share."""

    kube: Kube
    pods: Pods
    log: AnyLogger
    config: Config
    gpu_resource: str
    rules: Rules
    allowed: PodRules
    """What the cluster's admission policy lets pass, asked here first."""
    told: Mapping[str, Problem]
    """By pod: what events said of its volumes last."""
    looking: set[str]
    """The pods whose servers are looked at just now."""
    tls: Mapping[str, str]
    """``Backend.tls``."""


class Start:
    """The start of one launch."""

    def __init__(self, spec: LaunchSpec, names: Names, tools: Tools, steps: Steps) -> None:
        self._spec, self._names, self._tools, self._steps = spec, names, tools, steps
        self._kube = tools.kube

    async def run(self, checkpoint: Checkpoint) -> str:
        """The URL of the server once it answers."""
        spec, names = self._spec, self._names
        claims = claims_of(spec.mounts)
        warnings = kube_pod.warnings_of(spec.account, self._tools.rules, claims)
        for warning in warnings:
            self._tools.log.warning("Launch %s: %s", spec.launch_id, warning)
        handle = kube_pod.handle_of(spec, names, pod_uid=None, warnings=warnings, service=self._tools.rules.service)
        # Names are known before anything exists; whatever is interrupted after this is found by them.
        await checkpoint(handle)
        built = await build_pod(spec, config=self._tools.config, gpu_resource=self._tools.gpu_resource)
        pod = kube_pod.own(built, spec, names, claims, self._tools.rules)
        judge(pod, self._tools.allowed)
        certificates = await asyncio.to_thread(read, spec.certificates or {})
        done = await asyncio.gather(
            self._make("secrets", secret_of(spec, names, certificates)),
            self._make("configmaps", files_of(spec, names)),
            *([self._make("secrets", site_tokens_of(spec, names))] if spec.site_tokens else []),
            # Where one is refused the other is waited for: it would be made after everything was removed.
            return_exceptions=True,
        )
        for one in done:
            if isinstance(one, BaseException):
                raise one
        # First: what the cluster says of the pod may be here before its answer.
        self._steps.asked = asked_of(pod)
        self._steps.add("Asking the cluster for a pod", 41)
        made = await self._make("pods", pod)
        self._tools.pods.heard(made)
        handle = {**handle, "pod_uid": made["metadata"]["uid"]}
        await checkpoint(handle)
        beside = [("secrets", names.secret), ("configmaps", names.files)]
        beside += [("secrets", names.site_tokens)] if spec.site_tokens else []
        await asyncio.gather(*(self._give(kind, name, made) for kind, name in beside))
        return await wait_ready(handle, self._tools, self._steps, tuple(spec.secrets.values()))

    async def _make(self, kind: str, body: Json) -> Json:
        """Create it; one of that name is of the same launch, because names hold its id."""
        try:
            return await finished(self._kube.call("POST", path(kind, self._names.namespace), body=body))
        except KubeConflict:
            return await self._kube.call("GET", path(kind, self._names.namespace, body["metadata"]["name"]))
        except KubeRefused as error:
            told = refused(error.code, error.why)
            raise StartFailed(
                told.message,
                permanent=told.final,
                reason=told.trouble.value,
                log_message=f"The cluster refuses {kind[:-1]} {body['metadata']['name']}: {error.why}",
            ) from error

    async def _give(self, kind: str, name: str, pod: Json) -> None:
        """Let it go with the pod, whoever deletes that."""
        meta = pod["metadata"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        body = {"metadata": {"ownerReferences": [owner]}}
        try:
            await self._kube.call("PATCH", path(kind, self._names.namespace, name), body=body, content_type=MERGE)
        except (KubeRefused, BackendUnavailable) as error:
            # Cleanup removes it by its name anyway.
            self._tools.log.warning("%s %s has no owner: %s", kind, name, error)


def judge(pod: Json, allowed: PodRules) -> None:
    """Raise StartFailed where a setting, a hook or a profile made a pod that the cluster's policy would refuse."""
    if wrong := violations(pod, allowed):
        raise StartFailed(
            "This server would break the site's rules for pods, so it was not started. Ask the administrator: its log "
            "names the rules.",
            permanent=True,
            reason=Trouble.POLICY.value,
            log_message=f"Pod {pod['metadata']['name']} is not submitted. {'; '.join(wrong)}. A setting, a hook "
            "or the profile made it so, or KubeBackend's ranges and lists are too narrow.",
        )


async def wait_ready(handle: Handle, tools: Tools, steps: Steps | None = None, secrets: Sequence[str] = ()) -> str:
    """The URL once the server answers under its prefix. Raises StartFailed where it ends or cannot start."""
    names = kube_pod.names_in(handle)
    told, news, looked_at = "", True, 0.0
    ip: str | None = None
    with tools.pods.changes(names.pod) as changed, _counted(tools.looking, names.pod):
        pod = tools.pods.told(names.pod) or await asked(handle, tools)
        while True:
            if news:
                told = await judged(pod, handle, tools, steps, told, secrets)
                ip, before = address(pod), ip
                looked_at = looked_at if ip == before else time.monotonic()
            if ip is not None and await listens(ip) and await there(ip, handle, tools.tls):
                return url_of(ip, handle)
            pause_s = look_every_s(len(tools.looking), time.monotonic() - looked_at) if ip else CHECK_EVERY_S
            try:
                await asyncio.wait_for(changed.wait(), pause_s)
            except TimeoutError:
                news = ip is None
                if news:
                    # Not a word for so long: the pod itself is asked, whatever the watch believes.
                    pod = await asked(handle, tools)
            else:
                changed.clear()
                news, pod = True, tools.pods.told(names.pod) or await asked(handle, tools)


async def judged(
    pod: Json, handle: Handle, tools: Tools, steps: Steps | None, told: str, secrets: Sequence[str]
) -> str:
    """What is in the way, told as a step unless it was ``told``. Raises StartFailed where waiting does not help."""
    seen = observe(pod, memory_bytes=handle.get("memory_bytes"))
    if seen.life is Life.ENDED:
        raise await ended_early(handle, tools, seen.reason, secrets)
    trouble = await trouble_of(pod, tools)
    if trouble is None:
        return told
    if trouble.final:
        raise failure(handle, trouble)
    if steps is not None and trouble.detail != told:
        steps.add(trouble.message, None, trouble.detail)
    return trouble.detail


@contextlib.contextmanager
def _counted(looking: set[str], pod: str) -> Iterator[None]:
    looking.add(pod)
    try:
        yield
    finally:
        looking.discard(pod)


async def asked(handle: Handle, tools: Tools) -> Json:
    """The pod, asked until the cluster answers. Raises StartFailed where it is gone."""
    tell = tools.log.warning
    for pause_s in delays(ASK_AGAIN_S, ASK_AGAIN_AT_LAST_S):
        try:
            pod = await look(tools.pods, handle)
        except (BackendUnavailable, KubeRefused) as error:
            # Unknown is not ended: the wait has its own end. Told once: an outage lasts as long as it lasts.
            tell("Launch %s waits for the cluster: %s", handle["launch_id"], error)
            tell = tools.log.debug
            await asyncio.sleep(pause_s)
            continue
        if pod is None:
            gone = "The server's pod was deleted before it answered."
            raise StartFailed(gone, permanent=True, reason="ended_early")
        return pod
    raise AssertionError("the pauses have no end")


async def trouble_of(pod: Json, tools: Tools) -> Problem | None:
    """Why a pod does not start: what it says itself, and what was told of its volumes while it has no container."""
    told = tools.told.get(pod["metadata"]["name"]) if address(pod) is None else None
    found = told if told is not None and told.final else problem(pod) or told
    if found is not None and found.one_node:
        try:
            # What it mounts is in no row either.
            pods = await tools.pods.all_whole()
            others = servers_beside(pods.get(pod["metadata"]["name"], pod), pods)
        except (BackendUnavailable, KubeRefused) as error:
            tools.log.warning("Who else uses a volume of pod %s is not known: %s", pod["metadata"]["name"], error)
            return found
        return held(found, others) if others else found
    return found


def servers_beside(pod: Json, pods: Mapping[str, Json]) -> list[str]:
    """The names of other servers that run on a node and mount a claim that this one mounts."""
    claims = set(claims_in(pod))
    return [
        str((other["metadata"].get("annotations") or {}).get(f"{kube_pod.PREFIX}/server", ""))
        for name, other in pods.items()
        if name != pod["metadata"]["name"]
        and other["spec"].get("nodeName")
        and not other["metadata"].get("deletionTimestamp")
        and not claims.isdisjoint(claims_in(other))
        and observe(other).life is not Life.ENDED
    ]


def claims_in(pod: Json) -> list[str]:
    """The claims that a pod mounts."""
    named = [volume.get("persistentVolumeClaim") for volume in pod["spec"].get("volumes") or ()]
    return [claim["claimName"] for claim in named if claim]


def failure(handle: Handle, told: Problem) -> StartFailed:
    """A start that waiting does not help."""
    return StartFailed(
        told.message,
        permanent=True,
        reason=told.trouble.value,
        log_message=f"Launch {handle['launch_id']} cannot start ({told.trouble}): {told.detail}",
    )


async def too_late(handle: Handle, tools: Tools, waited_s: int) -> StartFailed:
    """What it was waiting for when its time was over; told apart, because each has somebody else who can help."""
    pod = tools.pods.last(handle["pod"])
    told = await trouble_of(pod, tools) if pod is not None else None
    if told is None:
        told = Problem(Trouble.CONTAINER, f"The server did not answer within {waited_s} s.")
        return StartFailed(told.message, permanent=False, reason="timeout", log_message=told.message)
    message = f"The server could not be started within {waited_s} s. {told.message}"
    return StartFailed(message, permanent=False, reason=told.trouble.value, log_message=f"{message} {told.detail}")


async def ended_early(handle: Handle, tools: Tools, why: str, secrets: Sequence[str]) -> StartFailed:
    """A server that ended before it answered, with its last words."""
    lines = await last_lines(tools.kube, handle, secrets)
    return StartFailed(
        f"The server ended before it answered: {why}.",
        permanent=True,
        reason="ended_early",
        log_message=f"Launch {handle['launch_id']}: {why}. {lines}",
    )


async def last_lines(kube: Kube, handle: Handle, secrets: Sequence[str]) -> str:
    """The end of the server's log, without secrets, as a part of a sentence."""
    try:
        shown = readable(spoken(await log_of(kube, handle, tailLines=LINES)), secrets)
    except (KubeRefused, BackendUnavailable) as error:
        return f"Its log cannot be read: {error}"
    return f"Its last lines:\n{shown.strip()}" if shown.strip() else "It printed nothing."


async def log_of(kube: Kube, handle: Handle, **which: int) -> str:
    """A part of what the server printed, as it is (``tailLines``, ``limitBytes``). Raises KubeRefused (KubeMissing:
    the pod is gone), BackendUnavailable, ValueError (not one of our handles)."""
    names = kube_pod.names_in(handle)
    query: dict[str, str | int] = {"container": SERVER, **which}
    return await kube.text(path("pods", names.namespace, names.pod, sub="log"), query=query)


async def software_of(kube: Kube, pods: Pods, handle: Handle) -> Json:
    """Image and digest from the pod, and what the image says of itself."""
    made: Json = {}
    with contextlib.suppress(KubeRefused, BackendUnavailable, ValueError):
        pod = await look(pods, handle)
        if pod is not None:
            made |= image_of(pod)
            head = await log_of(kube, handle, limitBytes=HEAD_BYTES)
            told = {"manifest": manifest_in(head), "packages": packages_in(head)}
            made |= {key: value for key, value in told.items() if value is not None}
    return made


async def look(pods: Pods, handle: Handle) -> Json | None:
    """The pod itself, asked now; None where it is certain that it is gone. Raises BackendUnavailable."""
    names = kube_pod.names_in(handle)
    pod = await pods.ask(names.namespace, names.pod)
    recorded = handle.get("pod_uid")
    # Ours only if it is the recorded one; without a record the name, which holds the launch's id, must do (§4.3).
    return pod if pod is not None and recorded in (None, pod["metadata"]["uid"]) else None
