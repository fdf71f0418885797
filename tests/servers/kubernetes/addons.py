"""What a cluster has besides control plane and node: names, volumes made when they are claimed, simulated nodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.servers.tiny_server import program as tiny_server

from .control import listens
from .keys import Keys
from .node import TOOLBOX
from .program import Program, write
from .space import Space

VOLUMES_NAMESPACE = "local-path-storage"
STAGES = Path(__file__).with_name("stages.yaml")
SIMULATED_PORT = 8888
SIMULATED = "kwok.x-k8s.io/node"
"""The annotation of simulated nodes; its value is ``fake``. It is their taint's key, too."""


class Addons:
    """CoreDNS, local-path-provisioner and kwok: processes of the node's namespaces with a kubeconfig, not pods."""

    def __init__(self, space: Space, keys: Keys, programs: dict[str, Path]) -> None:
        self.place, self.keys = space.place, keys
        self.folder = self.place.data / "addons"
        self.volumes_folder = self.place.data / "volumes"
        """Where the data of volumes lies: the same path for this machine and for the node."""
        kubeconfig = str(keys.kubeconfig("admin"))
        self.dns = Program(
            "coredns",
            [str(programs["coredns"]), "-conf", str(self.folder / "Corefile")],
            space,
            answers=listens(self.place.node, 53),
        )
        self.volumes = Program(
            "local-path-provisioner",
            [str(programs["local-path-provisioner"]), "start", "--kubeconfig", kubeconfig, "--config",
             str(self.folder / "volumes.json"), "--namespace", VOLUMES_NAMESPACE, "--helper-image", TOOLBOX,
             "--service-account-name", "default", "--configmap-name", "local-path-config"],
            space,
        )  # fmt: skip
        self.simulation = Program(
            "kwok",
            [
                str(programs["kwok"]),
                f"--kubeconfig={kubeconfig}",
                f"--config={STAGES}",
                f"--cidr={self.place.simulated}",
                f"--node-ip={self.place.node}",
                f"--manage-nodes-with-annotation-selector={SIMULATED}=fake",
                "--node-lease-duration-seconds=40",
            ],
            space,
            environment={"HOME": str(self.folder)},
        )
        self.servers = Program(
            "simulated-servers",
            list(tiny_server(sys.executable)),
            space,
            answers=listens(self.place.node, SIMULATED_PORT),
            environment={"JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:{SIMULATED_PORT}/"},
        )
        """One small server for all simulated pods: their addresses are the node's own, and each path is answered."""

    @property
    def all(self) -> tuple[Program, ...]:
        """In the order of starting."""
        return self.dns, self.volumes, self.simulation, self.servers

    def start(self) -> None:
        """Start all; their manifests must have been applied."""
        self.volumes_folder.mkdir(exist_ok=True, mode=0o755)
        write(self.folder / "Corefile", COREFILE.format(node=self.place.node, kubeconfig=self.keys.kubeconfig("admin")))
        paths = [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(self.volumes_folder)]}]
        write(self.folder / "volumes.json", json.dumps({"nodePathMap": paths}))
        for program in self.all:
            program.start()

    def manifests(self) -> list[dict[str, Any]]:
        """The default storage class and what its provisioner reads."""
        helper = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "helper-pod"},
            "spec": {"containers": [{"name": "helper-pod", "image": TOOLBOX, "imagePullPolicy": "Never"}]},
        }
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": VOLUMES_NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "local-path-config", "namespace": VOLUMES_NAMESPACE},
                "data": {
                    # Not open to everybody, as no real storage is: whether rights are right is what tests ask.
                    "setup": '#!/bin/sh\nset -eu\nmkdir -m 0755 -p "$VOL_DIR"\n',
                    "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
                    "helperPod.yaml": json.dumps(helper),
                },
            },
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": "local-path",
                    "annotations": {
                        "storageclass.kubernetes.io/is-default-class": "true",
                        # The kubelet sets the group of local volumes (fsGroup); of hostPath ones it does not.
                        "defaultVolumeType": "local",
                    },
                },
                "provisioner": "rancher.io/local-path",
                "reclaimPolicy": "Retain",
                "volumeBindingMode": "WaitForFirstConsumer",
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system"},
                "spec": {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}], "clusterIP": "None"},
            },
        ]


def simulated_node(name: str) -> dict[str, Any]:
    """The manifest of a simulated node. Pods must tolerate its taint to land there."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {SIMULATED: "fake"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", SIMULATED: "fake"},
        },
        "spec": {"taints": [{"key": SIMULATED, "value": "fake", "effect": "NoSchedule"}]},
    }


COREFILE = """
.:53 {{
    bind {node}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
    }}
}}
"""
