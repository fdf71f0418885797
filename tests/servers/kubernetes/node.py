"""The node: containerd with runc, the kubelet, kube-proxy."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .keys import Keys
from .program import Program, write
from .space import Space

NAME = "rig"
TOOLBOX = "localhost/tests/toolbox:1"
"""The sandbox of pods, the helper of volumes, and a shell for tests."""
CNI = Path("/usr/lib/cni")


class Node:
    """The three programs and their configuration."""

    def __init__(
        self, space: Space, keys: Keys, programs: dict[str, Path], *, name: str = NAME, user: str = "kubelet"
    ) -> None:
        """``user``: as whom, of ``keys.USERS``, its kubelet signs in."""
        self.space, self.keys, self.programs = space, keys, programs
        self.place = space.place
        self.socket = Path("/run/containerd/containerd.sock")
        """The container runtime's socket, inside the cluster's namespaces only."""
        folder = self.place.data / "node"
        self.folder = folder
        path = f"{programs['containerd'].parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.containerd = Program(
            "containerd",
            [str(programs["containerd"]), "--config", str(folder / "containerd.toml")],
            space,
            answers=lambda: self.ctr("version", check=False).returncode == 0,
            environment={"PATH": path},
        )
        kubelet = [str(programs["kubelet"]), f"--config={folder}/kubelet.json", f"--root-dir={folder}/kubelet",
                   f"--kubeconfig={keys.kubeconfig(user)}", f"--hostname-override={name}",
                   f"--node-ip={self.place.node}", f"--cert-dir={folder}/kubelet-keys"]  # fmt: skip
        self.kubelet = Program("kubelet", kubelet, space)
        proxy = [str(programs["kube-proxy"]), f"--config={folder}/proxy.json", f"--hostname-override={name}"]
        self.proxy = Program("kube-proxy", proxy, space)

    @property
    def all(self) -> tuple[Program, ...]:
        """In the order of starting."""
        return self.containerd, self.kubelet, self.proxy

    def start_runtime(self) -> None:
        """Start containerd and wait for it: it needs no API server."""
        self._write_runtime()
        self.containerd.start()
        try:
            self.containerd.wait()
        except Exception:
            # What an interrupted run left of the kept images may be broken: begin without them.
            self.containerd.stop()
            shutil.rmtree(self.place.images, ignore_errors=True)
            self.containerd.start()
            self.containerd.wait()
        self._forget_containers()

    def start(self, *, proxy: bool = True) -> None:
        """Start kubelet and kube-proxy; the API server must answer. Without ``proxy`` pods there reach no services."""
        self.place.make_cgroups()
        write(self.folder / "kubelet.json", json.dumps(self._kubelet()))
        write(self.folder / "proxy.json", json.dumps(self._proxy()))
        write(self.folder / "resolv.conf", "")
        self.kubelet.start()
        if proxy:
            self.proxy.start()

    def ctr(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run containerd's own client on the kubelet's containers and images."""
        argv = [*self.space.enter(), str(self.programs["ctr"]), "--address", str(self.socket), "-n", "k8s.io", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
        if check and done.returncode:
            raise RuntimeError(f"ctr {' '.join(words)}: {done.stderr.strip()}")
        return done

    def _forget_containers(self) -> None:
        """Containers of a run that was killed are still listed; their processes ended with their world."""
        for name in self.ctr("containers", "list", "--quiet").stdout.split():
            self.ctr("containers", "delete", name)

    def _write_runtime(self) -> None:
        pods, first, last = self.place.pods
        network = {
            "cniVersion": "1.0.0",
            "name": "cluster",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": False,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": "/run/cni-addresses",
                        "ranges": [
                            [{"subnet": pods, "rangeStart": first, "rangeEnd": last, "gateway": self.place.node}]
                        ],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
        write(self.folder / "cni" / "10-cluster.conflist", json.dumps(network))
        write(
            self.folder / "containerd.toml",
            CONTAINERD.format(root=self.place.images, socket=self.socket, pause=TOOLBOX, cni=CNI, folder=self.folder),
        )

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.place.node,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.keys.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.place.cgroup}",
            "clusterDNS": [self.place.node],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "maxPods": 250,
            "podLogsDir": f"{self.folder}/pod-logs",
            "resolvConf": f"{self.folder}/resolv.conf",
            "shutdownGracePeriod": "0s",
            "syncFrequency": "10s",
            "volumePluginDir": f"{self.folder}/plugins",
            "nodeStatusUpdateFrequency": "5s",
        }

    def _proxy(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": self.place.node,
            "clientConnection": {"kubeconfig": str(self.keys.kubeconfig("proxy"))},
            "clusterCIDR": self.place.pods[0],
            "conntrack": {"maxPerCore": 0},
            # A pod that calls itself or its neighbour by a service must get the answer from the service.
            "iptables": {"masqueradeAll": True},
            "mode": "iptables",
        }


CONTAINERD = """
version = 3
root = "{root}"
state = "/run/containerd/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "{socket}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{cni}"]
conf_dir = "{folder}/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "runc"
"""
