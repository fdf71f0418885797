"""Which disks get their claim back: every disk that is in doubt stays as it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from daas_hub.core.disks import Recorded, plan_disks

DISK: dict[str, Any] = {
    "metadata": {
        "name": "disk-1",
        "resourceVersion": "17",
        "labels": {"daas-hub/hub": "hub", "daas-hub/volume": "v1", "daas-hub/account": "a1", "other": "x"},
        "annotations": {"daas-hub/claim": "users/daas-v1", "daas-hub/path": "/home/ada", "other": "x"},
    },
    "spec": {
        "capacity": {"storage": "3Gi"},
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "fast",
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": "users", "name": "daas-v1", "uid": "gone", "resourceVersion": "3"},
        "hostPath": {"path": "/srv/1"},
    },
    "status": {"phase": "Released"},
}


def changed(**places: Any) -> dict[str, Any]:
    disk = copy.deepcopy(DISK)
    for key, value in places.items():
        at: dict[str, Any] = disk
        *way, last = key.split("__")
        for part in way:
            at = at[part]
        at[last] = value
    return disk


def claim(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "daas-v1", "namespace": "users", "uid": "claim-uid"}, "spec": spec}


def plan(*disks: Any, claims: tuple[Any, ...] = (), recorded: tuple[Recorded, ...] = ()) -> Any:
    return plan_disks(disks, claims, recorded, hub_id="hub", namespace="users")


def test_a_released_disk_is_bound_to_a_claim_that_asks_for_exactly_it() -> None:
    (one,) = plan(DISK).rebind
    assert one.claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "3Gi"}},
        "storageClassName": "fast",
        "volumeMode": "Filesystem",
        "volumeName": "disk-1",
    }
    meta = one.claim["metadata"]
    assert (meta["namespace"], meta["name"]) == ("users", "daas-v1")
    assert meta["labels"] == {"daas-hub/hub": "hub", "daas-hub/volume": "v1", "daas-hub/account": "a1"}
    assert meta["annotations"] == {"daas-hub/path": "/home/ada"}
    ref = one.patch["spec"]["claimRef"]
    assert (ref["uid"], ref["resourceVersion"], ref["name"]) == (None, None, "daas-v1")
    assert one.patch["metadata"]["resourceVersion"] == "17", "somebody's later change would be lost"


def test_a_disk_without_a_class_is_not_given_the_default_one() -> None:
    disk = changed()
    del disk["spec"]["storageClassName"]
    (one,) = plan(disk).rebind
    assert one.claim["spec"]["storageClassName"] == ""


def test_a_bound_disk_is_counted_and_left() -> None:
    disk = changed(status__phase="Bound", spec__claimRef={"namespace": "users", "name": "daas-v1", "uid": "claim-uid"})
    made = plan(disk, claims=(claim(volumeName="disk-1"),))
    assert (made.rebind, made.bound, made.conflicts) == ([], 1, [])


@pytest.mark.parametrize(
    "disk",
    [
        changed(metadata__labels={"daas-hub/hub": "another", "daas-hub/volume": "v1"}),
        changed(metadata__labels={"daas-hub/hub": "hub"}),
        changed(metadata__annotations={"daas-hub/claim": "elsewhere/daas-v1"}),
    ],
)
def test_other_peoples_disks_are_not_looked_at(disk: dict[str, Any]) -> None:
    made = plan(disk)
    assert (made.rebind, made.conflicts) == ([], [])


@pytest.mark.parametrize(
    ("disks", "claims", "words"),
    [
        ((changed(spec__persistentVolumeReclaimPolicy="Delete"),), (), "not retained"),
        ((changed(status__phase="Failed"),), (), "Failed"),
        ((changed(status__phase="Bound"),), (), "gone just now"),
        ((DISK, changed(metadata__name="disk-2")), (), "both say"),
        ((DISK,), (claim(volumeName="disk-9"),), "bound to disk-9"),
        ((DISK,), (claim(),), "waits for a new, empty disk"),
    ],
)
def test_a_disk_in_doubt_is_a_conflict(disks: tuple[Any, ...], claims: tuple[Any, ...], words: str) -> None:
    made = plan(*disks, claims=claims)
    assert made.rebind == []
    (conflict,) = made.conflicts
    assert words in conflict.why


RECORDED = Recorded(
    "v1",
    {
        "claim": "daas-v1",
        "namespace": "users",
        "disk": "disk-1",
        "source": {"hostPath": {"path": "/srv/1"}},
        "shape": {"capacity": {"storage": "3Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "fast"},
    },
    {"daas-hub/hub": "hub", "daas-hub/volume": "v1"},
    {"daas-hub/path": "/home/ada"},
)


def test_a_disk_that_the_cluster_lost_is_written_once_more_by_its_handle() -> None:
    (one,) = plan(recorded=(RECORDED,)).rebind
    assert one.create["spec"] == {
        **RECORDED.made["shape"],
        "hostPath": {"path": "/srv/1"},
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": "users",
            "name": "daas-v1",
        },
    }
    assert one.create["metadata"]["annotations"]["daas-hub/claim"] == "users/daas-v1"
    assert one.claim["spec"]["volumeName"] == "disk-1"


def test_a_disk_without_a_recorded_handle_is_named() -> None:
    bare = Recorded("v1", {"claim": "daas-v1", "namespace": "users", "disk": "disk-1", "source": {}}, {}, {})
    made = plan(recorded=(bare,))
    assert made.rebind == []
    assert "no handle" in made.conflicts[0].why
    never_bound = Recorded("v1", {"claim": "daas-v1", "namespace": "users"}, {}, {})
    assert plan(recorded=(never_bound,)).conflicts == []
