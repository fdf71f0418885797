"""What a row of the API's table of pods tells: never more than the pod itself would."""

from __future__ import annotations

from typing import Any

import pytest

from daas_hub.clients.kube_table import Columns, UnfitTable, is_table, version_of
from daas_hub.core.models import Life
from daas_hub.core.pod_rows import COLUMNS, PodRow, row_of
from daas_hub.core.pods import address, observe, problem

DEFINED = [{"name": name} for name in ("Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node")]


def row(ready: str, status: str, ip: str = "10.0.0.1", node: str = "n1") -> PodRow:
    return row_of(("pod", ready, status, ip, node, ""))


def test_a_running_pod_needs_no_question() -> None:
    told = row("1/1", "Running").told("pod")
    assert told is not None
    assert (observe(told).life, address(told), problem(told)) == (Life.RUNNING, "10.0.0.1", None)
    assert (told["metadata"]["name"], told["spec"]["nodeName"]) == ("pod", "n1")


@pytest.mark.parametrize("status", ["Pending", "ContainerCreating", "PodInitializing"])
def test_one_on_its_way_on_a_known_node_needs_no_question(status: str) -> None:
    told = row("0/1", status, "<none>").told("pod")
    assert told is not None
    assert (observe(told).life, address(told), problem(told)) == (Life.RUNNING, None, None)


def test_one_without_a_node_is_asked_once_the_scheduler_may_have_spoken() -> None:
    made = row("0/1", "Pending", "<none>", "<none>")
    assert made.told("pod") is None
    made.just_made = True
    told = made.told("pod")
    assert told is not None
    assert told["spec"]["nodeName"] is None


@pytest.mark.parametrize(
    ("ready", "status", "ip", "node"),
    [
        ("0/1", "Running", "10.0.0.1", "n1"),
        ("1/2", "Running", "10.0.0.1", "n1"),
        ("0/0", "Running", "10.0.0.1", "n1"),
        ("", "Running", "10.0.0.1", "n1"),
        ("x/x", "Running", "10.0.0.1", "n1"),
        ("1/1", "Running", "<none>", "n1"),
        ("1/1", "Running", "10.0.0.1", "<none>"),
        ("1/1", "Terminating", "10.0.0.1", "n1"),
        ("1/1", "NodeLost", "10.0.0.1", "n1"),
        ("0/1", "Completed", "10.0.0.1", "n1"),
        ("0/1", "OOMKilled", "10.0.0.1", "n1"),
        ("0/1", "Evicted", "<none>", "n1"),
        ("0/1", "Unknown", "10.0.0.1", "n1"),
        ("0/1", "ImagePullBackOff", "10.0.0.1", "n1"),
        ("0/1", "CreateContainerConfigError", "10.0.0.1", "n1"),
        ("0/1", "Init:0/1", "10.0.0.1", "n1"),
        ("0/1", "SchedulingGated", "<none>", "<none>"),
        ("0/2", "ContainerCreating", "<none>", "n1"),
        ("0/2", "Pending", "<none>", "n1"),
        ("0/1", "a word of a later version", "10.0.0.1", "n1"),
    ],
)
def test_whatever_may_have_a_reason_is_asked(ready: str, status: str, ip: str, node: str) -> None:
    assert row(ready, status, ip, node).told("pod") is None


def test_between_two_lists_only_a_row_that_tells_all_is_the_same() -> None:
    assert row("1/1", "Running").same(row("1/1", "Running"))
    assert not row("1/1", "Running").same(row("1/1", "Running", node="n2"))
    assert not row("1/1", "Running").same(row("1/1", "Running", ip="10.0.0.2"))
    assert not row("0/1", "Error").same(row("0/1", "Error")), "its reason may be another one"
    whole = PodRow("", "", "", "", whole={"a": 1})
    assert whole.same(PodRow("", "", "", "", whole={"a": 1}))
    assert not whole.same(row("1/1", "Running"))
    assert not row("1/1", "Running").same(whole)


def test_columns_are_found_by_name_wherever_they_stand() -> None:
    cells = ["pod", "1/1", "Running", "0", "5s", "10.0.0.1", "n1", "<none>"]
    picked = Columns(DEFINED, COLUMNS).pick({"cells": cells})
    assert picked == ("pod", "1/1", "Running", "10.0.0.1", "n1", "")
    over = Columns(DEFINED, COLUMNS).pick({"cells": cells, "conditions": [{"type": "Completed", "status": "True"}]})
    assert over == (*picked[:-1], "Completed")
    assert row_of(picked).told("pod") is not None
    assert row_of(over).told("pod") is None, "its phase is Failed, whatever its container waits for"
    assert Columns(DEFINED[::-1], COLUMNS).pick({"cells": cells[::-1]}) == picked


@pytest.mark.parametrize(
    "defined",
    [
        None,
        [],
        "Name",
        [{"name": "Name"}],
        [*DEFINED, {"name": "Status"}],
        [{**DEFINED[0], "name": "NAME"}, *DEFINED[1:]],
    ],
)
def test_other_columns_do_not_fit(defined: Any) -> None:
    with pytest.raises(UnfitTable):
        Columns(defined, COLUMNS)


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"cells": None},
        {"cells": ["pod"]},
        {"cells": ["pod", "1/1", "Running", "0", "5s", "10.0.0.1", "n1", "<none>", "more"]},
        {"cells": ["", "1/1", "Running", "0", "5s", "10.0.0.1", "n1", "<none>"]},
        {"cells": ["pod", "1/1", 5, "0", "5s", "10.0.0.1", "n1", "<none>"]},
    ],
)
def test_other_rows_do_not_fit(found: Any) -> None:
    with pytest.raises(UnfitTable):
        Columns(DEFINED, COLUMNS).pick(found)


def test_a_table_without_a_version_does_not_fit() -> None:
    assert version_of({"metadata": {"resourceVersion": "7"}}) == "7"
    for metadata in ({}, None, {"resourceVersion": ""}, {"resourceVersion": 7}):
        with pytest.raises(UnfitTable):
            version_of({"metadata": metadata})
    assert is_table({"kind": "Table"})
    assert not is_table({"kind": "PodList"})
