"""The last look at a pod before it is submitted: a good one passes, each change that matters alone does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daas_hub.backends.kube import KubeBackend
from daas_hub.backends.kube_start import judge
from daas_hub.core.errors import AccountRefused, StartFailed
from daas_hub.core.pod_rules import PodRules, refused_ids, violations
from tests.helm.pods import HARMLESS, MUTATIONS, RULES, Mutation, good_pod, launch_spec, put


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_change_that_matters_is_named_by_its_rule(mutation: Mutation) -> None:
    found = violations(mutation.pod(), RULES)
    assert found
    assert found[0].partition(": ")[0] == mutation.rule
    assert all(what.partition(": ")[2] for what in found)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_a_site_may_set_passes(name: str) -> None:
    pod = good_pod()
    HARMLESS[name](pod)
    assert violations(pod, RULES) == []


def test_each_mutation_is_another_one() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 30
    pods = [mutation.pod() for mutation in MUTATIONS]
    assert all(pod != other for at, pod in enumerate(pods) for other in [good_pod(), *pods[:at]])


def test_ephemeral_containers_are_refused() -> None:
    pod = good_pod()
    put("spec/ephemeralContainers/+", {"name": "debug", "image": "example.org/debug:1"})(pod)
    assert [what.partition(":")[0] for what in violations(pod, RULES)] == ["ephemeral-containers"]


def test_groups_need_not_be_strict_where_the_site_says_so() -> None:
    pod = good_pod()
    put("spec/securityContext/supplementalGroupsPolicy")(pod)
    assert violations(pod, RULES)
    assert violations(pod, replace(RULES, strict_groups=False)) == []


def test_a_type_of_volume_that_is_not_known_is_refused() -> None:
    pod = good_pod()
    put("spec/volumes/+", {"name": "more", "image": {"reference": "example.org/data:1"}})(pod)
    put("spec/volumes/+", {"name": "even-more", "tomorrow": {}})(pod)
    assert [what.partition(":")[0] for what in violations(pod, RULES)] == ["volumes", "volumes"]


def test_numbers_must_be_numbers() -> None:
    pod = good_pod()
    put("spec/securityContext/runAsUser", "20001")(pod)
    put("spec/securityContext/supplementalGroups", [True])(pod)
    assert [what.partition(":")[0] for what in violations(pod, RULES)] == ["uid", "gid"]


def test_a_start_is_refused_for_good_and_its_log_names_the_rules() -> None:
    pod = good_pod()
    judge(pod, RULES)
    put("spec/volumes/+", {"name": "more", "hostPath": {"path": "/etc"}})(pod)
    put("spec/securityContext/runAsUser", 0)(pod)
    with pytest.raises(StartFailed) as raised:
        judge(pod, RULES)
    assert (raised.value.permanent, raised.value.reason) == (True, "policy")
    assert pod["metadata"]["name"] in raised.value.log_message
    assert all(word in raised.value.log_message for word in ("uid: uid 0;", "volumes: volume more"))


def test_the_settings_are_the_rules() -> None:
    backend = KubeBackend(
        min_uid=2000, max_uid=3000, min_gid=200, max_gid=300, reserved_ids=[[1, 2]], denied_gids=[250],
        require_strict_groups=True, pull_secrets=["registry"],
    )  # fmt: skip
    assert backend.pod_rules("here") == PodRules(
        "here", (2000, 3000), (200, 300), ((1, 2),), frozenset({250}), True, frozenset({"registry"})
    )


def test_an_accounts_ids_are_judged_before_there_is_a_pod() -> None:
    assert refused_ids(20001, [20001, 20002], RULES) == []
    assert refused_ids(0, [20001], RULES) == ["uid 0; allowed is 1000 to 2147483647, but for reserved ranges"]
    for gids in ([0], [20001, 0], [20001, 42], [20001, 31337], [60001]):
        assert len(refused_ids(20001, gids, RULES)) == 1


async def test_an_account_with_a_gid_out_of_range_is_refused_before_anything_is_made() -> None:
    backend = KubeBackend(denied_gids=[20002])
    with pytest.raises(AccountRefused) as raised:
        await backend.prepare(launch_spec())
    assert raised.value.reason == "forbidden_id"
    assert "zora" in raised.value.message
    assert "gids [20002]" in raised.value.message
