"""What the hub's account may do to disks: new ones below the configured roots, and few patches of those that exist."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from daas_hub.core.models import Json

from .api_server import Answer, ApiServer
from .chart import CHART, DEEP, HOST, HUB, NFS, USERS, Helm
from .conftest import rule_of
from .pods import put

pytestmark = [pytest.mark.needs("kube_api"), pytest.mark.timeout(120)]

DISKS = "/api/v1/persistentvolumes"
MERGE = "application/merge-patch+json"
LABELS, NOTES = "metadata/labels", "metadata/annotations"


def disk(name: str = "daas-v1", **source: Any) -> Json:
    """A disk as the backend makes one for a folder that exists."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "labels": {"daas-hub/hub": "hub", "daas-hub/volume": "v1", "daas-hub/account": "a1"},
            "annotations": {"daas-hub/user": "zora"},
        },
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": USERS, "name": name},
            **(source or nfs(f"{NFS[1]}/zora")),
        },
    }


def nfs(path: str, server: str = NFS[0]) -> Json:
    return {"nfs": {"server": server, "path": path}}


def folder(path: str, kind: str | None = "Directory") -> Json:
    return {"hostPath": {"path": path, **({} if kind is None else {"type": kind})}}


def make(api: ApiServer, body: Json, account: str = HUB) -> Answer:
    return api.ask("POST", f"{DISKS}?dryRun=All", body, as_account=account)


GOOD = {
    "nfs": disk(),
    "nfs-with-options": disk(**nfs(f"{NFS[1]}/zora"), mountOptions=["hard", "nfsvers=4.2"]),
    "folder": disk(**folder(f"{HOST}/zora")),
    "odd-name": disk(**folder(f"{HOST}/z.o-r_a@example..org")),
    "two-deep": disk(**folder(f"{DEEP}/astro/m31")),
    "one-deep-of-two": disk(**folder(f"{DEEP}/astro")),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_folder_below_a_root_becomes_a_disk(api: ApiServer, release: Helm, name: str) -> None:
    answer = make(api, GOOD[name])
    assert answer.code == 201, answer.why


def changed(*changes: Callable[[Json], None], **source: Any) -> Json:
    made = disk(**source)
    for change in changes:
        change(made)
    return made


BAD: dict[str, tuple[str, Json]] = {
    "another-server": ("root", disk(**nfs(f"{NFS[1]}/zora", "evil.example.org"))),
    "outside": ("root", disk(**nfs("/etc"))),
    "the-root-itself": ("root", disk(**nfs(NFS[1]))),
    "the-root-with-a-slash": ("root", disk(**nfs(f"{NFS[1]}/"))),
    "beside-the-root": ("root", disk(**nfs(f"{NFS[1]}-old/zora"))),
    "too-deep": ("root", disk(**nfs(f"{NFS[1]}/zora/private"))),
    "two-slashes": ("root", disk(**folder(f"{DEEP}//astro"))),
    "a-dot": ("root", disk(**folder(f"{DEEP}/./astro"))),
    "slash-at-the-end": ("root", disk(**folder(f"{DEEP}/astro/"))),
    "nfs-dots": ("root", disk(**nfs(f"{NFS[1]}/.."))),
    "relative": ("root", disk(**folder("srv/home/zora"))),
    "nfs-path-on-the-node": ("root", disk(**folder(f"{NFS[1]}/zora"))),
    "node-path-on-nfs": ("root", disk(**nfs(f"{HOST}/zora"))),
    "node-root": ("root", disk(**folder("/"))),
    "csi": ("root", disk(csi={"driver": "csi.example.org", "volumeHandle": "h1"})),
    "iscsi": ("root", disk(iscsi={"targetPortal": "192.0.2.1", "iqn": "iqn.2001-04.org.example:d", "lun": 0})),
    "made-by-kubelet": ("type", disk(**folder(f"{HOST}/zora", "DirectoryOrCreate"))),
    "a-file": ("type", disk(**folder(f"{HOST}/zora", "File"))),
    "no-type": ("type", disk(**folder(f"{HOST}/zora", None))),
    "mount-option": ("mount-options", disk(**nfs(f"{NFS[1]}/zora"), mountOptions=["hard", "suid"])),
    "another-name": ("labels", disk("home-v1")),
    "another-hub": ("labels", changed(put(f"{LABELS}/daas-hub~hub", "other"))),
    "no-volume": ("labels", changed(put(f"{LABELS}/daas-hub~volume"))),
    "deleted-with-its-claim": ("retain", changed(put("spec/persistentVolumeReclaimPolicy", "Delete"))),
    "recycled": (
        "retain",
        changed(put("spec/persistentVolumeReclaimPolicy", "Recycle"), **folder(f"{HOST}/zora")),
    ),
    "owned": (
        "retain",
        changed(
            put("metadata/ownerReferences", [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}])
        ),
    ),
    "for-anybody": ("claim", changed(put("spec/claimRef"))),
    "for-no-claim": ("claim", changed(put("spec/claimRef/name"))),
    "for-another-namespace": ("claim", changed(put("spec/claimRef/namespace", "default"))),
    "foreign-label": ("foreign-labels", changed(put(f"{LABELS}/topology.kubernetes.io~zone", "a"))),
    "gid-for-every-pod": ("foreign-annotations", changed(put(f"{NOTES}/pv.beta.kubernetes.io~gid", "0"))),
    "for-a-provisioner": (
        "foreign-annotations",
        changed(put(f"{NOTES}/pv.kubernetes.io~provisioned-by", "csi.example.org")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_any_other_disk_is_refused(api: ApiServer, release: Helm, name: str) -> None:
    rule, body = BAD[name]
    answer = make(api, body)
    assert (answer.code, rule_of(answer)) == (403, rule), answer.why


def test_dots_in_a_folder_of_the_node_are_refused(api: ApiServer, release: Helm) -> None:
    """Kubernetes itself refuses them, before any policy is asked."""
    assert make(api, disk(**folder(f"{DEEP}/../x"))).code == 422


def test_others_make_disks_as_before(api: ApiServer, release: Helm) -> None:
    for _, body in BAD.values():
        answer = make(api, body, "")
        # What no account may do, Kubernetes itself refuses.
        assert answer.code in (201, 422), answer.why


# ---------------------------------------------------------------- patches


@pytest.fixture(scope="module")
def existing(api: ApiServer, release: Helm) -> dict[str, Json]:
    """Disks that a provisioner made: one for a claim of the users' namespace, and one for a foreign one."""
    made = {}
    for name, namespace in (("pvc-ours", USERS), ("pvc-foreign", "default")):
        body = disk(name, csi={"driver": "csi.example.org", "volumeHandle": name})
        body["metadata"]["labels"] = {"topology.kubernetes.io/zone": "a"}
        body["metadata"]["annotations"] = {
            "pv.kubernetes.io/provisioned-by": "csi.example.org",
            "pv.kubernetes.io/bound-by-controller": "yes",
        }
        body["metadata"]["finalizers"] = ["external-provisioner.volume.kubernetes.io/finalizer"]
        body["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
        body["spec"]["claimRef"] = {**body["spec"]["claimRef"], "namespace": namespace, "uid": "u1"}
        answer = api.ask("POST", DISKS, body)
        assert answer.code == 201, answer.why
        made[name] = answer.body
    return made


def patch(api: ApiServer, body: Json, name: str = "pvc-ours", account: str = HUB) -> Answer:
    return api.ask("PATCH", f"{DISKS}/{name}?dryRun=All", body, as_account=account, content_type=MERGE)


def spec(**values: Any) -> Json:
    return {"spec": values}


def meta(**values: Any) -> Json:
    return {"metadata": values}


FINE = {
    "retained": spec(persistentVolumeReclaimPolicy="Retain"),
    "as-the-backend-does": {
        **meta(labels={"daas-hub/hub": "hub", "daas-hub/volume": "v1"}, annotations={"daas-hub/claim": "x/y"}),
        **spec(persistentVolumeReclaimPolicy="Retain"),
    },
    "bound-again": {
        **meta(annotations={"pv.kubernetes.io/bound-by-controller": None}),
        **spec(claimRef={"name": "daas-v1", "uid": None, "resourceVersion": None}),
    },
    "the-same-reclaim-policy": spec(persistentVolumeReclaimPolicy="Delete"),
}


@pytest.mark.parametrize("name", FINE)
def test_what_keeping_a_disk_needs_is_accepted(api: ApiServer, existing: dict[str, Json], name: str) -> None:
    answer = patch(api, FINE[name])
    assert answer.code == 200, answer.why


WRONG: dict[str, tuple[str, Json]] = {
    "size": ("spec", spec(capacity={"storage": "20Gi"})),
    "access-modes": ("spec", spec(accessModes=["ReadOnlyMany"])),
    "mount-options": ("spec", spec(mountOptions=["suid"])),
    "class": ("spec", spec(storageClassName="other")),
    "nodes": (
        "spec",
        spec(
            nodeAffinity={
                "required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}
            }
        ),
    ),
    "secret-of-the-driver": (
        "spec",
        spec(csi={"controllerExpandSecretRef": {"name": "s", "namespace": "kube-system"}}),
    ),
    "for-anybody": ("claim", spec(claimRef=None)),
    "for-another-namespace": ("claim", spec(claimRef={"namespace": "default"})),
    "foreign-label": ("foreign-labels", meta(labels={"team": "x"})),
    "foreign-label-changed": ("foreign-labels", meta(labels={"topology.kubernetes.io/zone": "b"})),
    "foreign-label-gone": ("foreign-labels", meta(labels={"topology.kubernetes.io/zone": None})),
    "gid-for-every-pod": ("foreign-annotations", meta(annotations={"pv.beta.kubernetes.io/gid": "0"})),
    "provisioner-gone": ("foreign-annotations", meta(annotations={"pv.kubernetes.io/provisioned-by": None})),
    "provisioner-changed": ("foreign-annotations", meta(annotations={"pv.kubernetes.io/provisioned-by": "x"})),
    "finalizer-gone": ("owners", meta(finalizers=None)),
    "owned": ("owners", meta(ownerReferences=[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}])),
}


@pytest.mark.parametrize("name", WRONG)
def test_any_other_patch_is_refused(api: ApiServer, existing: dict[str, Json], name: str) -> None:
    rule, body = WRONG[name]
    answer = patch(api, body)
    assert (answer.code, rule_of(answer)) == (403, rule), answer
    # It is the hub's account that may not: an administrator may.
    assert patch(api, body, account="").code == 200


def test_what_is_retained_stays_retained(api: ApiServer, release: Helm) -> None:
    body = disk("daas-kept")
    assert api.ask("POST", DISKS, body, as_account=HUB).code == 201
    for policy in ("Delete", "Recycle"):
        answer = patch(api, spec(persistentVolumeReclaimPolicy=policy), "daas-kept")
        assert (answer.code, rule_of(answer)) == (403, "reclaim"), answer.why
    assert patch(api, meta(annotations={"daas-hub/user": "zora-2"}), "daas-kept").code == 200


def test_disks_of_other_namespaces_are_left_alone(api: ApiServer, existing: dict[str, Json]) -> None:
    for body in (FINE["retained"], spec(claimRef={"namespace": USERS}), meta(labels={"daas-hub/hub": "hub"})):
        answer = patch(api, body, "pvc-foreign")
        assert (answer.code, rule_of(answer)) == (403, "foreign"), answer.why


def test_the_hub_deletes_no_disk_and_no_home(api: ApiServer, existing: dict[str, Json]) -> None:
    assert api.ask("DELETE", f"{DISKS}/pvc-ours?dryRun=All", as_account=HUB).code == 403
    claims = f"/api/v1/namespaces/{USERS}/persistentvolumeclaims/home?dryRun=All"
    assert api.ask("DELETE", claims, as_account=HUB).code == 403
    assert api.ask("PATCH", f"{DISKS}/pvc-ours/status", {}, as_account=HUB, content_type=MERGE).code == 403


def test_every_field_of_a_disk_is_judged(api: ApiServer) -> None:
    """A field that a later Kubernetes adds must be added to the policy: this test names it."""
    document = api.ask("GET", "/openapi/v3/api/v1").body
    fields = set(document["components"]["schemas"]["io.k8s.api.core.v1.PersistentVolumeSpec"]["properties"])
    policy = (CHART / "templates" / "policy-volumes.yaml").read_text()
    compared = set(re.search(r"range \$field := list ([^}]*)", policy)[1].replace('"', "").split())  # type: ignore[index]
    assert fields - {"claimRef", "persistentVolumeReclaimPolicy", "accessModes", "capacity"} == compared


def test_the_numbers_are_kept() -> None:
    assert len(BAD) + len(WRONG) >= 20
    bodies = [body for _, body in BAD.values()]
    assert all(body != other for at, body in enumerate(bodies) for other in [disk(), *bodies[:at]])
