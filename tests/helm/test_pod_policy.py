"""The policy for pods and the function before it are one: each change of a good pod is judged the same by both."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest

from daas_hub.core.models import Json
from daas_hub.core.pod_rules import violations

from .api_server import Answer, ApiServer
from .chart import HUB, USERS, Helm
from .conftest import LOOSE_HUB, OPEN_HUB, rule_of
from .pods import HARMLESS, MUTATIONS, RULES, Mutation, good_pod, put

pytestmark = [pytest.mark.needs("kube_api"), pytest.mark.timeout(120)]


def submit(api: ApiServer, pod: Json, account: str, *, dry: bool = True) -> Answer:
    namespace = pod["metadata"]["namespace"]
    return api.ask("POST", f"/api/v1/namespaces/{namespace}/pods{'?dryRun=All' * dry}", pod, as_account=account)


def test_the_backends_own_pod_is_accepted_from_the_hub(api: ApiServer, release: Helm) -> None:
    pod = good_pod()
    assert violations(pod, RULES) == []
    answer = submit(api, pod, HUB)
    assert answer.code == 201, answer.why


def test_the_same_pod_is_refused_from_everybody_else(api: ApiServer, release: Helm) -> None:
    for account in ("", "kube-system:replicaset-controller", f"{USERS}:default"):
        # All of these may create pods here, but for the policy.
        answer = api.ask(
            "POST",
            f"/api/v1/namespaces/{USERS}/pods?dryRun=All",
            good_pod(),
            as_account=account,
            groups=("system:masters",),
        )
        assert (answer.code, rule_of(answer)) == (403, "creator"), (account, answer.why)


def test_the_hub_creates_pods_nowhere_else(api: ApiServer, release: Helm) -> None:
    pod = good_pod("default")
    assert submit(api, pod, HUB).code == 403


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_mutated_pod_is_refused(api: ApiServer, release: Helm, mutation: Mutation) -> None:
    """As a site has it: Pod Security and the policy together."""
    answer = submit(api, mutation.pod(USERS), HUB)
    assert answer.code == 403, answer
    assert "violates PodSecurity" in answer.why or rule_of(answer) == mutation.rule, answer.why


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_the_policy_alone_refuses_it_by_the_rule_that_the_function_names(
    api: ApiServer, policy_alone: str, mutation: Mutation
) -> None:
    pod = mutation.pod(policy_alone)
    answer = submit(api, pod, OPEN_HUB)
    assert answer.code == 403, answer
    assert rule_of(answer) == violations(pod, RULES)[0].partition(":")[0] == mutation.rule, answer.why


@pytest.mark.parametrize("name", HARMLESS)
def test_what_a_site_may_set_is_accepted(api: ApiServer, release: Helm, name: str) -> None:
    pod = good_pod(USERS)
    HARMLESS[name](pod)
    answer = submit(api, pod, HUB)
    assert answer.code == 201, answer.why
    assert violations(pod, RULES) == []


def test_function_and_policy_agree_on_random_mixtures(api: ApiServer, policy_alone: str) -> None:
    """Two or three changes at once: accepted by both, or refused by both, by the same rule first."""
    changes = [*(m.change for m in MUTATIONS), *HARMLESS.values(), *HARMLESS.values()]
    dice = random.Random(4)
    judged = {"": 0}
    while sum(judged.values()) < 200:
        pod = good_pod(policy_alone)
        try:
            for change in dice.sample(changes, dice.choice((2, 3))):
                change(pod)
        except (KeyError, TypeError, AttributeError):
            continue  # one takes away what the other changes
        answer = submit(api, pod, OPEN_HUB)
        if answer.code == 422:
            continue  # two that are no pod at all, such as two volumes of one name
        said = violations(pod, RULES)
        first = said[0].partition(":")[0] if said else ""
        assert (answer.code, rule_of(answer)) == (403 if said else 201, first), (answer.why, said)
        judged[first] = judged.get(first, 0) + 1
    assert len(judged) > 10, judged


def test_groups_need_not_be_strict_where_the_value_says_so(api: ApiServer, loose_groups: str) -> None:
    rules = replace(RULES, strict_groups=False)
    for mutation in MUTATIONS:
        pod = mutation.pod(loose_groups)
        answer = submit(api, pod, LOOSE_HUB)
        assert (answer.code == 201) is (mutation.rule == "strict-groups"), (mutation.name, answer.why)
        assert (violations(pod, rules) == []) is (answer.code == 201)


# ---------------------------------------------------------------- pods that run


@pytest.fixture(scope="module")
def running(api: ApiServer, policy_alone: str) -> Json:
    """A pod that exists."""
    answer = submit(api, good_pod(policy_alone), OPEN_HUB, dry=False)
    assert answer.code == 201, answer.why
    return answer.body


def put_back(api: ApiServer, pod: Json, account: str, sub: str = "") -> Answer:
    meta = pod["metadata"]
    where = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}{sub}?dryRun=All"
    return api.ask("PUT", where, pod, as_account=account)


@pytest.mark.parametrize("account", ["", OPEN_HUB], ids=["administrator", "hub"])
def test_no_container_is_added_to_a_running_pod(api: ApiServer, running: Json, account: str) -> None:
    pod = copy.deepcopy(running)
    put("spec/ephemeralContainers/+", {"name": "debug", "image": "example.org/debug:1"})(pod)
    answer = put_back(api, pod, account, "/ephemeralcontainers")
    assert answer.code == 403
    assert rule_of(answer) == ("ephemeral-containers" if account else "creator"), answer.why


def test_nobody_but_the_hub_changes_a_running_pod(api: ApiServer, running: Json) -> None:
    for path, value in {
        "spec/containers/0/image": "example.org/other:1",
        "metadata/labels/daas-hub~account": "somebody-else",
        "metadata/annotations/daas-hub~user": "bob",
        "metadata/annotations/daas-hub~more": "bob",
        "metadata/labels/team": "other",
    }.items():
        pod = copy.deepcopy(running)
        put(path, value)(pod)
        answer = put_back(api, pod, "")
        assert (answer.code, rule_of(answer)) == (403, "creator"), (path, answer)


def test_the_hub_itself_cannot_move_a_pod_to_another_account(api: ApiServer, running: Json) -> None:
    for path, rule in {
        "metadata/labels/daas-hub~account": "labels",
        "metadata/annotations/daas-hub~uid": "uid",
    }.items():
        pod = copy.deepcopy(running)
        put(path)(pod)
        answer = put_back(api, pod, OPEN_HUB)
        assert (answer.code, rule_of(answer)) == (403, rule), answer.why


def test_the_clusters_own_controllers_may_write_what_no_rule_looks_at(api: ApiServer, running: Json) -> None:
    for path, value in {
        "metadata/finalizers": ["foregroundDeletion"],
        "metadata/annotations/cni.example.org~address": "192.0.2.7",
    }.items():
        pod = copy.deepcopy(running)
        put(path, value)(pod)
        assert put_back(api, pod, "").code == 200
