"""What every user's pod must be, asked before it is submitted. Pure: a pod's JSON in, violations out.

The same rules, in the same order and under the same names, stand as a ValidatingAdmissionPolicy in
``helm/daas-hub/templates/policy-pods.yaml``, where the API server holds them against everybody. ``tests/helm`` applies
each mutation of a good pod to both and compares their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .models import Json

MAX_ID = 2**31 - 1
"""The largest uid and gid that a pod's securityContext may have (Kubernetes API, PodSecurityContext)."""
VOLUME_TYPES = ("configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
PROJECTED = ("configMap", "downwardAPI")
"""Sources of a projected volume: no service-account token, no other Secret."""
PREFIX = "daas-hub/"


@dataclass(frozen=True)
class PodRules:
    """What the site allows. Every range has both ends in it."""

    hub_id: str = "hub"
    uids: tuple[int, int] = (1000, MAX_ID)
    gids: tuple[int, int] = (100, MAX_ID)
    reserved: tuple[tuple[int, int], ...] = ()
    """Ranges that neither a uid nor a gid may be in."""
    denied_gids: frozenset[int] = frozenset()
    strict_groups: bool = True
    """An image's own /etc/group may add nothing."""
    pull_secrets: frozenset[str] = frozenset()
    """Secrets, besides the launch's own, by which images may be pulled."""


def violations(pod: Json, rules: PodRules) -> list[str]:
    """Each as "rule: what is wrong"; empty where the pod is as it must be. Never raises for a pod that is JSON."""
    return [f"{name}: {what}" for name, rule in RULES.items() for what in rule(pod, rules)]


def refused_ids(uid: int, gids: Sequence[int], rules: PodRules) -> list[str]:
    """Which ids of an account no pod may have, each with what is allowed; empty where all may be had.

    The same judgement as the rules ``uid`` and ``gid``, for the moment before there is a pod.
    """
    context = {"runAsUser": uid, "runAsGroup": gids[0], "supplementalGroups": list(gids[1:])}
    pod: Json = {"metadata": {"annotations": {f"{PREFIX}uid": str(uid)}}, "spec": {"securityContext": context}}
    return [*_uid(pod, rules), *_gid(pod, rules)]


# ---------------------------------------------------------------- reading


def _has(part: Mapping[str, Any] | None, key: str) -> Any:
    """What stands under a key; None where nothing does, or null."""
    return (part or {}).get(key)


def _parts(part: Mapping[str, Any] | None, key: str) -> Sequence[Mapping[str, Any]]:
    return _has(part, key) or ()


def _context(pod: Json) -> Mapping[str, Any]:
    return _has(pod["spec"], "securityContext") or {}


def _containers(pod: Json) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key in ("containers", "initContainers"):
        for part in _parts(pod["spec"], key):
            yield str(part.get("name")), part


def _contexts(pod: Json) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, part in _containers(pod):
        yield name, _has(part, "securityContext") or {}


def _own_secret(pod: Json) -> str:
    return f"{_has(pod.get('metadata'), 'name')}-secret"


def _own_tokens(pod: Json) -> str:
    return f"{_has(pod.get('metadata'), 'name')}-tokens"


# ---------------------------------------------------------------- the rules


def _labels(pod: Json, rules: PodRules) -> Iterator[str]:
    labels = _has(pod.get("metadata"), "labels") or {}
    if labels.get(f"{PREFIX}hub") != rules.hub_id:
        yield f"the label {PREFIX}hub is {labels.get(f'{PREFIX}hub')!r}, not {rules.hub_id!r}"
    if labels.get(f"{PREFIX}component") != "server":
        yield f"the label {PREFIX}component is not 'server'"
    for word in ("launch", "account"):
        if not labels.get(f"{PREFIX}{word}"):
            yield f"the label {PREFIX}{word} is missing"


def _name(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    name = str(_has(pod.get("metadata"), "name") or "")
    if not name.startswith("daas-"):
        yield f"the name {name!r} does not begin with 'daas-'"


def _non_root(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    if _context(pod).get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"


def _uid(pod: Json, rules: PodRules) -> Iterator[str]:
    uid = _context(pod).get("runAsUser")
    if not _allowed(uid, rules.uids, rules):
        yield f"uid {uid}; allowed is {_range(rules.uids)}, but for reserved ranges"
    noted = (_has(pod.get("metadata"), "annotations") or {}).get(f"{PREFIX}uid")
    if noted != str(uid):
        yield f"the annotation {PREFIX}uid is {noted!r}, but runAsUser is {uid}"


def _gid(pod: Json, rules: PodRules) -> Iterator[str]:
    context = _context(pod)
    gids = [context.get("runAsGroup"), *(_has(context, "supplementalGroups") or ())]
    gids += [context["fsGroup"]] if _has(context, "fsGroup") is not None else []
    wrong = [gid for gid in gids if not _allowed(gid, rules.gids, rules) or gid in rules.denied_gids]
    if wrong:
        yield f"gids {wrong}; allowed is {_range(rules.gids)}, but for reserved ranges and {sorted(rules.denied_gids)}"


def _fs_group(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    context = _context(pod)
    if _has(context, "fsGroup") not in (None, context.get("runAsGroup")):
        yield f"fsGroup is {context['fsGroup']}, but runAsGroup is {context.get('runAsGroup')}"


def _strict_groups(pod: Json, rules: PodRules) -> Iterator[str]:
    if rules.strict_groups and _context(pod).get("supplementalGroupsPolicy") != "Strict":
        yield "supplementalGroupsPolicy is not Strict"


def _container_identity(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    for name, context in _contexts(pod):
        for key in ("runAsUser", "runAsGroup", "runAsNonRoot", "seLinuxOptions", "windowsOptions"):
            if _has(context, key) is not None:
                yield f"container {name} has its own {key}"
    for key in ("seLinuxOptions", "windowsOptions"):
        if _has(_context(pod), key) is not None:
            yield f"the pod has {key}"


def _privileges(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    if _has(_has(_context(pod), "seccompProfile"), "type") != "RuntimeDefault":
        yield "the pod's seccompProfile is not RuntimeDefault"
    if _has(_context(pod), "sysctls"):
        yield "the pod sets sysctls"
    for name, context in _contexts(pod):
        capabilities = _has(context, "capabilities") or {}
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"container {name} may gain privileges"
        if "ALL" not in (capabilities.get("drop") or ()) or capabilities.get("add"):
            yield f"container {name} keeps or adds capabilities"
        if _has(context, "procMount") not in (None, "Default"):
            yield f"container {name} has another procMount than Default"
        if _has(context, "seccompProfile") is not None:
            yield f"container {name} has its own seccompProfile"


def _host(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if _has(pod["spec"], key):
            yield f"{key} is set"
    if _has(pod["spec"], "hostUsers") is False:
        yield "hostUsers is false: uids would not be those of the site"
    for name, part in _containers(pod):
        if any(port.get("hostPort") for port in _parts(part, "ports")):
            yield f"container {name} takes a port of its node"


def _service_account(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    if _has(pod["spec"], "automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"
    for key in ("serviceAccountName", "serviceAccount"):
        if (_has(pod["spec"], key) or "default") != "default":
            yield f"{key} is {pod['spec'][key]!r}, not the namespace's default one"


def _volumes(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    for volume in _parts(pod["spec"], "volumes"):
        kinds = [key for key, value in volume.items() if key != "name" and value is not None]
        if not kinds or not set(kinds) <= set(VOLUME_TYPES):
            yield f"volume {volume.get('name')} is of type {', '.join(kinds)}; allowed are {', '.join(VOLUME_TYPES)}"
        for source in _parts(_has(volume, "projected"), "sources"):
            kinds = [key for key, value in source.items() if value is not None]
            if not set(kinds) <= set(PROJECTED):
                yield f"volume {volume.get('name')} projects {', '.join(kinds)}; allowed are {', '.join(PROJECTED)}"


def _secrets(pod: Json, rules: PodRules) -> Iterator[str]:
    own, tokens = _own_secret(pod), _own_tokens(pod)
    for volume in _parts(pod["spec"], "volumes"):
        secret = _has(volume, "secret")
        # Tokens for other services are files and never variables.
        if secret is not None and secret.get("secretName") not in (own, tokens):
            yield f"volume {volume.get('name')} is the Secret {secret.get('secretName')!r}, not {own!r} or {tokens!r}"
    for name, part in _containers(pod):
        named = [_has(_has(item, "valueFrom"), "secretKeyRef") for item in _parts(part, "env")]
        named += [_has(item, "secretRef") for item in _parts(part, "envFrom")]
        if any(secret is not None and secret.get("name") != own for secret in named):
            yield f"container {name} reads another Secret than its own {own!r}"
    for secret in _parts(pod["spec"], "imagePullSecrets"):
        if secret.get("name") not in rules.pull_secrets:
            yield f"imagePullSecrets names {secret.get('name')!r}; allowed are {sorted(rules.pull_secrets)}"


def _ephemeral_containers(pod: Json, rules: PodRules) -> Iterator[str]:  # noqa: ARG001
    if _has(pod["spec"], "ephemeralContainers"):
        yield "it has ephemeral containers"


RULES: Mapping[str, Callable[[Json, PodRules], Iterator[str]]] = {
    "labels": _labels,
    "name": _name,
    "non-root": _non_root,
    "uid": _uid,
    "gid": _gid,
    "fs-group": _fs_group,
    "strict-groups": _strict_groups,
    "container-identity": _container_identity,
    "privileges": _privileges,
    "host": _host,
    "service-account": _service_account,
    "volumes": _volumes,
    "secrets": _secrets,
    "ephemeral-containers": _ephemeral_containers,
}
"""Name → rule, in the order in which the admission policy has them."""


def _allowed(value: Any, both: tuple[int, int], rules: PodRules) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    inside = both[0] <= value <= both[1] and value != 0
    return inside and not any(first <= value <= last for first, last in rules.reserved)


def _range(both: tuple[int, int]) -> str:
    return f"{both[0]} to {both[1]}"
