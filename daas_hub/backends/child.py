"""An upstream spawner as a builder: it is asked what it *would* submit, and never submits anything.

The only module of the backends that knows JupyterHub. Every shaping setting (``c.KubeSpawner.*``) and every override
of a profile works as upstream documents it; what is ours is laid over the result afterwards (``kube_pod.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from jupyterhub.spawner import Spawner
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from kubespawner.utils import recursive_update
from traitlets.config import Config

from daas_hub.core.errors import ConfigError, StartFailed
from daas_hub.core.layers import BESIDE
from daas_hub.core.models import Json, LaunchSpec

from .kube_traits import check

PORT = 8888
"""KubeSpawner's own default."""

_plain: Callable[[Any, object], Any] = ApiClient.sanitize_for_serialization


class _Types:
    """What the library's serializer reads of its client; a client would open connections."""

    PRIMITIVE_TYPES = ApiClient.PRIMITIVE_TYPES

    def sanitize_for_serialization(self, model: object) -> Any:
        return _plain(self, model)


class PodBuilder(KubeSpawner):
    """A KubeSpawner that connects to nothing. Made for one launch, asked once.

    Upstream's constructor loads a kubeconfig and opens a client; this one computes the same names and does neither.
    ``tests/contracts/test_pod_like_upstream.py`` compares its pods with those of an unmodified KubeSpawner.
    """

    launch_environment: Mapping[str, str] = {}

    def __init__(self, **kwargs: Any) -> None:
        super(KubeSpawner, self).__init__(**kwargs)
        self.pod_name = self._expand_user_properties(self.pod_name_template)
        self.dns_name = self.dns_name_template.format(namespace=self.namespace, name=self.pod_name)
        self.secret_name = self._expand_user_properties(self.secret_name_template)
        self.pvc_name = self._expand_user_properties(self.pvc_name_template)
        traits: Any = self
        if traits.working_dir:
            traits.working_dir = self._expand_user_properties(traits.working_dir)
        traits.port = traits.port or PORT

    def get_args(self) -> list[str]:
        """None: the launch's argv has them already."""
        return []

    def get_env(self) -> dict[str, Any]:
        """KubeSpawner's own variables, under those of the launch."""
        image = {"JUPYTER_IMAGE_SPEC": self.image, "JUPYTER_IMAGE": self.image}
        return {**image, **self._expand_env(self.environment), **self.launch_environment}


def check_settings(config: Config) -> None:
    """Raise ConfigError where ``c.KubeSpawner`` sets what is not honoured here; nothing is silently ignored."""
    known = set(Spawner.class_trait_names(config=True))
    check(set(config.get("KubeSpawner", {})), known_elsewhere=known)


async def build_pod(spec: LaunchSpec, *, config: Config, gpu_resource: str) -> Json:
    """The pod that an unmodified KubeSpawner would submit for this launch, as JSON.

    Raises ConfigError where a setting or an override is not one of KubeSpawner's.
    """
    child = _child(spec, config)
    _apply(child, spec.override)
    resources = spec.resources
    child.cpu_limit, child.cpu_guarantee = resources.cpu_limit, resources.cpu_guarantee
    child.mem_limit, child.mem_guarantee = resources.mem_limit_bytes, resources.mem_guarantee_bytes
    if resources.gpus:
        child.extra_resource_limits = {**child.extra_resource_limits, gpu_resource: str(resources.gpus)}
        child.extra_resource_guarantees = {**child.extra_resource_guarantees, gpu_resource: str(resources.gpus)}
    child.cmd = list(spec.cmd)
    child.launch_environment = spec.environment
    try:
        pod = await child.get_pod_manifest()
        if child.modify_pod_hook is not None:
            answer = child.modify_pod_hook(child, pod)
            pod = await answer if hasattr(answer, "__await__") else answer
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StartFailed(
            "The server's pod cannot be built from this profile. Ask the administrator.",
            permanent=True,
            reason="pod_settings",
            log_message=f"KubeSpawner cannot build the pod of launch {spec.launch_id}: {type(error).__name__}: {error}",
        ) from error
    made: Json = _plain(_Types(), pod)
    return made


def _child(spec: LaunchSpec, config: Config) -> PodBuilder:
    """Given the hub's own spawner it has that one's user and hub, so that hooks find what upstream documents."""
    origin: Any = spec.origin
    if origin is not None:
        given = {"user": origin.user, "orm_spawner": origin.orm_spawner, "hub": origin.hub, "parent": origin.parent}
        return PodBuilder(config=config, authenticator=origin.authenticator, user_options=origin.user_options, **given)
    user = SimpleNamespace(name=spec.user_name, id=spec.account.id, url=spec.service_prefix, groups=[])
    return PodBuilder(config=config, user=user, orm_spawner=SimpleNamespace(name=spec.server_name, server=None))


def _apply(child: PodBuilder, override: Mapping[str, Any]) -> None:
    """The profile's ``kubespawner_override``: dicts merge, all else replaces, as KubeSpawner does it."""
    for key, value in override.items():
        if key in BESIDE:
            continue
        if not child.has_trait(key):
            raise ConfigError(
                f"kubespawner_override has {key!r}, which KubeSpawner does not know. Ask the administrator."
            )
        there = getattr(child, key)
        if isinstance(value, dict) and isinstance(there, dict):
            recursive_update(there, value)
        else:
            setattr(child, key, value)
