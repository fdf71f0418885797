"""The tests' own cluster is a real one: what other tests rely on is asked of it first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers.tiny_server import get

from .addons import SIMULATED, SIMULATED_PORT
from .client import KubectlFailed
from .cluster import Cluster
from .images import tiny_singleuser
from .node import NAME, TOOLBOX

pytestmark = [pytest.mark.needs("kube_rig"), pytest.mark.timeout(240)]
UID = 20001


def pod(name: str, *command: str, image: str = TOOLBOX, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, "imagePullPolicy": "Never", **spec.pop("container", {})}
    if command:
        container["command"] = list(command)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def in_namespace(namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def run_pod(cluster: Cluster, namespace: str, name: str, script: str, **spec: Any) -> str:
    """What a shell script prints in a pod, when it succeeded."""
    cluster.apply(in_namespace(namespace, pod(name, "sh", "-c", script, **spec)))
    cluster.pod_in_phase(name, namespace, "Succeeded")
    return cluster.kubectl("logs", "-n", namespace, name)


def test_a_pod_writes_as_its_uid_to_a_new_claim(kube_rig: Cluster, kube_namespace: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "home", "namespace": kube_namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    kube_rig.apply(claim)
    said = run_pod(
        kube_rig,
        kube_namespace,
        "writer",
        "id -u; echo mine > /home/file && stat -c %u:%g /home/file",
        securityContext={"runAsUser": UID, "runAsGroup": UID, "fsGroup": UID},
        volumes=[{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
        container={"volumeMounts": [{"name": "home", "mountPath": "/home"}]},
    )
    assert said.split() == [str(UID), f"{UID}:{UID}"]
    volume = kube_rig.get("pvc", "home", kube_namespace)["spec"]["volumeName"]
    spec = kube_rig.get("pv", volume)["spec"]
    assert spec["persistentVolumeReclaimPolicy"] == "Retain"
    file = Path(spec["local"]["path"]) / "file"
    assert (file.stat().st_uid, file.read_text()) == (UID, "mine\n")


def test_groups_of_an_image_are_kept_out(kube_rig: Cluster, kube_namespace: str) -> None:
    assert kube_rig.get("node", NAME)["status"]["features"]["supplementalGroupsPolicy"] is True

    def groups(policy: str) -> list[str]:
        context = {
            "runAsUser": UID,
            "runAsGroup": UID,
            "supplementalGroups": [5000],
            "supplementalGroupsPolicy": policy,
        }
        return run_pod(kube_rig, kube_namespace, policy.lower(), "id -G", securityContext=context).split()

    assert groups("Merge") == [str(UID), "5000", "31337"]
    assert groups("Strict") == [str(UID), "5000"]


def test_names_answer_in_a_pod(kube_rig: Cluster, kube_namespace: str) -> None:
    said = run_pod(kube_rig, kube_namespace, "asks", "nslookup kubernetes.default.svc.cluster.local")
    assert kube_rig.place.first_service in said


def test_pods_that_come_and_go_leave_the_bridge_its_address(kube_rig: Cluster, kube_namespace: str) -> None:
    # Whoever talks to the API server remembers it: with another one, all are cut off until they ask again.
    asked = [*kube_rig.space.enter(net_only=True), "ip", "-j", "link", "show", "cni0"]

    def address() -> str:
        return str(json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)[0]["address"])

    before = address()
    kube_rig.apply(in_namespace(kube_namespace, pod("stays", "sleep", "infinity")))
    kube_rig.pod_in_phase("stays", kube_namespace, "Running")
    members = {address()} | {address() for n in range(3) if run_pod(kube_rig, kube_namespace, f"goes-{n}", "echo yes")}
    assert members == {before}


def test_simulated_nodes_hold_simulated_pods(kube_rig: Cluster, kube_namespace: str) -> None:
    node = f"simulated-{kube_namespace}"
    kube_rig.add_simulated_node(node, **{"example.test/gpu": "2"})
    tolerations = [{"key": SIMULATED, "operator": "Exists"}]
    for name in ("one", "two"):
        made = pod(name, nodeSelector={"kubernetes.io/hostname": node}, tolerations=tolerations)
        made["spec"]["containers"][0]["resources"] = {"limits": {"example.test/gpu": "1"}}
        kube_rig.apply(in_namespace(kube_namespace, made))
    addresses = {kube_rig.pod_in_phase(n, kube_namespace, "Running")["status"]["podIP"] for n in ("one", "two")}
    assert len(addresses) == 2
    for address in addresses:
        assert get(f"http://{address}:{SIMULATED_PORT}/user/alice/api")["version"]
    kube_rig.kubectl("delete", "pod", "one", "two", "-n", kube_namespace)
    kube_rig.kubectl("delete", "node", node)


def test_this_machine_reaches_pods_and_services_and_they_reach_it(kube_rig: Cluster, kube_namespace: str) -> None:
    image = tiny_singleuser()
    kube_rig.load(image.archive, image.name)
    environment = [{"name": "JUPYTERHUB_SERVICE_URL", "value": "http://0.0.0.0:8888/user/alice/"}]
    server = pod("server", image=image.name, container={"env": environment}, securityContext={"runAsUser": UID})
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server", "namespace": kube_namespace},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8888}]},
    }
    kube_rig.apply(in_namespace(kube_namespace, server), service)
    address = kube_rig.pod_in_phase("server", kube_namespace, "Running")["status"]["podIP"]

    def whoami(place: str) -> Any:
        try:
            return get(f"http://{place}/user/alice/whoami", within_s=2)
        except OSError:
            return None

    assert kube_rig.until(lambda: whoami(f"{address}:8888"))["resuid"] == [UID] * 3
    cluster_ip = kube_rig.get("service", "server", kube_namespace)["spec"]["clusterIP"]
    assert kube_rig.until(lambda: whoami(cluster_ip))["resuid"] == [UID] * 3
    url = f"http://server.{kube_namespace}.svc.cluster.local/user/alice/api"
    assert json.loads(run_pod(kube_rig, kube_namespace, "asks", f"wget -q -O - {url}"))["version"]
    # The hub of a test runs on this machine: it listens on the address that pods can reach.
    there = [sys.executable, "-m", "http.server", "0", "--bind", kube_rig.host]
    with subprocess.Popen(there, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as hub:
        try:
            assert hub.stdout is not None
            port = hub.stdout.readline().split(" port ")[1].split()[0]
            run_pod(kube_rig, kube_namespace, "calls", f"wget -q -O /dev/null http://{kube_rig.host}:{port}/")
        finally:
            hub.kill()


def test_a_chart_is_installed(kube_rig: Cluster, kube_namespace: str, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: sample\nversion: 1.2.3\n")
    (tmp_path / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: sample}\ndata: {release: {{ .Release.Name }}}\n"
    )
    argv = [str(kube_rig.programs["helm"]), "install", "first", str(tmp_path), "--namespace", kube_namespace, "--wait"]
    environment = {**os.environ, **kube_rig.env(), "HOME": str(tmp_path)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert kube_rig.get("configmap", "sample", kube_namespace)["data"] == {"release": "first"}


def test_a_program_is_stopped_and_started_alone(kube_rig: Cluster, kube_namespace: str) -> None:
    kube_rig.apply(in_namespace(kube_namespace, pod("lasts", "sleep", "infinity")))
    before = kube_rig.pod_in_phase("lasts", kube_namespace, "Running")["status"]["containerStatuses"]
    api = kube_rig.control.api
    api.stop(signal.SIGKILL)
    with pytest.raises(KubectlFailed, match="refused"):
        kube_rig.get("node", NAME)
    api.start()
    api.wait()
    kube_rig.until(lambda: kube_rig.get("node", NAME))
    assert kube_rig.get("pod", "lasts", kube_namespace)["status"]["containerStatuses"] == before


def test_every_program_can_be_killed_and_started_again(kube_rig: Cluster, kube_namespace: str) -> None:
    kube_rig.apply(in_namespace(kube_namespace, pod("lasts", "sleep", "infinity")))
    before = kube_rig.pod_in_phase("lasts", kube_namespace, "Running")["status"]["containerStatuses"]
    for program in kube_rig.all:
        old = program.pid
        program.stop(signal.SIGKILL)
        program.start()
        program.wait()
        assert program.pid != old
    kube_rig.control.api.wait()
    assert run_pod(kube_rig, kube_namespace, "after", "nslookup kubernetes.default.svc.cluster.local")
    assert kube_rig.get("pod", "lasts", kube_namespace)["status"]["containerStatuses"] == before
    assert all(program.running for program in kube_rig.all)


OWNER = """
import sys
from tests.servers.kubernetes.cluster import Cluster
cluster = Cluster().start()
with cluster.namespace() as name:
    print(cluster.place.number, name, *(program.pid for program in cluster.all), flush=True)
    sys.stdin.read()
"""


def test_a_killed_run_leaves_nothing_that_hinders_the_next(kube_rig: Cluster) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        number, namespace, *programs = owner.stdout.readline().split()
        interface = Path(f"/sys/class/net/daas{number}")
        assert interface.exists()
        for pid in programs:
            os.kill(int(pid), signal.SIGKILL)
    finally:
        owner.kill()
        owner.communicate()
    kube_rig.until(lambda: not interface.exists(), what="the killed cluster's network is gone")
    again = Cluster(int(number)).start()
    try:
        with again.namespace() as fresh:
            assert namespace not in again.kubectl("get", "namespaces", "-o", "name")
            assert run_pod(again, fresh, "lives", "echo yes") == "yes\n"
        cgroups = again.place.cgroups()
    finally:
        again.stop()
    assert not interface.exists()
    assert [c for c in cgroups if c.exists()] == []
    assert list(again.place.data.iterdir()) == []
