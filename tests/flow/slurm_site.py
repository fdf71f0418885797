"""A whole site whose servers are jobs of a real SLURM cluster: the same directory, people and hub as ``site.Site``."""

from __future__ import annotations

from typing import Any

from tests.flow.site import Site
from tests.servers.slapd import Slapd
from tests.servers.slurm.plain import site as settings
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm.settings import LOGIN, NODES
from tests.servers.slurm_helper import Helper

CONFIG = """
c.DaasHub.backends = {{{others}"slurm": "daas_hub.backends.slurm.SlurmBackend"}}
c.SlurmBackend.runtime_dir = {records!r}
c.SlurmBackend.helper = {helper!r}
c.SlurmBackend.command_prefix = {prefix!r}
c.SlurmBackend.command_timeout_s = 5
c.SlurmBackend.node_addresses = {addresses!r}
c.SlurmBackend.poll_interval_s = 0.5
c.SlurmBackend.waiting_interval_s = 0.3
c.SlurmSpawner.req_prologue = {prologue!r}
"""

LOCAL = '"local": "daas_hub.backends.local.LocalBackend", '
KUBERNETES = '"kubernetes": "daas_hub.backends.kube.KubeBackend", '
AT_LOGIN = """
from urllib.parse import urlsplit
c.JupyterHub.hub_connect_url = f"https://{login}:{{urlsplit(c.JupyterHub.hub_bind_url).port}}"
c.JupyterHub.trusted_alt_names = ["DNS:{login}"]
"""


class SlurmSite(Site):
    """Homes are the cluster's. ``local``, ``kubernetes``: one place besides, the first one (``more`` sets it up).

    ``names``: the hub runs on the cluster's login host, speaks TLS with its servers, and knows the nodes by name.
    """

    def __init__(
        self,
        cluster: Slurm,
        *,
        more: str = "",
        local: bool = False,
        kubernetes: bool = False,
        names: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.cluster = cluster
        self.homes = cluster.homes
        self.slapd = Slapd(self.state / "slapd", self.homes)
        if names:
            self.internal_ssl = True
            self.hub_wrapper, self.hub_host = cluster.login(), cluster.world.addresses[LOGIN]
            more += AT_LOGIN.format(login=LOGIN)
        # Its own account calls the helper by sudo; who looks at the queue may be root.
        self.more = more + CONFIG.format(
            others=(LOCAL if local else "") + (KUBERNETES if kubernetes else ""),
            records=str(self.root / "records"),
            helper=Helper(cluster).argv,
            prefix=cluster.login(),
            addresses={} if names else {node.name: cluster.world.addresses[node.name] for node in NODES},
            prologue=settings(cluster).SlurmSpawner.req_prologue,
        )
