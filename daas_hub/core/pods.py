"""What a pod's JSON says, in words that a person understands. Pure: the API's answers in, values out.

The meaning of phases, container states and conditions is that of Kubernetes' "Pod Lifecycle" page.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .models import Json, Life, Observation
from .node_room import NodeAmounts
from .pod_asks import asked_of, short_of
from .units import format_bytes

SERVER = "notebook"
"""The container in which the server runs, as KubeSpawner names it."""


class Trouble(StrEnum):
    """What kind of thing keeps a pod from starting: each has somebody else who can help."""

    IMAGE = "image"
    SCHEDULING = "scheduling"
    VOLUME = "volume"
    IDENTITY = "identity"
    QUOTA = "quota"
    POLICY = "policy"
    CONTAINER = "container"


@dataclass(frozen=True)
class Problem:
    """Why a pod does not start."""

    trouble: Trouble
    message: str
    """For the person."""
    detail: str = ""
    """What Kubernetes says."""
    final: bool = False
    """Waiting does not help."""
    one_node: bool = False
    """A volume that only one node at a time can have is on another one."""


_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
    | {"RegistryUnavailable", "SignatureValidationFailed"}
)
_IMAGE_FINAL = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed"})
_BROKEN = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"})
_ONE_NODE = ("volume node affinity conflict", "persistentvolume's node affinity", "readwriteoncepod")
"""In the scheduler's sentences, of older and of newer versions."""
_OVER_LIMIT = re.compile(r"local storage usage exceeds|ephemeral local storage limit|exceeds the limit")
"""Kubelet's sentences about a pod that is evicted because of its own ``ephemeral-storage`` or ``sizeLimit``."""


def _status(pod: Json) -> Mapping[str, Any]:
    status: Mapping[str, Any] = pod.get("status") or {}
    return status


def _containers(pod: Json) -> Iterable[Mapping[str, Any]]:
    status = _status(pod)
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _server(pod: Json) -> Mapping[str, Any] | None:
    """The state of the server's own container; None while there is none."""
    for container in _status(pod).get("containerStatuses") or []:
        if container.get("name") == SERVER:
            return container.get("state") or {}
    return None


def observe(pod: Json, *, memory_bytes: int | None = None) -> Observation:
    """Whether the server of this pod runs. A pod that waits or is being deleted still holds what it was given.

    ``memory_bytes`` is the limit that it was given, for the sentence about its end.
    """
    status = _status(pod)
    phase = status.get("phase")
    ended = (_server(pod) or {}).get("terminated")
    if ended is not None:
        return Observation(Life.ENDED, ended.get("exitCode"), _why_ended(pod, ended, memory_bytes))
    if phase in ("Failed", "Succeeded"):
        return Observation(Life.ENDED, None, _why_failed(pod))
    if phase == "Unknown" or status.get("reason") == "NodeLost":
        return Observation(Life.UNKNOWN, reason="the node that it runs on does not answer")
    return Observation(Life.RUNNING)


def _why_ended(pod: Json, ended: Mapping[str, Any], memory_bytes: int | None) -> str:
    if _status(pod).get("reason"):
        return _why_failed(pod)
    code, signal = ended.get("exitCode"), ended.get("signal")
    if ended.get("reason") == "OOMKilled":
        return f"it used more memory than its limit{f' of {format_bytes(memory_bytes)}' if memory_bytes else ''}"
    if pod.get("metadata", {}).get("deletionTimestamp"):
        return f"{why_deleted(pod)} (exit status {code})"
    if signal:
        return f"signal {signal}"
    return f"exit status {code}{_SHELL_SAYS.get(code, '')}"


_SHELL_SAYS: Mapping[Any, str] = {
    126: ": the program to start is in the image, but cannot be run",
    127: ": the program to start, or one that it needs, is not in the image",
}
"""What the launcher's shell means by it, and by convention everybody else."""


_DISRUPTED: Mapping[str, str] = {
    "EvictionByEvictionAPI": "it was evicted: somebody empties its node",
    "DeletionByTaintManager": "its node was closed to it (a taint), and it was evicted",
    "PreemptionByScheduler": "something more important needed its place",
    "DeletionByPodGC": "its node is gone from the cluster",
    "TerminationByKubelet": "its node ran short or was shut down",
}


def why_deleted(pod: Json) -> str:
    """Who took a pod away, as far as it says so itself (its condition DisruptionTarget)."""
    for condition in _status(pod).get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            reason = str(condition.get("reason") or "")
            return _DISRUPTED.get(reason, f"the cluster took it away ({reason})")
    return "the pod was deleted"


def of_node(name: str, node: NodeAmounts | None) -> Observation | None:
    """What a node's state means for a pod that is said to run there; None: nothing. ``node`` None: there is none.

    The pod may run on: a node that is not heard of is no evidence of an end.
    """
    if node is None:
        return Observation(Life.UNKNOWN, reason=f"its node {name} is gone from the cluster")
    if node.ready == "Unknown":
        return Observation(Life.UNKNOWN, reason=f"its node {name} does not answer")
    return None


def _why_failed(pod: Json) -> str:
    status = _status(pod)
    reason, message = status.get("reason"), status.get("message") or ""
    match reason:
        case "Evicted" if _OVER_LIMIT.search(message):
            return f"it wrote more to its own disk, which ends with it, than it may: {message}"
        case "Evicted":
            return f"its node ran short and evicted it: {message}"
        case "Preempting" | "Preempted":
            return "something more important needed its place"
        case "NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated":
            return "its node was shut down"
        case "DeadlineExceeded":
            return "its time was over (activeDeadlineSeconds)"
        case None | "":
            told = why_deleted(pod)
            return "the pod has ended" if told == "the pod was deleted" else told
    return f"{reason}: {message}".rstrip(": ")


def address(pod: Json) -> str | None:
    """The IP of a pod whose server's container runs; None while it does not."""
    if "running" in (_server(pod) or {}) and not pod["metadata"].get("deletionTimestamp"):
        ip: str | None = _status(pod).get("podIP")
        return ip
    return None


def problem(pod: Json) -> Problem | None:
    """Why it does not start, as far as the pod itself says; None where it is on its way or runs."""
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, said = waiting.get("reason"), waiting.get("message") or ""
        image = container.get("image", "")
        if reason in _IMAGE:
            text = f"The image {image} cannot be pulled."
            return Problem(Trouble.IMAGE, text, f"{reason}: {said}", final=reason in _IMAGE_FINAL)
        if reason in _BROKEN:
            return _broken(str(reason), said)
    for condition in _status(pod).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = condition.get("message") or condition.get("reason") or ""
            return no_node(said, asked_of(pod))
    return None


def _broken(reason: str, said: str) -> Problem:
    low = said.lower()
    if "runasnonroot" in low or "non-root" in low or "run as root" in low:
        return Problem(Trouble.IDENTITY, "The server may not run as root, and would have.", f"{reason}: {said}", True)
    if "not found" in low and ("secret" in low or "configmap" in low):
        # Made a moment after the pod: kubelet tries again by itself.
        return Problem(Trouble.CONTAINER, "Waiting for what the server needs.", f"{reason}: {said}")
    if "volume" in low or "mount" in low:
        return Problem(Trouble.VOLUME, "A folder cannot be mounted into the server.", f"{reason}: {said}", True)
    return Problem(Trouble.CONTAINER, "The server's container cannot be started.", f"{reason}: {said}", True)


def no_node(said: str, asked: Mapping[str, float]) -> Problem:
    """What the scheduler's sentence means; ``asked``: what the pod asks of a node (``asked_of``)."""
    low = said.lower()
    if any(words in low for words in _ONE_NODE):
        text = (
            "Waiting for the node that has the volume: it can be used there only, and this server does not fit there."
        )
        return Problem(Trouble.VOLUME, text, said, one_node=True)
    if "persistentvolumeclaim" in low or "volume" in low:
        return Problem(Trouble.VOLUME, "Waiting for a volume that the server needs.", said)
    if short := short_of(said, asked):
        return Problem(Trouble.SCHEDULING, f"Waiting for a node: none has {short} free.", said)
    return Problem(Trouble.SCHEDULING, "Waiting for a node: none fits.", said)


MOUNTED = frozenset({"Pulling", "Pulled", "Created", "Started"})
"""Events that come after all volumes are mounted."""
_NO_FOLDER = re.compile(r"hostPath type check failed: (\S.*) is not a directory")
_NFS_SAYS = re.compile(r"(?:mounting |Mounting arguments: .*?)([A-Za-z0-9.:\[\]-]+:/\S*)", re.DOTALL)


def volume_problem(event: Json) -> Problem | None:
    """What an event says about a volume that cannot be mounted; None where it says nothing of the kind.

    A folder of the site that is missing is told at once: kubelet would try for ever, and nobody makes it.
    """
    reason, said = str(event.get("reason") or ""), str(event.get("message") or "")
    if reason == "FailedAttachVolume" and "Multi-Attach error" in said:
        text = "Waiting for a volume that another node has: only one node at a time can use it."
        return Problem(Trouble.VOLUME, text, said, one_node=True)
    if reason != "FailedMount":
        return None
    if found := _NO_FOLDER.search(said):
        return _no_folder(found[1], said)
    place = _NFS_SAYS.search(said)
    if place and "No such file or directory" in said:
        return _no_folder(place[1], said)
    if place and "access denied by server" in said:
        text = f"The file server does not give {place[1]} to the node. Ask the administrator."
        return Problem(Trouble.VOLUME, text, said, final=True)
    return Problem(Trouble.VOLUME, "A folder cannot be mounted yet.", said)


def _no_folder(folder: str, said: str) -> Problem:
    text = (
        f"The folder {folder} does not exist where the site keeps it. Nothing was made in its place: ask whoever "
        "administers the storage to make it."
    )
    return Problem(Trouble.VOLUME, text, said, final=True)


def held(found: Problem, servers: Sequence[str]) -> Problem:
    """The same where other servers of hers, which run, keep the volume on their node: only their end helps."""
    named = [f"your server {name}" if name else "your default server" for name in sorted(servers)]
    text = (
        f"A volume of this server can be used on one node at a time, and {' and '.join(named)} "
        f"{'uses' if len(named) == 1 else 'use'} it on a node where this one cannot run. Stop that first, or choose "
        "what can run beside it; volumes that many nodes share (ReadWriteMany) are the administrator's to set up."
    )
    return Problem(Trouble.VOLUME, text, found.detail, final=True, one_node=True)


def refused(code: int, why: str) -> Problem:
    """What the API server's refusal of a new pod means."""
    if code == 403 and "exceeded quota" in why:
        return Problem(Trouble.QUOTA, "The cluster's own quota for this namespace is used up.", why, final=False)
    if code == 403 and ("PodSecurity" in why or "ValidatingAdmissionPolicy" in why):
        return Problem(Trouble.POLICY, "The cluster's rules do not allow such a server.", why, final=True)
    if code == 403 and "cannot create resource" in why:
        # Rights (RBAC) may be given back; another start may find them.
        text = "The hub lacks a right in the cluster. Ask the administrator: the log says which."
        return Problem(Trouble.POLICY, text, why, final=False)
    if code == 403:
        return Problem(Trouble.POLICY, "The hub may not create servers in this cluster.", why, final=True)
    return Problem(Trouble.CONTAINER, "The cluster does not accept the server as it is configured.", why, final=True)


# ---------------------------------------------------------------- what it is made of


MANIFEST_MARK = "daas-manifest:"
"""Begins the line by which the launcher tells what the image says of itself."""
_MANIFEST = re.compile(
    rf'^{MANIFEST_MARK} \{{\s*"name": "([^"\\\\]{{1,200}})",\s*"version": "([^"\\\\]{{1,100}})"'
    r".*?(?: ([0-9a-f]{64}))?$",
    re.MULTILINE,
)
PACKAGES_MARK = "daas-packages:"
"""Begins the line with the whole description, packed."""
MAX_PACKED = 48_000
"""Longer than that it is not printed: two or three thousand packages."""
MAX_MANIFEST_BYTES = 2**20
MAX_PACKAGES = 2000
_PACKED = re.compile(rf"^{PACKAGES_MARK} ([A-Za-z0-9+/=]{{1,{MAX_PACKED}}})$", re.MULTILINE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def image_of(pod: Json) -> Json:
    """The image that was asked for, and its digest as the node reports it; what is not known is left out."""
    made: Json = {}
    for container in (pod.get("spec") or {}).get("containers") or []:
        if container.get("name") == SERVER and container.get("image"):
            made["image"] = container["image"]
    for container in _status(pod).get("containerStatuses") or []:
        found = _DIGEST.search(container.get("imageID") or "") if container.get("name") == SERVER else None
        if found is not None:
            made["image_digest"] = found[0]
    return made


def manifest_in(log: str) -> Json | None:
    """Name, version and sha256 of the image's own description, from the beginning of a server's log."""
    found = _MANIFEST.search(log)
    if found is None:
        return None
    return {"name": found[1], "version": found[2]} | ({"sha256": found[3]} if found[3] else {})


def packages_in(log: str) -> dict[str, str] | None:
    """What the image's description says is installed, name to version, from the beginning of a server's log.

    Python's packages by their names, others as ``cran:IRkernel``; those of the system are left out. None where there
    is nothing, or nothing that this version reads: whoever makes an image, or its server, may print anything.
    """
    found = _PACKED.search(log)
    if found is None:
        return None
    try:
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
        text = unpack.decompress(base64.b64decode(found[1], validate=True), MAX_MANIFEST_BYTES)
        listed = json.loads(text)["packages"] if unpack.eof else ()
        every = [(str(one["kind"]), str(one["name"]), str(one["version"])) for one in listed]
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError):
        return None
    named = {name if kind == "pypi" else f"{kind}:{name}": version for kind, name, version in every if kind != "deb"}
    return dict(sorted(named.items())[:MAX_PACKAGES]) or None


def spoken(log: str) -> str:
    """A log without the launcher's list of packages, which is for the hub."""
    return "".join(line for line in log.splitlines(keepends=True) if not line.startswith(PACKAGES_MARK))


# ---------------------------------------------------------------- steps


_STEPS: Mapping[str, tuple[str, int | None]] = {
    "Scheduled": ("Found a node", 45),
    "Pulling": ("Pulling the image", 50),
    "Pulled": ("The image is there", 70),
    "Created": ("The container is made", 75),
    "Started": ("The container runs", 80),
    "SuccessfulAttachVolume": ("A volume is attached", None),
    "TriggeredScaleUp": ("The cluster adds a node; this takes some minutes", 42),
    "FailedMount": ("A folder cannot be mounted yet", None),
    "FailedAttachVolume": ("A volume cannot be attached yet", None),
    "NotTriggerScaleUp": ("No further node can be added", None),
    "Preempted": ("Something more important took its place", None),
    "BackOff": ("Trying again after a failure", None),
    "Failed": ("Something failed", None),
}


_OF_IMAGE = re.compile(r"pull(?:ing)? image|ErrImage|ImagePullBackOff|InvalidImageName")


def step(event: Json, asked: Mapping[str, float]) -> tuple[str, str, int | None]:
    """An event of Kubernetes as (plain words, its raw text, progress); ``asked``: what its pod asks of a node."""
    reason, said = str(event.get("reason") or ""), str(event.get("message") or "")
    if reason == "FailedScheduling":
        found = no_node(said, asked)
        return found.message, said, 42
    if reason in ("Failed", "BackOff") and _OF_IMAGE.search(said):
        words = "The image cannot be pulled" if reason == "Failed" else "Waiting before the image is pulled once more"
        return words, f"{reason}: {said}", None
    words, progress = _STEPS.get(reason, (reason or "Something happened", None))
    return words, f"{reason}: {said}", progress
