"""core/node_room.py: what nodes have free, from their JSON and that of the pods on them."""

from __future__ import annotations

from typing import Any

import pytest

from daas_hub.core.capacity import Capacity, NodeRoom, Room
from daas_hub.core.models import Json, Resources
from daas_hub.core.node_room import Used, node_amounts, rooms, total_of
from daas_hub.core.room import need_of, nodes_for, tolerated_keys

GIB = 2**30
GPU = "nvidia.com/gpu"
AMOUNTS = {"cpu": "3920m", "memory": "16777216Ki", "pods": "110", GPU: "2", "odd": "x"}


def node(*, ready: str = "True", amounts: dict[str, str] = AMOUNTS, labels: Any = None, **spec: Any) -> Json:
    return {
        "metadata": {"name": "n", "labels": {"zone": "a", "other": "x"} if labels is None else labels},
        "spec": spec,
        "status": {"allocatable": amounts, "conditions": [{"type": "Ready", "status": ready}]},
    }


def pod(on: str = "n", phase: str = "Running", **asks: str) -> Json:
    container = {"resources": {"requests": {name.replace("gpu", GPU): amount for name, amount in asks.items()}}}
    return {"spec": {"nodeName": on, "containers": [container]}, "status": {"phase": phase}}


def free(pods: list[Json], **more: Any) -> tuple[NodeRoom, ...]:
    used = Used()
    for each in pods:
        used.add(each)
    return rooms({"n": node_amounts(node(**more))}, used, GPU)


def test_a_node_has_what_its_pods_do_not_ask_for() -> None:
    (empty,) = free([])
    assert empty.total == empty.free == Room(3.92, 16 * GIB, {"": 2})
    (left,) = free([pod(cpu="1", memory="4Gi", gpu="1"), pod(cpu="500m"), pod(cpu="9", on="elsewhere")])
    assert left.free == Room(2.42, 12 * GIB, {"": 1})
    assert left.total == empty.total
    # A pod without requests asks for nothing, one that has ended for nothing any more.
    assert free([pod(), pod(cpu="1", phase="Succeeded"), pod(cpu="1", phase="Failed")])[0].free == empty.free
    assert free([pod(cpu="9", memory="99Gi")])[0].free == Room(0.0, 0, {"": 2})


def test_a_node_with_as_many_pods_as_it_may_have_has_no_room() -> None:
    (full,) = free([pod(), pod()], amounts={**AMOUNTS, "pods": "2"})
    assert full.free == Room(0.0, 0, {"": 0})


def test_pods_without_a_node_wait() -> None:
    used = Used()
    for each in (pod(on="", phase="Pending"), pod(on="", phase="Pending"), pod()):
        used.add(each)
    assert used.pending == 2


TAINTED = {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}
PLACE_A: dict[str, Any] = {"selector": {"zone": "a"}}
TOLERANT: dict[str, Any] = {"tolerated": frozenset({"gpu"})}


@pytest.mark.parametrize(
    ("more", "place", "override", "takes"),
    [
        # the node, what the site's settings say, what the profile's say
        ({}, {}, {}, True),
        ({"ready": "False"}, {}, {}, False),
        ({"ready": "Unknown"}, {}, {}, False),
        ({"unschedulable": True}, {}, {}, False),
        ({"unschedulable": True}, {"tolerated": frozenset({""})}, {}, False),
        (TAINTED, {}, {}, False),
        ({"taints": [{"key": "gpu", "effect": "NoExecute"}]}, {}, {}, False),
        ({"taints": [{"key": "gpu", "effect": "PreferNoSchedule"}]}, {}, {}, True),
        (TAINTED, TOLERANT, {}, True),
        (TAINTED, {"tolerated": frozenset({""})}, {}, True),
        (TAINTED, {}, {"tolerations": [{"key": "gpu", "operator": "Exists"}]}, True),
        (TAINTED, TOLERANT, {"tolerations": []}, False),
        ({}, PLACE_A, {}, True),
        ({}, {"selector": {"zone": "b"}}, {}, False),
        ({}, PLACE_A, {"node_selector": {"other": "x"}}, True),
        ({}, PLACE_A, {"node_selector": {"other": "y"}}, False),
        ({}, {"selector": {"zone": "b"}}, {"node_selector": {"zone": "a"}}, True),
        ({"labels": {}}, PLACE_A, {}, False),
    ],
)
def test_only_nodes_that_take_the_server_count(
    more: dict[str, Any], place: dict[str, Any], override: dict[str, Any], takes: bool
) -> None:
    seen = Capacity("kubernetes", None, nodes=free([], **more), **place)
    assert bool(nodes_for(seen, need_of(Resources(), override))) is takes


def test_without_pods_only_the_size_is_known() -> None:
    (known,) = rooms({"n": node_amounts(node())}, None, GPU)
    assert (known.free, known.total) == (Room(), Room(3.92, 16 * GIB, {"": 2}))
    assert total_of([known]) == (None, None, None)
    assert total_of(free([])) == (3.92, 16 * GIB, 2)


def test_tolerated_keys() -> None:
    assert tolerated_keys([{"key": "a", "operator": "Exists"}, {"operator": "Exists"}]) == {"a", ""}
    assert tolerated_keys(None) == frozenset()
