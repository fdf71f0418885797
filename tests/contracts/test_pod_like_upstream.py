"""Our pods beside those of an unmodified KubeSpawner: they differ in the owned parts and nowhere else.

300 configurations are generated from a fixed seed; each shaping setting is used many times, with profiles' overrides,
templates, named servers and odd names. Nothing here asks a cluster: KubeSpawner itself needs only a kubeconfig.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from traitlets.config import Config

from daas_hub.backends import kube_pod
from daas_hub.backends.child import build_pod
from daas_hub.backends.kube_owned import OWNED
from daas_hub.backends.kube_traits import TABLE, Fate
from daas_hub.core.models import Account, AccountGroup, LaunchSpec, Resources
from daas_hub.core.naming import new_id

CONFIGURATIONS = 300
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "kubernetes-backend.md"
NAMES = ("ada", "Ada.Lovelace", "o'neil@uni.example", "ünïcödé", "a" * 60, "-dash-", "x--y", "名前", "a_b", "0")
SERVERS = ("", "", "gpu", "My Server", "a--b", "日本", "x" * 70)
HUB = SimpleNamespace(public_host="", url="http://hub:8081/hub/", base_url="/hub/", api_url="http://hub:8081/hub/api")

Values = Callable[[random.Random], Any]


def _affinity(r: random.Random) -> Any:
    return [{"matchExpressions": [{"key": f"k{r.randrange(9)}", "operator": "Exists"}]}]


def _pods(r: random.Random) -> Any:
    return [{"labelSelector": {"matchLabels": {"app": f"a{r.randrange(9)}"}}, "topologyKey": "kubernetes.io/hostname"}]


def _container(r: random.Random) -> Any:
    return [{"name": f"side{r.randrange(9)}", "image": "busybox:1", "command": ["sh", "-c", "echo {username}"]}]


def _text(*texts: str) -> Values:
    return lambda r: r.choice(texts)


VALUES: dict[str, Values] = {
    "common_labels": lambda r: {"site": f"s{r.randrange(9)}"},
    "component_label": _text("singleuser-server", "lab"),
    "extra_annotations": lambda r: {"note": r.choice(["plain", "{username}", "{{literal}}", "{servername}"])},
    "extra_labels": lambda r: {"team": r.choice(["a", "{username}", "{user_server}"])},
    "extra_container_config": lambda r: {"envFrom": [{"configMapRef": {"name": f"c{r.randrange(9)}"}}]},
    "extra_containers": _container,
    "init_containers": _container,
    "extra_pod_config": lambda r: {"terminationGracePeriodSeconds": r.randrange(99), "dnsPolicy": "Default"},
    "extra_resource_guarantees": lambda r: {"example.org/dongle": str(r.randrange(1, 9))},
    "extra_resource_limits": lambda r: {"example.org/dongle": str(r.randrange(1, 9))},
    "image": _text("site/lab:1", "registry.example:5000/a/b@sha256:" + "0" * 64),
    "image_pull_policy": _text("Always", "IfNotPresent", "Never"),
    "image_pull_secrets": lambda r: r.choice([["pull"], [{"name": "pull"}]]),
    "lifecycle_hooks": lambda r: {"preStop": {"exec": {"command": ["true"]}}},
    "modify_pod_hook": lambda r: _hook,
    "node_affinity_preferred": lambda r: [{"weight": 1, "preference": _affinity(r)[0]}],
    "node_affinity_required": _affinity,
    "node_selector": lambda r: {"disk": f"d{r.randrange(9)}"},
    "pod_affinity_preferred": lambda r: [{"weight": 1, "podAffinityTerm": _pods(r)[0]}],
    "pod_affinity_required": _pods,
    "pod_anti_affinity_preferred": lambda r: [{"weight": 1, "podAffinityTerm": _pods(r)[0]}],
    "pod_anti_affinity_required": _pods,
    "priority_class_name": _text("high", "low"),
    "scheduler_name": _text("mine", "yours"),
    "slug_scheme": _text("safe", "escape"),
    "tolerations": lambda r: [{"key": f"t{r.randrange(9)}", "operator": "Exists", "effect": "NoSchedule"}],
    "volume_mounts": lambda r: [{"name": "data", "mountPath": r.choice(["/data", "/data/{username}"])}],
    "volumes": lambda r: [{"name": "data", "persistentVolumeClaim": {"claimName": "data-{username}"}}],
    "working_dir": _text("/srv", "/srv/{username}"),
    "environment": lambda r: {"FROM_CONFIG": r.choice(["x", "{username}", "{{x}}"]), "REF": "$(FROM_CONFIG)/y"},
}
OVERRIDES = ("extra_labels", "node_selector", "tolerations", "image", "extra_annotations", "extra_resource_limits")


def _hook(spawner: KubeSpawner, pod: Any) -> Any:
    pod.metadata.annotations["hooked"] = spawner.user.name
    return pod


def _plain(value: object) -> Any:
    return json.loads(json.dumps(_serializer.sanitize_for_serialization(value)))


_serializer = ApiClient.__new__(ApiClient)


def test_every_shaping_setting_is_generated() -> None:
    shaping = {name for name, (fate, _) in TABLE.items() if fate is Fate.HONOURED}
    assert shaping <= set(VALUES)


async def test_300_pods_differ_from_upstream_in_the_owned_parts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kubeconfig(tmp_path, monkeypatch)
    r = random.Random(20260101)
    used: Counter[str] = Counter()
    for number in range(CONFIGURATIONS):
        config, override = _configuration(r, used)
        theirs, ours = await _both(config, override, r)
        assert _without_owned(ours) == _without_owned(theirs), (number, config, override)
        assert ours != theirs
    rare = {name: used[name] for name in VALUES if used[name] < 2}
    assert not rare


def _kubeconfig(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for upstream's constructor; nothing listens there."""
    path = folder / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    whole = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": []}
    path.write_text(json.dumps({**whole, "users": [{"name": "u", "user": {}}], "current-context": "x"}))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


def _configuration(r: random.Random, used: Counter[str]) -> tuple[Config, dict[str, Any]]:
    config, override = Config(), {}
    for name in r.sample(sorted(VALUES), r.randrange(1, 8)):
        config.KubeSpawner[name] = VALUES[name](r)
        used[name] += 1
    for name in r.sample(OVERRIDES, r.randrange(3)):
        override[name] = VALUES[name](r)
    return config, override


async def _both(config: Config, override: dict[str, Any], r: random.Random) -> tuple[Any, Any]:
    user = SimpleNamespace(name=r.choice(NAMES), id=7, url="/user/x/", groups=[])
    orm_spawner = SimpleNamespace(name=r.choice(SERVERS), server=None)
    upstream = KubeSpawner(config=copy.deepcopy(config), user=user, orm_spawner=orm_spawner, hub=HUB)
    upstream.cmd = ["jupyterhub-singleuser", "--flag"]
    upstream.get_args = list
    upstream.cpu_limit, upstream.mem_limit, upstream.mem_guarantee = 2.0, 2**31, 2**30
    upstream._apply_overrides(copy.deepcopy(override))
    given = {"JUPYTERHUB_USER": user.name, "JUPYTERHUB_API_TOKEN": "t0ken"}
    image = {"JUPYTER_IMAGE_SPEC": upstream.image, "JUPYTER_IMAGE": upstream.image}
    upstream.get_env = lambda: {**image, **given, **upstream._expand_env(upstream.environment)}
    pod = await upstream.get_pod_manifest()
    if upstream.modify_pod_hook is not None:
        pod = upstream.modify_pod_hook(upstream, pod)
    origin = SimpleNamespace(
        user=user, orm_spawner=orm_spawner, hub=HUB, parent=None, authenticator=None, user_options={}
    )
    spec = LaunchSpec(
        launch_id=new_id(),
        hub_id="hub",
        account=Account(
            new_id(), "ada", 20001, 20001, (AccountGroup("ada", 20001),), "/home/ada", "/bin/sh", "test",
            datetime.now(UTC),
        ),
        user_name=user.name,
        server_name=orm_spawner.name,
        resources=Resources(cpu_limit=2.0, mem_limit_bytes=2**31, mem_guarantee_bytes=2**30),
        cmd=("jupyterhub-singleuser", "--flag"),
        environment={"JUPYTERHUB_USER": user.name},
        secrets={"JUPYTERHUB_API_TOKEN": "t0ken"},
        mounts=(),
        service_prefix="/user/x/",
        override=override,
        origin=origin,
    )  # fmt: skip
    built = await build_pod(spec, config=config, gpu_resource="nvidia.com/gpu")
    ours = kube_pod.own(built, spec, kube_pod.names_of(spec, "users"), (), kube_pod.Rules())
    return _plain(pod), json.loads(json.dumps(ours))


ENV = set(re.findall(r"\b[A-Z_]{4,}\b", OWNED["notebook.env"])) | {
    "JUPYTERHUB_SERVICE_URL",
    "JUPYTERHUB_API_TOKEN",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_CONFIG_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
    "JUPYTER_PATH",
    "JUPYTER_CONFIG_PATH",
}


def _without_owned(pod: Any) -> Any:
    """The pod less every path of OWNED."""
    pod = copy.deepcopy(pod)
    meta, spec = pod["metadata"], pod["spec"]
    meta.pop("name")
    meta.pop("namespace", None)
    for field in ("labels", "annotations"):
        meta[field] = {k: v for k, v in meta[field].items() if not k.startswith("daas-hub/")}
    gone = "restartPolicy enableServiceLinks automountServiceAccountToken serviceAccountName securityContext"
    for field in gone.split():
        spec.pop(field, None)
    spec["volumes"] = [v for v in spec.get("volumes") or [] if not v["name"].startswith("daas-")]
    for container in (*spec["containers"], *(spec.get("initContainers") or [])):
        container.pop("securityContext", None)
    server = next(c for c in spec["containers"] if c["name"] == "notebook")
    server["args"] = server["args"][-2:]
    server.pop("workingDir", None)
    if not server.get("lifecycle"):
        server.pop("lifecycle", None)
    server["volumeMounts"] = [m for m in server.get("volumeMounts") or [] if not m["name"].startswith("daas-")]
    server["env"] = [e for e in server["env"] if e["name"] not in ENV]
    return pod


def test_the_reference_lists_what_is_owned() -> None:
    text = REFERENCE.read_text()
    for path, why in OWNED.items():
        assert f"| `{path}` | {why} |" in text
