"""What becomes of each of KubeSpawner's settings: honoured, replaced by one of ours, or refused. Pure.

``docs/reference/kubernetes-backend.md`` shows this table, and a test compares both with the installed KubeSpawner.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from enum import StrEnum

from daas_hub.core.errors import ConfigError


class Fate(StrEnum):
    """What a setting of ``c.KubeSpawner`` does here."""

    HONOURED = "honoured"
    REPLACED = "replaced"
    REFUSED = "refused"


_HONOURED = (
    "common_labels",
    "component_label",
    "extra_annotations",
    "extra_container_config",
    "extra_containers",
    "extra_labels",
    "extra_pod_config",
    "extra_resource_guarantees",
    "extra_resource_limits",
    "image",
    "image_pull_policy",
    "image_pull_secrets",
    "init_containers",
    "lifecycle_hooks",
    "modify_pod_hook",
    "node_affinity_preferred",
    "node_affinity_required",
    "node_selector",
    "pod_affinity_preferred",
    "pod_affinity_required",
    "pod_anti_affinity_preferred",
    "pod_anti_affinity_required",
    "priority_class_name",
    "scheduler_name",
    "slug_scheme",
    "tolerations",
    "volume_mounts",
    "volumes",
    "working_dir",
)

_ACCOUNT = "the account decides who a server runs as"
_SECURITY = "every server has the same security context"
_VOLUMES = "homes are planned from the account and never deleted with a server"
_NAMES = "objects are named by the launch"
_HUB = "the hub does this itself"

_OTHERS: Mapping[str, tuple[Fate, str]] = {
    **dict.fromkeys(("uid", "gid", "fs_gid", "supplemental_gids"), (Fate.REFUSED, _ACCOUNT)),
    **dict.fromkeys(
        (
            "allow_privilege_escalation",
            "automount_service_account_token",
            "container_security_context",
            "enable_user_namespaces",
            "pod_security_context",
            "privileged",
            "service_account",
        ),
        (Fate.REFUSED, _SECURITY),
    ),
    **dict.fromkeys(
        ("delete_pvc", "pvc_name_template", "remember_pvc_name", "storage_pvc_ensure", "storage_selector"),
        (Fate.REFUSED, _VOLUMES),
    ),
    **dict.fromkeys(("storage_extra_annotations", "storage_extra_labels"), (Fate.REFUSED, _VOLUMES)),
    "storage_class": (Fate.REPLACED, "KubeBackend.storage_class"),
    "storage_capacity": (Fate.REPLACED, "KubeBackend.home_size"),
    "storage_access_modes": (Fate.REPLACED, "KubeBackend.access_modes"),
    "namespace": (Fate.REPLACED, "KubeBackend.namespace"),
    "delete_grace_period": (Fate.REPLACED, "KubeBackend.stop_grace_s"),
    "profile_list": (Fate.REPLACED, "DaasSpawner.profile_list"),
    "k8s_api_host": (Fate.REPLACED, "KubeBackend.kubeconfig"),
    "k8s_api_ssl_ca_cert": (Fate.REPLACED, "KubeBackend.kubeconfig"),
    "k8s_api_verify_ssl": (Fate.REPLACED, "KubeBackend.kubeconfig"),
    "hub_connect_ip": (Fate.REPLACED, "JupyterHub.hub_connect_url"),
    "hub_connect_port": (Fate.REPLACED, "JupyterHub.hub_connect_url"),
    **dict.fromkeys(
        (
            "dns_name_template",
            "handle_legacy_names",
            "pod_name_template",
            "secret_mount_path",
            "secret_name_template",
            "user_namespace_annotations",
            "user_namespace_labels",
            "user_namespace_template",
        ),
        (Fate.REFUSED, _NAMES),
    ),
    **dict.fromkeys(
        (
            "additional_profile_form_template_paths",
            "after_pod_created_hook",
            "delete_stopped_pods",
            "events_enabled",
            "get_pod_url",
            "k8s_api_request_retry_timeout",
            "k8s_api_request_timeout",
            "k8s_api_threadpool_workers",
            "pod_connect_ip",
            "profile_form_template",
            "services_enabled",
            "slow_spawn_message",
            "slow_spawn_message_frequency",
            "slow_spawn_message_threshold",
        ),
        (Fate.REFUSED, _HUB),
    ),
}

TABLE: Mapping[str, tuple[Fate, str]] = {**dict.fromkeys(_HONOURED, (Fate.HONOURED, "")), **_OTHERS}
"""Setting → what becomes of it, and by what it is replaced or why it is refused."""


def check(given: Collection[str], *, known_elsewhere: Collection[str]) -> None:
    """Raise ConfigError where ``c.KubeSpawner`` has what is not honoured here.

    ``known_elsewhere``: settings of every spawner, which have the meaning that JupyterHub gives them.
    """
    problems = []
    for name in sorted(given):
        fate, why = TABLE.get(name, (None, ""))
        if fate is Fate.REPLACED:
            problems.append(f"KubeSpawner.{name} has no effect here: set {why}.")
        elif fate is Fate.REFUSED:
            problems.append(f"KubeSpawner.{name} cannot be set here: {why}.")
        elif fate is None and name not in known_elsewhere:
            near = difflib.get_close_matches(name, TABLE, n=1)
            problems.append(f"KubeSpawner.{name} is unknown.{f' Was {near[0]} meant?' if near else ''}")
    if problems:
        raise ConfigError(" ".join(problems))
