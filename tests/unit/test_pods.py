"""What a pod's JSON means. The samples are answers of a real cluster, shortened."""

from __future__ import annotations

import base64
import gzip
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from daas_hub.backends.kube_pods import slim_pod
from daas_hub.backends.kube_start import servers_beside, trouble_of
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Life
from daas_hub.core.node_room import NodeAmounts
from daas_hub.core.pod_asks import asked_of
from daas_hub.core.pods import (
    MANIFEST_MARK,
    PACKAGES_MARK,
    Trouble,
    address,
    held,
    image_of,
    manifest_in,
    no_node,
    observe,
    of_node,
    packages_in,
    problem,
    refused,
    spoken,
    step,
    volume_problem,
    why_deleted,
)


def pod(phase: str = "Running", state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    containers = [] if state is None else [{"name": "notebook", "image": "site/lab:1", "state": state}]
    return {"metadata": {"name": "p"}, "status": {"phase": phase, "containerStatuses": containers, **status}}


@pytest.mark.parametrize(
    ("given", "life", "words"),
    [
        (pod(state={"running": {}}), Life.RUNNING, ""),
        (pod("Pending"), Life.RUNNING, ""),
        (pod("Pending", {"waiting": {"reason": "ContainerCreating"}}), Life.RUNNING, ""),
        (pod("Failed", {"terminated": {"exitCode": 3}}), Life.ENDED, "exit status 3"),
        (pod("Failed", {"terminated": {"exitCode": 127}}), Life.ENDED, "exit status 127: the program to start"),
        (pod("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), Life.ENDED, "limit of 1 GiB"),
        (pod("Succeeded", {"terminated": {"exitCode": 0}}), Life.ENDED, "exit status 0"),
        # Another container of the pod goes on: the server has ended all the same.
        (pod("Running", {"terminated": {"exitCode": 1}}), Life.ENDED, "exit status 1"),
        (
            pod("Failed", reason="Evicted", message="low on memory"),
            Life.ENDED,
            "ran short and evicted it: low on memory",
        ),
        (pod("Failed", {"terminated": {"exitCode": 137}}, reason="Evicted", message="x"), Life.ENDED, "evicted"),
        (
            pod("Failed", reason="Evicted", message='Usage of EmptyDir volume "tmp" exceeds the limit "8Mi". '),
            Life.ENDED,
            "more to its own disk, which ends with it, than it may",
        ),
        (pod("Failed", reason="NodeShutdown"), Life.ENDED, "shut down"),
        (pod("Unknown"), Life.UNKNOWN, "does not answer"),
        (pod("Running", {"running": {}}, reason="NodeLost"), Life.UNKNOWN, "does not answer"),
        ({"metadata": {"name": "p"}}, Life.RUNNING, ""),
    ],
)
def test_a_pod_runs_has_ended_or_cannot_be_told(given: dict[str, Any], life: Life, words: str) -> None:
    seen = observe(given, memory_bytes=2**30)
    assert seen.life is life
    assert words in seen.reason


@pytest.mark.parametrize(
    ("reason", "message", "trouble", "final"),
    [
        ("ErrImagePull", "not found", Trouble.IMAGE, False),
        ("ImagePullBackOff", "not found", Trouble.IMAGE, True),
        ("InvalidImageName", "bad", Trouble.IMAGE, True),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", Trouble.IDENTITY, True),
        ("CreateContainerConfigError", 'secret "x" not found', Trouble.CONTAINER, False),
        ("CreateContainerError", "failed to mount volume", Trouble.VOLUME, True),
        ("RunContainerError", 'exec: "/bin/sh": no such file', Trouble.CONTAINER, True),
    ],
)
def test_what_a_container_waits_for(reason: str, message: str, trouble: Trouble, final: bool) -> None:
    found = problem(pod("Pending", {"waiting": {"reason": reason, "message": message}}))
    assert found is not None
    assert (found.trouble, found.final) == (trouble, final)
    assert message in found.detail


def test_a_pod_on_its_way_has_no_problem() -> None:
    assert problem(pod("Pending", {"waiting": {"reason": "ContainerCreating"}})) is None
    assert problem(pod(state={"running": {}})) is None


def asks(**requests: object) -> dict[str, Any]:
    """The resources of a container that asks for these; ``gpu`` is Nvidia's."""
    named = {"nvidia.com/gpu" if name == "gpu" else name.replace("_", "-"): given for name, given in requests.items()}
    return {"resources": {"requests": named}}


@pytest.mark.parametrize(
    ("said", "asked", "trouble", "words"),
    [
        ("3 Insufficient nvidia.com/gpu.", [asks(gpu="2")], Trouble.SCHEDULING, "none has 2 GPUs free"),
        ("3 Insufficient nvidia.com/gpu.", [asks(gpu="1")], Trouble.SCHEDULING, "none has 1 GPU free"),
        (
            "1 Insufficient cpu, 1 Insufficient memory.",
            # As KubeSpawner writes them, and as the cluster does.
            [asks(cpu=0.5, memory=2**30), asks(cpu="1500m", memory="3Gi")],
            Trouble.SCHEDULING,
            "none has 2 CPU cores and 4 GiB of memory free",
        ),
        (
            "1 Insufficient cpu.",
            [{"resources": {"limits": {"cpu": "1"}}}],
            Trouble.SCHEDULING,
            "none has 1 CPU core free",
        ),
        (
            "1 Insufficient ephemeral-storage.",
            [asks(ephemeral_storage="1Gi")],
            Trouble.SCHEDULING,
            "1 GiB of disk free",
        ),
        ("1 Insufficient site/fpga.", [asks(memory="1Gi")], Trouble.SCHEDULING, "none has enough FPGA free"),
        ("1 Insufficient memory.", [asks(memory="lots")], Trouble.SCHEDULING, "none has enough memory free"),
        ("1 node(s) had untolerated taint", [], Trouble.SCHEDULING, "none fits"),
        ('persistentvolumeclaim "daas-1" not found', [], Trouble.VOLUME, "volume"),
        ("1 node(s) had volume node affinity conflict", [], Trouble.VOLUME, "volume"),
    ],
)
def test_why_no_node_takes_it(said: str, asked: list[dict[str, Any]], trouble: Trouble, words: str) -> None:
    said = f"0/3 nodes are available: {said}"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    whole = {**pod("Pending", conditions=[condition]), "spec": {"containers": asked}}
    whole["metadata"].update(uid="u")
    # What is kept of a pod says the same.
    for waiting in (whole, slim_pod(whole)):
        found = problem(waiting)
        assert found is not None
        assert found.trouble is trouble
        assert words in found.message
        assert not found.final, "a node may come free"
    # The event and the pod say it in the same words, so that it is one step.
    assert step({"reason": "FailedScheduling", "message": said}, asked_of(whole))[0] == found.message


def test_what_prepares_a_pod_asks_for_itself_and_not_beside_the_server() -> None:
    spec = {"initContainers": [asks(cpu="2", memory="1Gi")], "containers": [asks(cpu="1", memory="2Gi")]}
    assert asked_of({"spec": spec}) == {"cpu": 2, "memory": 2 * 2**30}


@pytest.mark.parametrize(
    ("code", "why", "trouble"),
    [
        (403, 'pods "a" is forbidden: exceeded quota: q, requested: pods=1', Trouble.QUOTA),
        (403, 'pods "a" is forbidden: violates PodSecurity "restricted:latest"', Trouble.POLICY),
        (403, "ValidatingAdmissionPolicy 'daas-pods' denied request: uid", Trouble.POLICY),
        (403, 'User "x" cannot create resource "pods"', Trouble.POLICY),
        (422, "spec.containers[0].image: Required value", Trouble.CONTAINER),
    ],
)
def test_a_refusal_of_the_cluster_is_told_apart(code: int, why: str, trouble: Trouble) -> None:
    assert refused(code, why).trouble is trouble


def test_an_address_only_while_it_runs_and_stays() -> None:
    assert address(pod(state={"running": {}}, podIP="10.1.2.3")) == "10.1.2.3"
    assert address(pod("Pending", {"waiting": {}}, podIP="10.1.2.3")) is None
    going = pod(state={"running": {}}, podIP="10.1.2.3")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert address(going) is None


@pytest.mark.parametrize(
    ("reason", "said", "words"),
    [
        ("Failed", 'Failed to pull image "a/b:1": not found', "The image cannot be pulled"),
        ("Failed", "Error: ErrImagePull", "The image cannot be pulled"),
        ("BackOff", 'Back-off pulling image "a/b:1"', "Waiting before the image is pulled once more"),
        ("Failed", 'Error: failed to create containerd task: exec: "x"', "Something failed"),
        ("BackOff", "Back-off restarting failed container", "Trying again after a failure"),
    ],
)
def test_what_failed_is_named_where_the_event_tells(reason: str, said: str, words: str) -> None:
    assert step({"reason": reason, "message": said}, {}) == (words, f"{reason}: {said}", None)


def test_an_unknown_event_is_still_a_step() -> None:
    assert step({"reason": "Unheard", "message": "of"}, {}) == ("Unheard", "Unheard: of", None)
    assert step({}, {})[0] == "Something happened"


# ---------------------------------------------------------------- volumes


def mount_failed(message: str, reason: str = "FailedMount") -> dict[str, Any]:
    return {"reason": reason, "message": message}


NFS = """MountVolume.SetUp failed for volume "daas-1" : mount failed: exit status 32
Mounting command: mount
Mounting arguments: -t nfs nas.example.org:/export/home/ada /var/lib/kubelet/pods/1/volumes/kubernetes.io~nfs/daas-1
Output: mount.nfs: mounting nas.example.org:/export/home/ada failed, reason given by server: """


@pytest.mark.parametrize(
    ("event", "words", "final"),
    [
        (
            mount_failed(
                'MountVolume.SetUp failed for volume "daas-1" : hostPath type check failed: /srv/home/ada b is not a '
                "directory"
            ),
            "The folder /srv/home/ada b does not exist",
            True,
        ),
        (mount_failed(NFS + "No such file or directory"), "nas.example.org:/export/home/ada does not exist", True),
        (mount_failed(NFS + "access denied by server while mounting"), "does not give nas.example.org:/export", True),
        (mount_failed(NFS + "Connection refused"), "cannot be mounted yet", False),
        (mount_failed('configmap "x" not found'), "cannot be mounted yet", False),
        (
            mount_failed(
                'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) daas-zora', "FailedAttachVolume"
            ),
            "only one node at a time",
            False,
        ),
    ],
)
def test_what_an_event_says_about_a_volume(event: dict[str, Any], words: str, final: bool) -> None:
    found = volume_problem(event)
    assert found is not None
    assert (found.trouble, found.final) == (Trouble.VOLUME, final)
    assert words in found.message
    assert found.detail == event["message"]


@pytest.mark.parametrize("reason", ["Pulling", "FailedScheduling", "Failed", ""])
def test_other_events_say_nothing_about_volumes(reason: str) -> None:
    assert volume_problem(mount_failed("hostPath type check failed: /x is not a directory", reason)) is None


@pytest.mark.parametrize(
    "said",
    [
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had volume node affinity conflict.",
        "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.",
        "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod "
        "access mode.",
    ],
)
def test_a_volume_on_one_node_is_told_and_is_final_where_another_server_has_it(said: str) -> None:
    found = no_node(said, {})
    assert (found.trouble, found.one_node, found.final) == (Trouble.VOLUME, True, False)
    told = held(found, ["", "gpu"])
    assert (told.final, told.detail) == (True, said)
    assert "your default server and your server gpu use it" in told.message


def one(name: str, server: str, *claims: str, node: str | None = "n1", **more: Any) -> dict[str, Any]:
    """A pod that runs with these claims."""
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    return {
        "metadata": {"name": name, "annotations": {"daas-hub/server": server}, **more},
        "spec": {"nodeName": node, "volumes": [{"name": "x", "emptyDir": {}}, *volumes]},
        "status": {"phase": "Running"},
    }


async def test_who_else_has_a_volume_is_found_though_no_row_tells_what_a_pod_mounts() -> None:
    """A pod as its row tells it has no volumes; what is mounted where is listed once a volume is in the way."""
    event = {"reason": "FailedAttachVolume", "message": "Multi-Attach error for volume v: already used by pod(s) a"}
    told = volume_problem(event)
    assert told is not None
    by_row = {"metadata": {"name": "mine"}, "spec": {"nodeName": "n2"}, "status": {"phase": "Pending"}}
    there = {"mine": one("mine", "mine", "home", node="n2"), "a": one("a", "gpu", "home")}

    async def listed() -> dict[str, Any]:
        return there

    async def away() -> dict[str, Any]:
        raise BackendUnavailable("away")

    tools: Any = SimpleNamespace(told={"mine": told}, pods=SimpleNamespace(all_whole=listed), log=logging.getLogger())
    found = await trouble_of(by_row, tools)
    assert found is not None
    assert found.final
    assert "your server gpu uses it" in found.message
    tools.pods = SimpleNamespace(all_whole=away)
    assert await trouble_of(by_row, tools) == told, "unknown is not held"


def test_who_else_has_a_volume() -> None:
    mine = one("mine", "mine", "home", "scratch", node=None)
    others = [
        mine,
        one("a", "", "home"),
        one("b", "waits", "home", node=None),
        one("c", "elsewhere", "work"),
        one("d", "going", "home", deletionTimestamp="2026-01-01T00:00:00Z"),
        {**one("e", "over", "home"), "status": {"phase": "Succeeded"}},
        one("f", "f", "scratch"),
    ]
    assert servers_beside(mine, {pod["metadata"]["name"]: pod for pod in others}) == ["", "f"]


DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize("reported", [DIGEST, f"docker.io/site/lab@{DIGEST}", f"docker-pullable://site/lab@{DIGEST}"])
def test_an_image_is_told_with_the_digest_that_ran(reported: str) -> None:
    others = {"name": "sidecar", "image": "other", "imageID": "sha256:" + "f" * 64}
    seen: dict[str, Any] = {
        "spec": {"containers": [others, {"name": "notebook", "image": "site/lab:2"}]},
        "status": {"containerStatuses": [others, {"name": "notebook", "image": "site/lab:2", "imageID": reported}]},
    }
    assert image_of(seen) == {"image": "site/lab:2", "image_digest": DIGEST}
    seen["status"] = {"containerStatuses": [{"name": "notebook", "imageID": ""}]}
    assert image_of(seen) == {"image": "site/lab:2"}
    assert image_of({"metadata": {}}) == {}


def test_an_image_that_describes_itself_is_told_by_name_version_and_sum() -> None:
    begin = f'{MANIFEST_MARK} {{ "name": "lab", "version": "1.0", "packages": [  {{   "kind": "deb",   "na'
    assert manifest_in(f"a\n{begin} {'a' * 64}\nb") == {"name": "lab", "version": "1.0", "sha256": "a" * 64}
    # An image without sha256sum.
    assert manifest_in(f"{begin} \nb") == {"name": "lab", "version": "1.0"}
    for not_one in ("", "x " + begin, f"{MANIFEST_MARK} ", f'{MANIFEST_MARK} {{"name": "a\\"b", "version": "1"'):
        assert manifest_in(not_one) is None


def packed(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else gzip.compress(text.encode())
    return f"before\n{PACKAGES_MARK} {base64.b64encode(data).decode()}\nafter\n"


def test_what_an_image_has_is_read_and_kept_out_of_the_shown_log() -> None:
    named = [("pypi", "numpy", "2.1"), ("cran", "IRkernel", "1.3"), ("deb", "libc6", "2.36")]
    text = json.dumps({"packages": [dict(zip(("kind", "name", "version"), one, strict=True)) for one in named]})
    assert packages_in(packed(text)) == {"cran:IRkernel": "1.3", "numpy": "2.1"}
    assert spoken(packed(text)) == "before\nafter\n"


@pytest.mark.parametrize(
    "log",
    [
        "",
        f"{PACKAGES_MARK} ====",
        packed(b"no gzip"),
        packed("no json"),
        packed("[]"),
        packed('{"packages": 7}'),
        packed('{"packages": [{"name": "a"}]}'),
        packed('{"packages": []}'),
        packed("[" * 500_000),
        packed(gzip.compress(b"[1" + b" " * 5_000_000)[:-8]),
        packed('{"packages": []' + " " * 5_000_000 + "}"),
    ],
    ids=["nothing", "base64", "gzip", "json", "list", "number", "keys", "empty", "deep", "cut", "bomb"],
)
def test_what_cannot_be_a_list_of_packages_is_none(log: str) -> None:
    """Whoever makes an image or its server may print anything there, also what unpacks to very much."""
    assert packages_in(log) is None


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ([], "the pod was deleted"),
        ([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}], "evicted"),
        ([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}], "taint"),
        ([{"type": "DisruptionTarget", "status": "True", "reason": "New"}], "the cluster took it away (New)"),
        ([{"type": "DisruptionTarget", "status": "False", "reason": "New"}], "the pod was deleted"),
    ],
)
def test_who_took_a_pod_away_is_told(conditions: list[dict[str, str]], said: str) -> None:
    assert said in why_deleted({"metadata": {}, "status": {"conditions": conditions}})


def test_a_node_that_is_lost_is_no_evidence_of_an_end() -> None:
    for node, said in ((None, "gone"), (NodeAmounts("Unknown"), "does not answer")):
        seen = of_node("n1", node)
        assert seen is not None
        assert (seen.life, said in seen.reason, "n1" in seen.reason) == (Life.UNKNOWN, True, True)
    # Its own condition may be bad while all on it runs.
    assert of_node("n1", NodeAmounts("False")) is None
    assert of_node("n1", NodeAmounts("True")) is None
