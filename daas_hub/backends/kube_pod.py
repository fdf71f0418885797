"""What is ours of a pod: who it runs as, what it is called, what it mounts. Pure: a spec in, manifests out.

The pod that KubeSpawner would build comes from ``child.py``; here the owned keys (design.md §6) are laid over it, last,
so that no setting, hook or profile can change them. The result meets Pod Security *restricted* (Kubernetes' "Pod
Security Standards").
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from daas_hub.core.models import Account, Handle, Json, LaunchSpec
from daas_hub.core.naming import safe_name
from daas_hub.core.pods import SERVER
from daas_hub.core.recall import launch_note
from daas_hub.core.site_tokens import VARIABLE

VERSION = 1
PREFIX = "daas-hub"
"""Of our labels and annotations: a DNS subdomain in the API's sense, which needs no owner."""
HUB, LAUNCH, ACCOUNT, COMPONENT = (f"{PREFIX}/{word}" for word in ("hub", "launch", "account", "component"))
VOLUME = f"{PREFIX}/volume"
UID = f"{PREFIX}/uid"
NOTE = f"{PREFIX}/note"
"""What is told of the account and the launch where the ledger is gone (``core/recall.py``)."""
TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105  the name of a variable
FILES = "daas-files"
SECRET = "daas-secret"  # noqa: S105  the name of a volume
SCRATCH = "daas-scratch"
TMP = "daas-tmp"
SITE_TOKENS, SITE_TOKENS_AT = "daas-site-tokens", "/run/daas-hub/site-tokens"
TLS, TLS_AT = "daas-tls", "/run/daas-hub/tls"
TLS_FILES = {"keyfile": "JUPYTERHUB_SSL_KEYFILE", "certfile": "JUPYTERHUB_SSL_CERTFILE"}
TLS_FILES["cafile"] = "JUPYTERHUB_SSL_CLIENT_CA"
"""Keys of the Secret, and files there → the server's variable that names each."""
FILES_AT, SECRET_AT, SCRATCH_AT = "/etc/daas-hub", "/run/daas-hub/secret", "/run/daas-hub/own"
MAX_NFS_GROUPS = 16
"""AUTH_SYS carries no more groups than that (RFC 5531, section 8.2)."""


@dataclass(frozen=True)
class Claim:
    """One mounted claim of a pod."""

    name: str
    path: str
    read_only: bool = False
    dynamic: bool = True
    """The cluster made it for this account; a folder of the site is not touched by kubelet."""


@dataclass(frozen=True)
class Names:
    """What the objects of one launch are called: by its id, so that no old pod is in a new one's way."""

    namespace: str
    pod: str

    @property
    def secret(self) -> str:
        return f"{self.pod}-secret"

    @property
    def site_tokens(self) -> str:
        return f"{self.pod}-tokens"

    @property
    def files(self) -> str:
        return f"{self.pod}-files"


@dataclass(frozen=True)
class Rules:
    """What the site's settings say about every pod."""

    strict_groups: bool = True
    """The cluster knows ``supplementalGroupsPolicy`` (beta in 1.33, GA in 1.35)."""
    fs_group: bool = True
    """Kubelet may give the root folders of claims her gid, where all of the pod's are dynamic ones."""
    read_only_root: bool = False
    service: str = ""
    """The headless Service by which each pod has a DNS name of its own; for servers with certificates."""
    labels: Mapping[str, str] = field(default_factory=dict)


def names_of(spec: LaunchSpec, namespace: str) -> Names:
    """Readable by an operator, unique by the launch."""
    person = safe_name(spec.user_name, spec.server_name, limit=34) if spec.server_name else spec.user_name
    return Names(namespace, f"daas-{safe_name(person, limit=34)}-{spec.launch_id[:12]}")


def host_of(names: Names, service: str) -> str:
    """The DNS name of a pod (Kubernetes, "DNS for Services and Pods"): good for its launch alone, whatever its IP."""
    return f"{names.pod}.{service}.{names.namespace}.svc"


def labels_of(spec: LaunchSpec) -> dict[str, str]:
    """By which our objects are found, and by whose launch they are judged."""
    return {
        HUB: spec.hub_id,
        LAUNCH: spec.launch_id,
        ACCOUNT: spec.account.id,
        COMPONENT: "server",
    }


def group_ids(account: Account) -> list[int]:
    """All gids but the primary one, once each, in the order of the account."""
    return list(dict.fromkeys(group.gid for group in account.groups if group.gid != account.gid))


def warnings_of(account: Account, rules: Rules, claims: Sequence[Claim] = ()) -> list[str]:
    """What the person and the operator should know about the groups and volumes of this server."""
    warnings = []
    if not rules.strict_groups:
        warnings.append(
            "groups_not_strict: this cluster ignores supplementalGroupsPolicy, so an image's /etc/group may add groups"
        )
    if len(group_ids(account)) + 1 > MAX_NFS_GROUPS:
        warnings.append(
            f"many_groups: {account.name} has {len(group_ids(account)) + 1} groups; NFS with AUTH_SYS carries the "
            f"first {MAX_NFS_GROUPS}"
        )
    if made := [claim.path for claim in claims if claim.dynamic]:
        beside = [claim.path for claim in claims if not claim.dynamic]
        if beside and rules.fs_group:
            warnings.append(
                f"no_fs_group: {', '.join(made)} stays whose it is, because {', '.join(beside)} is the site's folder"
            )
    return warnings


# ---------------------------------------------------------------- the pod


def own(pod: Json, spec: LaunchSpec, names: Names, claims: Sequence[Claim], rules: Rules) -> Json:
    """The pod with all owned keys set. ``pod`` stays as it is."""
    pod = copy.deepcopy(pod)
    meta, body = pod.setdefault("metadata", {}), pod["spec"]
    meta["name"], meta["namespace"] = names.pod, names.namespace
    meta["labels"] = {**(meta.get("labels") or {}), **rules.labels, **labels_of(spec)}
    meta["annotations"] = {**(meta.get("annotations") or {}), **annotations_of(spec)}
    for key in ("ownerReferences", "finalizers", "generateName"):
        meta.pop(key, None)
    _security(body, spec, replace(rules, fs_group=rules.fs_group and all_dynamic(body, claims)))
    # A server that has ended has ended: restarted without its kernels it would look as if nothing had happened.
    body["restartPolicy"] = "Never"
    body["enableServiceLinks"] = False
    if spec.certificates:
        body["hostname"], body["subdomain"] = names.pod, rules.service
    server = next(part for part in body["containers"] if part["name"] == SERVER)
    if not (server.get("lifecycle") or {}):
        server.pop("lifecycle", None)
    # The launcher goes to the folder itself: kubelet would make a missing one as root.
    folder = server.pop("workingDir", None) or spec.account.home
    server["args"] = ["/bin/sh", f"{FILES_AT}/launch", folder, *spec.cmd]
    server["env"] = _env(server.get("env") or [], spec)
    _volumes(body, server, spec, names, claims)
    if rules.read_only_root:
        _writable_tmp(body, server)
    return pod


def all_dynamic(body: Json, claims: Sequence[Claim]) -> bool:
    """Whether the cluster made every claim that a pod mounts, those of KubeSpawner's settings (not ours) included.

    Kubelet gives fsGroup to all or to none, and where it does, it walks through the whole folder and changes it.
    """
    ours = {claim.name for claim in claims if claim.dynamic}
    named = [volume.get("persistentVolumeClaim") for volume in body.get("volumes") or ()]
    return all(claim.dynamic for claim in claims) and all(one.get("claimName") in ours for one in named if one)


def _security(body: Json, spec: LaunchSpec, rules: Rules) -> None:
    account = spec.account
    context: Json = {
        "runAsUser": account.uid,
        "runAsGroup": account.gid,
        "runAsNonRoot": True,
        "supplementalGroups": group_ids(account),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if rules.strict_groups:
        context["supplementalGroupsPolicy"] = "Strict"
    if rules.fs_group:
        context |= {"fsGroup": account.gid, "fsGroupChangePolicy": "OnRootMismatch"}
    body["securityContext"] = context
    for key in ("serviceAccountName", "serviceAccount", "hostNetwork", "hostPID", "hostIPC", "hostUsers"):
        body.pop(key, None)
    body["automountServiceAccountToken"] = False
    for part in (*body["containers"], *(body.get("initContainers") or ())):
        given = part.get("securityContext") or {}
        part["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": rules.read_only_root or bool(given.get("readOnlyRootFilesystem")),
        }


def annotations_of(spec: LaunchSpec) -> dict[str, str]:
    """What is told of the launch where the ledger is gone (``daas-hub adopt``): no secret among it."""
    account = spec.account
    return {
        f"{PREFIX}/user": spec.user_name,
        f"{PREFIX}/server": spec.server_name,
        UID: str(account.uid),
        f"{PREFIX}/prefix": spec.service_prefix,
        NOTE: launch_note(spec),
    }


def _env(given: Sequence[Json], spec: LaunchSpec) -> list[Json]:
    """The server's variables; ours come last, and no secret is among them."""
    account = spec.account
    tls = {variable: f"{TLS_AT}/{kind}" for kind, variable in TLS_FILES.items()} if spec.certificates else {}
    ours = {
        **tls,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "JUPYTERHUB_SERVICE_URL": f"{'https' if tls else 'http'}://0.0.0.0:{PORT}{spec.service_prefix}",
        "JUPYTER_RUNTIME_DIR": f"{SCRATCH_AT}/runtime",
        "JUPYTER_DATA_DIR": f"{SCRATCH_AT}/data",
        "JUPYTER_CONFIG_DIR": f"{SCRATCH_AT}/config",
        "JUPYTERLAB_SETTINGS_DIR": f"{SCRATCH_AT}/lab/user-settings",
        "JUPYTERLAB_WORKSPACES_DIR": f"{SCRATCH_AT}/lab/workspaces",
        "IPYTHONDIR": f"{SCRATCH_AT}/ipython",
        "DAAS_LAUNCH_ID": spec.launch_id,
        **({VARIABLE: SITE_TOKENS_AT} if spec.site_tokens else {}),
    }
    kept = [item for item in given if item["name"] not in ours and item["name"] not in spec.secrets]
    joined = {item["name"]: item.get("value") for item in kept}
    # What she installed and configured in her home still counts.
    for name, folder in (("JUPYTER_PATH", ".local/share/jupyter"), ("JUPYTER_CONFIG_PATH", ".jupyter")):
        first, rest = f"{account.home}/{folder}", joined.get(name)
        kept = [item for item in kept if item["name"] != name]
        ours[name] = f"{first}:{rest}" if rest else first
    # Kubernetes would read "$(NAME)" as another variable.
    return [*kept, *({"name": name, "value": value.replace("$(", "$$(")} for name, value in ours.items())]


PORT = 8888


def _volumes(body: Json, server: Json, spec: LaunchSpec, names: Names, claims: Sequence[Claim]) -> None:
    """Our volumes and mounts; what KubeSpawner's settings mount stays, but for places that are ours."""
    volumes: list[Json] = [
        {"name": FILES, "configMap": {"name": names.files, "defaultMode": 0o444}},
        {"name": SECRET, "secret": {"secretName": names.secret, "defaultMode": 0o444}},
        {"name": SCRATCH, "emptyDir": {}},
    ]
    mounts: list[Json] = [
        {"name": FILES, "mountPath": FILES_AT, "readOnly": True},
        {"name": FILES, "mountPath": "/etc/passwd", "subPath": "passwd", "readOnly": True},
        {"name": FILES, "mountPath": "/etc/group", "subPath": "group", "readOnly": True},
        {"name": SECRET, "mountPath": SECRET_AT, "readOnly": True},
        {"name": SCRATCH, "mountPath": SCRATCH_AT},
    ]
    if spec.certificates:
        # One Secret, two places: what the launcher makes variables of, and files.
        volumes[1]["secret"]["items"] = [{"key": name, "path": name} for name in spec.secrets]
        files = [{"key": kind, "path": kind} for kind in TLS_FILES]
        volumes.append({"name": TLS, "secret": {"secretName": names.secret, "defaultMode": 0o444, "items": files}})
        mounts.append({"name": TLS, "mountPath": TLS_AT, "readOnly": True})
    if spec.site_tokens:
        # Optional: no server waits for it.
        given = {"secretName": names.site_tokens, "defaultMode": 0o444, "optional": True}
        volumes.append({"name": SITE_TOKENS, "secret": given})
        mounts.append({"name": SITE_TOKENS, "mountPath": SITE_TOKENS_AT, "readOnly": True})
    for number, claim in enumerate(claims):
        name = f"daas-volume-{number}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim.name}})
        mounts.append({"name": name, "mountPath": claim.path, **({"readOnly": True} if claim.read_only else {})})
    ours = {volume["name"] for volume in volumes}
    places = {mount["mountPath"] for mount in mounts}
    body["volumes"] = [v for v in body.get("volumes") or () if v["name"] not in ours] + volumes
    kept = [m for m in server.get("volumeMounts") or () if m["mountPath"] not in places and m["name"] not in ours]
    server["volumeMounts"] = kept + mounts


def _writable_tmp(body: Json, server: Json) -> None:
    """Hardly any program does without /tmp; what a profile or the site mounts there stays."""
    if any(mount["mountPath"].rstrip("/") == "/tmp" for mount in server["volumeMounts"]):  # noqa: S108
        return
    body["volumes"].append({"name": TMP, "emptyDir": {}})
    server["volumeMounts"].append({"name": TMP, "mountPath": "/tmp"})  # noqa: S108


# ---------------------------------------------------------------- its handle


def handle_of(
    spec: LaunchSpec, names: Names, *, pod_uid: str | None, warnings: Sequence[str], service: str = ""
) -> Handle:
    """What is saved: enough to find, judge and stop the server from any process of the hub."""
    return {
        "backend": "kubernetes",
        "version": VERSION,
        "launch_id": spec.launch_id,
        "namespace": names.namespace,
        "pod": names.pod,
        "pod_uid": pod_uid,
        "uid": spec.account.uid,
        "service_prefix": spec.service_prefix,
        "memory_bytes": spec.resources.mem_limit_bytes,
        "site_tokens": spec.site_tokens,
        "host": host_of(names, service) if spec.certificates else None,
        "warnings": list(warnings),
    }


def handle_from(pod: Mapping[str, Any]) -> Handle | None:
    """The handle of a pod that was found, from what it says itself; None where it is not one of ours."""
    meta = pod["metadata"]
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    uid, body = notes.get(UID, ""), pod.get("spec") or {}
    if LAUNCH not in labels or not uid.isdigit():
        return None
    return {
        "backend": "kubernetes",
        "version": VERSION,
        "launch_id": labels[LAUNCH],
        "namespace": meta["namespace"],
        "pod": meta["name"],
        "pod_uid": meta["uid"],
        "uid": int(uid),
        "service_prefix": notes.get(f"{PREFIX}/prefix", ""),
        "memory_bytes": None,
        "site_tokens": any(v["name"] == SITE_TOKENS for v in body.get("volumes") or ()),
        "host": _host_in(body, Names(meta["namespace"], meta["name"])),
        "warnings": [],
    }


def _host_in(body: Mapping[str, Any], names: Names) -> str | None:
    """The name that the server's certificate is for; None where it has none."""
    if any(volume["name"] == TLS for volume in body.get("volumes") or ()):
        return host_of(names, str(body.get("subdomain") or ""))
    return None


def names_in(handle: Handle) -> Names:
    """The names in a handle; raises ValueError where it is not one of ours, in a form that we know."""
    if handle.get("backend") != "kubernetes" or handle.get("version") != VERSION:
        raise ValueError(f"not a handle of this version of the Kubernetes backend: {handle.get('version')!r}")
    namespace, pod = handle.get("namespace"), handle.get("pod")
    if not isinstance(namespace, str) or not isinstance(pod, str):
        raise ValueError(f"the handle names no pod: {namespace!r}, {pod!r}")
    return Names(namespace, pod)
