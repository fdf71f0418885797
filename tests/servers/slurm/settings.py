"""The files that SLURM's daemons and programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .world import World

CLUSTER = "daas"
LOGIN, DATABASE, REST = "login", "slurmdb", "slurmrest"
CONTROLLERS = ("ctl1", "ctl2")
TAKE_OVER_S = 5
"""SlurmctldTimeout: after so many silent seconds of the first controller the second one answers."""
NODE_LOST_S = 15
"""SlurmdTimeout: after so many silent seconds a node is down and its jobs are requeued."""


@dataclass(frozen=True)
class ComputeNode:
    """What a node has to give, whatever this machine has."""

    name: str
    cpus: int = 8
    memory_mb: int = 16000
    gpus: int = 0


NODES = (ComputeNode("cpu1"), ComputeNode("gpu1", gpus=2))
PARTITIONS = {"cpu": "cpu1", "gpu": "gpu1", "any": "cpu1,gpu1"}
"""Partition → its nodes; ``cpu`` is the default."""
HOSTS = (LOGIN, *CONTROLLERS, DATABASE, REST, *(node.name for node in NODES))

SLURM = """
ClusterName={cluster}
{controllers}
SlurmctldPort={ports[controller]}
SlurmdPort={ports[node]}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.pid
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CredType=cred/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={root}/jwt.key
# Each daemon listens on its own address alone.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldTimeout={take_over_s}
SlurmdTimeout={node_lost_s}
# Groups that a test gives somebody count at once, also where she has had a job: they are kept for so many seconds.
GroupUpdateTime=1
InactiveLimit=0
KillWait=5
MinJobAge=300
ReturnToService=2
MailProg=/usr/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0
# Nodes have what is written here, not what this machine has.
SlurmdParameters=config_overrides
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={database}
AccountingStoragePort={ports[database]}
# For connections to the database the socket is told anew.
AccountingStoragePass={root}/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos
DefMemPerCPU=100
SlurmctldDebug=verbose
SlurmdDebug=verbose

{nodes}
{partitions}
{more}
"""

ACCOUNTING = """
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={root}/jwt.key
DbdHost={database}
DbdAddr={address}
DbdPort={port}
SlurmUser=root
PidFile={root}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
DebugLevel=verbose
"""


def slurm_conf(world: World, more: str) -> str:
    """slurm.conf for every host of the cluster; ``more``: lines that change or add something."""
    nodes = [
        f"NodeName={node.name} NodeAddr={world.addresses[node.name]} CPUs={node.cpus} RealMemory={node.memory_mb}"
        + (f" Gres=gpu:{node.gpus}" if node.gpus else "")
        for node in NODES
    ]
    partitions = [
        f"PartitionName={name} Nodes={members} Default={'YES' if name == 'cpu' else 'NO'} MaxTime=1-00:00:00 State=UP"
        for name, members in PARTITIONS.items()
    ]
    return SLURM.format(
        cluster=CLUSTER,
        controllers="\n".join(f"SlurmctldHost={name}({world.addresses[name]})" for name in CONTROLLERS),
        ports=world.ports,
        root=world.root,
        take_over_s=TAKE_OVER_S,
        node_lost_s=NODE_LOST_S,
        database=DATABASE,
        nodes="\n".join(nodes),
        partitions="\n".join(partitions),
        more=more,
    )


def gres_conf(root: Path) -> str:
    """GPUs: 22.05 counts none that has no file, and asks no more of the file than that it is there."""
    with_gpus = [node for node in NODES if node.gpus]
    return "".join(f"NodeName={node.name} Name=gpu File={root}/gpu[0-{node.gpus - 1}]\n" for node in with_gpus)


def slurmdbd_conf(world: World) -> str:
    """slurmdbd.conf, which only its own user may read."""
    return ACCOUNTING.format(
        root=world.root, database=DATABASE, address=world.addresses[DATABASE], port=world.ports["database"]
    )
