"""Settings of the SLURM backend, apart from the flow that uses them."""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, Enum, Float, HasTraits, Int, List, TraitError, Unicode, default, validate

from daas_hub.clients import daas_runas
from daas_hub.clients.slurm_rest import SIGNER, Signer, SlurmRest
from daas_hub.core.launch_names import name_of

PORTS = (1024, 65535)


class SlurmSettings(HasTraits):
    """Traits of ``c.SlurmBackend`` beyond those of every backend."""

    runtime_dir = Unicode(
        help="Folder of the hub's own records of what it has submitted: one small file for each launch, by which the "
        "cluster's jobs are recognised (a comment can be forged, this cannot). Owned by the hub's user, on a disk that "
        "outlives a restart of its machine. The default is /var/lib/daas-hub/slurm for root, else "
        "~/.local/state/daas-hub/slurm of the hub's own user.",
    ).tag(config=True)

    helper: Any = List(
        Unicode(),
        minlen=1,
        help="The words that run the helper `daas-runas`, which submits, cancels and looks as the account. The default "
        "is `sudo -n /usr/local/sbin/daas-runas`, or the program itself where the hub runs as root. "
        "See docs/explanation on the helper.",
    ).tag(config=True)

    submit_by = Enum(
        ("helper", "rest"),
        "helper",
        help="How jobs are submitted and cancelled: `helper` calls sbatch and scancel as the account, by `daas-runas`; "
        "`rest` asks slurmrestd, with a token that `daas-slurm-signer` makes. By `rest` a job fetches its files from "
        "the hub, and sends the end of its log when it is over; before, the hub cannot read it.",
    ).tag(config=True)

    rest_url = Unicode(
        help='Where slurmrestd answers, for `submit_by = "rest"`: `https://…`, or `http://…` on this machine alone, '
        "because the token goes there.",
    ).tag(config=True)

    signer: Any = List(
        Unicode(),
        list(SIGNER),
        minlen=1,
        help='The words that run `daas-slurm-signer`, for `submit_by = "rest"`. The account that it runs as can read '
        "the cluster's key; the hub's cannot. See docs/explanation on the signer.",
    ).tag(config=True)

    claim_url = Unicode(
        help="The address at which jobs that were submitted by slurmrestd fetch their files, with its path "
        "`/hub/api/daas/claim`: `https://…`. Empty, the default: below the address that servers have of the hub. "
        "Needed where that is plain HTTP, or internal_ssl, for which a job has no certificate yet. `http://127.0.0.1…` "
        "may be named where the hub's machine is the cluster's only node: on another one anybody may listen there.",
    ).tag(config=True)

    claim_ca = Unicode(
        help="A file with the certificates by which jobs know `claim_url`; they are in the jobs' scripts. Empty, the "
        "default: the authorities that the nodes trust anyway.",
    ).tag(config=True)

    command_prefix: Any = List(
        Unicode(),
        help="Words before SLURM's own programs (squeue, sacct, scontrol, sinfo), run as the hub's user; for sites "
        "whose programs need a wrapper. Empty, the default: they are run as they are.",
    ).tag(config=True)

    command_timeout_s = Float(
        15.0,
        min=1,
        help="How long one of SLURM's programs may take, in seconds, before the cluster counts as unreachable. 15, "
        "because a refused call to two controllers takes 9.",
    ).tag(config=True)

    poll_interval_s = Float(
        2.0,
        min=0.5,
        help="How often all jobs are asked for, in seconds: once for the whole hub, whatever runs. 2 shows an end "
        "within 5 s; a controller with tens of thousands of jobs may be spared with 10.",
    ).tag(config=True)

    waiting_interval_s = Float(
        1.0,
        min=0.2,
        help="The same in the first 10 s in which a start waits for its job, or a stop for its end, in seconds: who "
        "waits is told of its turn sooner. Later a server's own report tells that it runs.",
    ).tag(config=True)

    test_only_s = Float(
        60.0,
        min=0,
        help="How often, in seconds, `sbatch --test-only` may be asked for a waiting job that squeue has no expected "
        "start for, and only while somebody looks at the page of that start. Each time uses up a job id of the "
        "cluster. 0: never.",
    ).tag(config=True)

    answer_timeout_s = Float(
        300.0,
        min=1,
        help="How long a server may take to answer once its job runs, in seconds. 300: software comes from a network "
        "file system that may be cold. Waiting in the queue is bounded by wait_policy_s instead.",
    ).tag(config=True)

    python = Unicode(
        "/usr/bin/python3",
        help="A Python of the compute nodes, 3.6 or newer, that runs the launcher: it chooses the port, sets the "
        "server's variables and then becomes the server's program. It needs no packages.",
    ).tag(config=True)

    ports: Any = List(
        Int(),
        minlen=0,
        maxlen=2,
        help="The first and the last port that servers may listen on, where a firewall lets only some pass from the "
        "hub to the nodes. Empty, the default: any port that is free.",
    ).tag(config=True)

    node_dns = Unicode(
        "{node}",
        help="The name by which hub and proxy reach a compute node, with `{node}` for SLURM's name of it, for example "
        "`{node}.cluster.example.org`. Where DNS gives every name below a node's the node's address, "
        "`{launch}.{node}.cluster.example.org` lets each launch have a name, and so a certificate, of its own there.",
    ).tag(config=True)

    launch_names = Bool(
        True,
        help="With JupyterHub.internal_ssl: whether each launch has a name, and so a certificate, of its own, "
        "`<launch>.<node>.daas.internal`. Hub and services look up the node in it, and the proxy does if the hub "
        "starts it, or if it was given the hub's hook (docs/howto/internal-tls.md). False: by `node_dns` alone, and "
        "a certificate is good for every node that its job may get; other people's servers there could be "
        "impersonated with it. Without internal_ssl it has no effect.",
    ).tag(config=True)

    node_addresses: Any = Dict(
        value_trait=Unicode(),
        key_trait=Unicode(),
        help="Names or addresses of single nodes that `node_dns` does not give: SLURM's name → name or address.",
    ).tag(config=True)

    @default("runtime_dir")
    def _runtime_dir(self) -> str:
        if os.geteuid() == 0:
            return "/var/lib/daas-hub/slurm"
        return str(Path("~/.local/state/daas-hub/slurm").expanduser())

    @default("helper")
    def _helper(self) -> list[str]:
        if os.geteuid() == 0:
            return [sys.executable, "-I", "-S", str(Path(daas_runas.__file__).resolve())]
        return ["sudo", "-n", "/usr/local/sbin/daas-runas"]

    @validate("ports")
    def _two_ports(self, proposal: Any) -> list[int]:
        value: list[int] = proposal["value"]
        if value and not (len(value) == 2 and PORTS[0] <= value[0] <= value[1] <= PORTS[1]):
            raise TraitError(
                f"SlurmBackend.ports is {value}; it must be empty or the first and last port, {PORTS[0]} to {PORTS[1]}."
            )
        return value

    @validate("node_dns")
    def _a_name_for_each(self, proposal: Any) -> str:
        value: str = proposal["value"]
        left = value.replace("{node}", "", 1).replace("{launch}", "", 1)
        if "{node}" not in value or "{" in left or "}" in left:
            raise TraitError(
                f"SlurmBackend.node_dns is {value!r}; it must have {{node}} once, may have {{launch}} once, and no "
                "other braces."
            )
        return value

    def rest(self) -> SlurmRest:
        """slurmrestd, as these settings say."""
        return SlurmRest(self.rest_url, Signer(self.signer), within_s=self.command_timeout_s)

    @property
    def names_launches(self) -> bool:
        """Whether launches with a certificate get names of our own; DNS may have some for them already."""
        return self.launch_names and "{launch}" not in self.node_dns

    def address_of(self, node: str, launch_id: str, *, named: bool) -> str:
        """Where hub and proxy reach a launch's server on a node. ``named``: by the launch's own name."""
        addresses: dict[str, str] = self.node_addresses
        host = addresses.get(node) or self.node_dns.replace("{launch}", launch_id).replace("{node}", node)
        return name_of(launch_id, host) if named else host

    def certificate_name(self, node: str, launch_id: str, *, named: bool | None = None) -> str:
        """The same as a certificate names it; ``named`` None: as for a new launch."""
        host = self.address_of(node, launch_id, named=self.names_launches if named is None else named)
        try:
            return f"IP:{ip_address(host)}"
        except ValueError:
            return f"DNS:{host}"
