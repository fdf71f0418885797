"""A good pod as the backend submits it, and what must not become of it: each change alone, with the rule it breaks."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from traitlets.config import Config

from daas_hub.backends import kube_pod
from daas_hub.backends.child import build_pod
from daas_hub.core.models import Account, AccountGroup, LaunchSpec, Resources
from daas_hub.core.pod_rules import PodRules

Json = dict[str, Any]
UID, GID, EXTRA_GID, DENIED_GID, RESERVED = 20001, 20001, 20002, 31337, (60001, 60577)
LAUNCH = "0123456789abcdef0123456789abcdef"
RULES = PodRules(
    hub_id="hub",
    uids=(1000, 2**31 - 1),
    gids=(100, 2**31 - 1),
    reserved=(RESERVED, (65520, 65535)),
    denied_gids=frozenset({DENIED_GID}),
    pull_secrets=frozenset({"registry"}),
)
"""As the chart is installed for the tests of its policies."""


def launch_spec() -> LaunchSpec:
    """One launch of one account."""
    account = Account(
        id="a" * 32,
        name="zora",
        uid=UID,
        gid=GID,
        groups=(AccountGroup("zora", GID), AccountGroup("crew", EXTRA_GID)),
        home="/home/zora",
        shell="/bin/bash",
        source="test",
        fetched_at=datetime.now(UTC),
    )
    return LaunchSpec(
        launch_id=LAUNCH,
        hub_id="hub",
        account=account,
        user_name="zora",
        server_name="",
        resources=Resources(cpu_limit=1, mem_limit_bytes=2**30),
        cmd=("jupyterhub-singleuser",),
        environment={"JUPYTERHUB_USER": "zora"},
        secrets={"JUPYTERHUB_API_TOKEN": "a token"},
        mounts=(),
        service_prefix="/user/zora/",
    )


@cache
def _built(namespace: str) -> Json:
    spec = launch_spec()
    config = Config()
    config.KubeSpawner.init_containers = [{"name": "first", "image": "example.org/first:1"}]
    config.KubeSpawner.image = "example.org/lab:1"
    made = asyncio.run(build_pod(spec, config=config, gpu_resource="example.org/gpu"))
    names = kube_pod.names_of(spec, namespace)
    return kube_pod.own(made, spec, names, [kube_pod.Claim("daas-home", spec.account.home)], kube_pod.Rules())


def good_pod(namespace: str = "daas-users") -> Json:
    """The backend's own, fresh at each call."""
    return copy.deepcopy(_built(namespace))


# ---------------------------------------------------------------- changes

Change = Callable[[Json], None]
GONE = object()


def put(path: str, value: Any = GONE) -> Change:
    """Set what stands at the path, or remove it. Numbers count in lists, "+" appends to one, made if there is none."""

    def change(pod: Json) -> None:
        *way, last = path.split("/")
        here: Any = pod
        way, last = [step.replace("~", "/") for step in way], last.replace("~", "/")
        for step, following in zip(way, [*way[1:], last], strict=True):
            if isinstance(here, list):
                here = here[int(step)]
                continue
            if here.get(step) is None:
                if following.isdecimal():
                    raise KeyError(path)  # a part of a list that another change took away
                here[step] = [] if following == "+" else {}
            here = here[step]
        if last == "+":
            here.append(value)
        elif value is GONE:
            del here[int(last) if isinstance(here, list) else last]
        else:
            here[int(last) if isinstance(here, list) else last] = value

    return change


def both(*changes: Change) -> Change:
    """All of them: one thing that must be said in two places."""

    def change(pod: Json) -> None:
        for each in changes:
            each(pod)

    return change


def volume(kind: str, **source: Any) -> Change:
    """One more volume."""
    return put("spec/volumes/+", {"name": "more", kind: source})


def projected(**source: Any) -> Change:
    """One more projected volume of that one source."""
    return volume("projected", sources=[source])


def uid(number: int) -> Change:
    """Run as another uid, and say so."""
    return both(put(f"{SC}/runAsUser", number), put(f"{NOTES}/daas-hub~uid", str(number)))


def own_secret() -> str:
    """The name of the launch's own Secret."""
    return f"{good_pod()['metadata']['name']}-secret"


def own_tokens() -> str:
    """The name of the Secret with tokens for other services, which a pod may mount and not have as variables."""
    return f"{good_pod()['metadata']['name']}-tokens"


SC, NOTES, LABELS = "spec/securityContext", "metadata/annotations", "metadata/labels"
ONE, FIRST = "spec/containers/0", "spec/initContainers/0"


@dataclass(frozen=True)
class Mutation:
    """A change that must be refused, by the name of the rule that it breaks."""

    name: str
    rule: str
    change: Change

    def pod(self, namespace: str = "daas-users") -> Json:
        """The good pod with this change alone."""
        pod = good_pod(namespace)
        self.change(pod)
        return pod


_ROWS: dict[str, dict[str, Change]] = {
    "labels": {
        "another-hub": put(f"{LABELS}/daas-hub~hub", "other"),
        "no-hub": put(f"{LABELS}/daas-hub~hub"),
        "no-launch": put(f"{LABELS}/daas-hub~launch"),
        "empty-account": put(f"{LABELS}/daas-hub~account", ""),
        "another-component": put(f"{LABELS}/daas-hub~component", "hub"),
        "no-labels": put(LABELS, {}),
    },
    "name": {"another-name": put("metadata/name", "zora")},
    "non-root": {
        "run-as-non-root-false": put(f"{SC}/runAsNonRoot", False),
        "run-as-non-root-unset": put(f"{SC}/runAsNonRoot"),
        "no-context": put(SC, {}),
    },
    "uid": {
        "uid-0": uid(0),
        "uid-below-range": uid(999),
        "uid-reserved-first": uid(RESERVED[0]),
        "uid-reserved-last": uid(RESERVED[1]),
        "uid-nobody": uid(65534),
        "uid-unset": put(f"{SC}/runAsUser"),
        "uid-not-as-noted": put(f"{SC}/runAsUser", UID + 1),
        "uid-not-noted": put(f"{NOTES}/daas-hub~uid"),
    },
    "gid": {
        "gid-0": both(put(f"{SC}/runAsGroup", 0), put(f"{SC}/fsGroup", 0)),
        "gid-unset": put(f"{SC}/runAsGroup"),
        "gid-below-range": both(put(f"{SC}/runAsGroup", 99), put(f"{SC}/fsGroup", 99)),
        "gid-denied": both(put(f"{SC}/runAsGroup", DENIED_GID), put(f"{SC}/fsGroup", DENIED_GID)),
        "group-0": put(f"{SC}/supplementalGroups/+", 0),
        "group-below-range": put(f"{SC}/supplementalGroups/+", 42),
        "group-denied": put(f"{SC}/supplementalGroups/+", DENIED_GID),
        "group-reserved": put(f"{SC}/supplementalGroups", [RESERVED[0] + 1]),
        "fs-group-0": put(f"{SC}/fsGroup", 0),
        "fs-group-denied": put(f"{SC}/fsGroup", DENIED_GID),
    },
    "fs-group": {"fs-group-of-another": put(f"{SC}/fsGroup", EXTRA_GID)},
    "strict-groups": {
        "groups-merge": put(f"{SC}/supplementalGroupsPolicy", "Merge"),
        "groups-policy-unset": put(f"{SC}/supplementalGroupsPolicy"),
    },
    "container-identity": {
        "container-uid": put(f"{ONE}/securityContext/runAsUser", UID + 1),
        "container-uid-0": both(
            put(f"{ONE}/securityContext/runAsUser", 0), put(f"{ONE}/securityContext/runAsNonRoot", False)
        ),
        "container-gid": put(f"{ONE}/securityContext/runAsGroup", EXTRA_GID),
        "container-may-be-root": put(f"{ONE}/securityContext/runAsNonRoot", False),
        "init-container-uid": put(f"{FIRST}/securityContext/runAsUser", UID + 1),
        "init-container-gid": put(f"{FIRST}/securityContext/runAsGroup", 0),
        "container-selinux": put(f"{ONE}/securityContext/seLinuxOptions", {"level": "s0:c1,c2"}),
        "container-windows-user": put(f"{ONE}/securityContext/windowsOptions", {"runAsUserName": "x"}),
        "selinux": put(f"{SC}/seLinuxOptions", {"level": "s0:c1,c2"}),
        "windows-user": put(f"{SC}/windowsOptions", {"runAsUserName": "ContainerAdministrator"}),
    },
    "privileges": {
        "privileged": both(
            put(f"{ONE}/securityContext/privileged", True),
            put(f"{ONE}/securityContext/allowPrivilegeEscalation", True),
        ),
        "escalation": put(f"{ONE}/securityContext/allowPrivilegeEscalation", True),
        "escalation-unset": put(f"{FIRST}/securityContext/allowPrivilegeEscalation"),
        "capability-added": put(f"{ONE}/securityContext/capabilities/add", ["NET_BIND_SERVICE"]),
        "capabilities-kept": put(f"{ONE}/securityContext/capabilities/drop", ["SETUID"]),
        "init-capabilities-kept": put(f"{FIRST}/securityContext/capabilities"),
        "no-container-context": put(f"{ONE}/securityContext"),
        "seccomp-unconfined": put(f"{SC}/seccompProfile/type", "Unconfined"),
        "seccomp-unset": put(f"{SC}/seccompProfile"),
        "container-seccomp": put(f"{ONE}/securityContext/seccompProfile", {"type": "Unconfined"}),
        "sysctl": put(f"{SC}/sysctls", [{"name": "net.ipv4.ping_group_range", "value": "0 0"}]),
        "proc-unmasked": both(put("spec/hostUsers", False), put(f"{ONE}/securityContext/procMount", "Unmasked")),
    },
    "host": {
        "host-network": put("spec/hostNetwork", True),
        "host-pid": put("spec/hostPID", True),
        "host-ipc": put("spec/hostIPC", True),
        "user-namespace": put("spec/hostUsers", False),
        "host-port": put(f"{ONE}/ports", [{"containerPort": 8888, "hostPort": 8888}]),
    },
    "service-account": {
        "token-mounted": put("spec/automountServiceAccountToken", True),
        "token-unset": put("spec/automountServiceAccountToken"),
        "another-account": put("spec/serviceAccountName", "operator"),
        "another-account-by-its-old-name": put("spec/serviceAccount", "operator"),
    },
    "volumes": {
        "host-path": volume("hostPath", path="/etc"),
        "nfs": volume("nfs", server="nas.example.org", path="/export"),
        "csi": volume("csi", driver="secrets.example.org"),
        "iscsi": volume("iscsi", targetPortal="192.0.2.1", iqn="iqn.2001-04.org.example:disk", lun=0),
        "fc": volume("fc", targetWWNs=["50060e801049cfd1"], lun=0),
        "token-projected": projected(serviceAccountToken={"path": "token", "audience": "other"}),
        "secret-projected": projected(secret={"name": "other"}),
        "own-secret-projected": projected(secret={"name": own_secret()}),
    },
    "secrets": {
        "secret-mounted": volume("secret", secretName="other-secret"),
        "secret-of-another-launch": volume("secret", secretName="daas-bob-0000-secret"),
        "tokens-of-another-launch": volume("secret", secretName="daas-bob-0000-tokens"),
        "own-tokens-env": put(
            f"{ONE}/env/+", {"name": "X", "valueFrom": {"secretKeyRef": {"name": own_tokens(), "key": "x"}}}
        ),
        "own-tokens-env-from": put(f"{FIRST}/envFrom/+", {"secretRef": {"name": own_tokens()}}),
        "secret-env": put(f"{ONE}/env/+", {"name": "X", "valueFrom": {"secretKeyRef": {"name": "other", "key": "x"}}}),
        "secret-env-from": put(f"{ONE}/envFrom/+", {"secretRef": {"name": "other", "optional": True}}),
        "init-secret-env": put(
            f"{FIRST}/env/+", {"name": "X", "valueFrom": {"secretKeyRef": {"name": "other", "key": "x"}}}
        ),
        "pull-secret": put("spec/imagePullSecrets/+", {"name": "other"}),
        "another-name-another-secret": put("metadata/name", "daas-bob-0000"),
    },
}

MUTATIONS = [Mutation(name, rule, change) for rule, changes in _ROWS.items() for name, change in changes.items()]

HARMLESS: dict[str, Change] = {
    "nothing": both(),
    "read-only-root": put(f"{ONE}/securityContext/readOnlyRootFilesystem", True),
    "label": put(f"{LABELS}/team", "astro"),
    "note": put(f"{NOTES}/example.org~note", "yes"),
    "no-fs-group": both(put(f"{SC}/fsGroup"), put(f"{SC}/fsGroupChangePolicy")),
    "no-groups": put(f"{SC}/supplementalGroups"),
    "no-init-container": put("spec/initContainers"),
    "lowest-ids": both(
        uid(1000), put(f"{SC}/runAsGroup", 100), put(f"{SC}/fsGroup", 100), put(f"{SC}/supplementalGroups/+", 100)
    ),
    "highest-ids": both(uid(2**31 - 1), put(f"{SC}/supplementalGroups/+", 2**31 - 1)),
    "beside-the-reserved": both(uid(RESERVED[0] - 1), put(f"{SC}/supplementalGroups/+", RESERVED[1] + 1)),
    "default-account": put("spec/serviceAccountName", "default"),
    "config-map": volume("configMap", name="site"),
    "claim": volume("persistentVolumeClaim", claimName="shared"),
    "downward": volume("downwardAPI", items=[{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]),
    "scratch": volume(
        "ephemeral",
        volumeClaimTemplate={"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    ),
    "projected": projected(configMap={"name": "site"}),
    "projected-downward": projected(
        downwardAPI={"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    ),
    "own-secret-env": put(
        f"{ONE}/env/+", {"name": "X", "valueFrom": {"secretKeyRef": {"name": own_secret(), "key": "x"}}}
    ),
    "config-map-env": put(f"{ONE}/envFrom/+", {"configMapRef": {"name": "site"}}),
    "own-tokens": volume("secret", secretName=own_tokens(), optional=True),
    "pull-secret": put("spec/imagePullSecrets/+", {"name": "registry"}),
    "sidecar": put(
        "spec/containers/+",
        {
            "name": "sidecar",
            "image": "example.org/sidecar:1",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        },
    ),
    "port": put(f"{ONE}/ports", [{"containerPort": 8888}]),
    "toleration": put("spec/tolerations/+", {"key": "gpu", "operator": "Exists"}),
    "node": put("spec/nodeSelector", {"disk": "ssd"}),
}
"""Changes that a site may make by KubeSpawner's settings: both the function and the cluster accept each."""
