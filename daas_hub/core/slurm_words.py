"""Why a job waits or ended, in a sentence for who waits for it, and whether waiting helps. Pure; also the reference.

The names are those of slurmctld's own table (22.05 to 24.11); what nobody here knows is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Words:
    """A sentence, and whether waiting helps: True, False (somebody must change something), None (cannot be told)."""

    text: str
    helps: bool | None


STATES: Mapping[str, str] = {
    "PENDING": "It waits in the queue.",
    "REQUEUED": "It goes back into the queue: its node was taken away or failed.",
    "REQUEUE_FED": "It goes back into the queue of the federation.",
    "REQUEUE_HOLD": "It went back into the queue and is held there: somebody must release it.",
    "SPECIAL_EXIT": "It went back into the queue with an error and is held there: somebody must release it.",
    "RESV_DEL_HOLD": "It is held because the reservation that it asked for was deleted.",
    "EXPEDITING": "It goes back into the queue, to start before all others.",
    "CONFIGURING": "It has its nodes, and they are being made ready.",
    "RUNNING": "It runs.",
    "RESIZING": "It runs, and is about to get other resources.",
    "SIGNALING": "It runs, and is being sent a signal.",
    "SUSPENDED": "It has been suspended; its nodes may be used by others until it goes on.",
    "STOPPED": "It has been stopped with a signal and keeps its nodes.",
    "COMPLETING": "It is ending.",
    "STAGE_OUT": "It has ended, and its files are being copied away.",
    "BOOT_FAIL": "It ended because its nodes could not be started.",
    "CANCELLED": "It was cancelled.",
    "COMPLETED": "It ended by itself, without an error.",
    "DEADLINE": "It was removed because it could not have ended before its deadline.",
    "FAILED": "It ended with an error.",
    "NODE_FAIL": "It ended because one of its nodes failed.",
    "OUT_OF_MEMORY": "It was ended because it used more memory than it had asked for.",
    "PREEMPTED": "It was ended to make room for a job with precedence.",
    "TIMEOUT": "It reached its walltime.",
    "REVOKED": "Another cluster of the federation runs it.",
}
"""State → sentence."""

_FREE = "Other jobs use what it asks for. It starts when enough of it is free."
_ADMIN = "Ask the cluster's administrators."
_RESERVED = "Its reservation cannot be used now: it has not begun, or all of it is in use."

REASONS: Mapping[str, Words] = {
    "None": Words("The scheduler has not looked at it yet.", True),
    "Priority": Words("Jobs with a higher priority come before it.", True),
    "Resources": Words(_FREE, True),
    "Dependency": Words("It waits for another job that it depends on.", True),
    "DependencyNeverSatisfied": Words("It depends on a job that did not end as it had to: it will never start.", False),
    "BeginTime": Words(
        "It may not start yet: its begin time lies ahead, or it was just put back into the queue.", True
    ),
    "Licenses": Words("It waits for a licence that others use.", True),
    "Cleaning": Words("What was left of its last run is still being removed.", True),
    "Prolog": Words("Its node is being prepared.", True),
    "SchedDefer": Words("The scheduler puts off starts for the moment.", True),
    "JobHeldUser": Words("It is held by its owner, who can release it (`scontrol release`).", False),
    "JobHeldAdmin": Words(f"It is held by an administrator. {_ADMIN}", False),
    "JobHoldMaxRequeue": Words(f"It failed to start too often, and is held. {_ADMIN}", False),
    "launch failed requeued held": Words(f"It could not be started on its node, and is held. {_ADMIN}", False),
    "job requeued in held state": Words(f"It went back into the queue, and is held. {_ADMIN}", False),
    "JobArrayTaskLimit": Words("As many tasks of its array run as may run at once.", True),
    "ReqNodeNotAvail": Words("Nodes that it needs are not available now: down, drained or reserved.", None),
    "Nodes required for job are DOWN": Words("Nodes that it needs are down, drained or reserved.", None),
    "NodeDown": Words("A node that it needs is down.", None),
    "FrontEndDown": Words("No front end of the cluster is up.", None),
    "PowerNotAvail": Words("There is not enough power for it now.", True),
    "PowerReserved": Words("There is not enough power for it now: some of it is reserved.", True),
    "MaxPoweredUpNodes": Words("As many nodes are powered up as may be at once.", True),
    "MpiPortsBusy": Words("It waits for network ports that other jobs use.", True),
    "Reservation": Words(_RESERVED, True),
    "ReservationDeleted": Words("The reservation that it asked for was deleted. Start without it.", False),
    "ReservationInvalid": Words("The reservation that it asked for does not exist, or is not for it.", False),
    "PartitionDown": Words("Its partition is down: jobs wait, and none starts.", None),
    "PartitionInactive": Words("Its partition is inactive: no job starts there.", None),
    "PartitionConfig": Words("It breaks a limit of its partition. Choose another one, or ask for less.", False),
    "PartitionNodeLimit": Words("It asks for more or fewer nodes than its partition allows, or they are down.", False),
    "PartitionTimeLimit": Words("It asks for more time than its partition allows. Ask for less.", False),
    "BadConstraints": Words("No node can ever be what it asks for. Ask for something else.", False),
    "Constraints": Words("No node that is free has the features that it asks for.", True),
    "AccountingPolicy": Words("It breaks a limit of the accounting.", None),
    "AccountNotAllowed": Words("Its SLURM account may not use this partition. Choose another of the two.", False),
    "InvalidAccount": Words("Its SLURM account is not valid (any more). Choose another one.", False),
    "InvalidQOS": Words("Its QOS is not valid (any more). Choose another one.", False),
    "QOSNotAllowed": Words("Its QOS may not be used in this partition or by this account. Choose another one.", False),
    "QOSUsageThreshold": Words("Too much was used lately for its QOS. It counts for less as time goes by.", True),
    "QOSJobLimit": Words("As many jobs run in its QOS as may run at once.", True),
    "QOSResourceLimit": Words("All that its QOS may use at once is in use.", True),
    "QOSTimeLimit": Words("It asks for more time than its QOS allows, or the QOS has used up its time.", None),
    "AssociationJobLimit": Words("As many jobs of you or your SLURM account run as may run at once.", True),
    "AssociationResourceLimit": Words("You or your SLURM account use all that may be used at once.", True),
    "AssociationTimeLimit": Words("You or your SLURM account have used up your time.", None),
    "MaxMemPerLimit": Words("It asks for more memory for each core or node than is allowed. Ask for less.", False),
    "DeadLine": Words("It cannot end before its deadline any more.", False),
    "BurstBufferOperation": Words(f"The burst buffer failed. {_ADMIN}", False),
    "BurstBufferResources": Words("It waits for space in the burst buffer.", True),
    "BurstBufferStageIn": Words("Its files are being copied into the burst buffer.", True),
    "FedJobLock": Words("It waits for the clusters of the federation to agree.", True),
    "BlockMaxError": Words("Its block of nodes has too many errors.", None),
    "BlockFreeAction": Words("Its block of nodes is being freed.", True),
    # Of jobs that have ended.
    "JobLaunchFailure": Words("It could not be started: a missing folder, a broken node or a full disk.", False),
    "SystemFailure": Words(f"SLURM itself failed. {_ADMIN}", False),
    "NonZeroExitCode": Words("It ended with an error.", False),
    "RaisedSignal": Words("It was ended by a signal.", False),
    "TimeLimit": Words("It reached its walltime.", False),
    "InactiveLimit": Words("It was ended because it did nothing for too long.", False),
    "OutOfMemory": Words("It used more memory than it had asked for.", False),
}
"""Reason → words. It may go on behind a comma."""

RESOURCES: Mapping[str, str] = {
    "BB": "burst buffer space",
    "Billing": "billing units",
    "CPU": "CPU cores",
    "Cpu": "CPU cores",
    "Energy": "energy",
    "GRES": "GPUs or other devices",
    "License": "licences",
    "Mem": "memory",
    "Memory": "memory",
    "Node": "nodes",
    "Unknown": "something that is counted",
}
"""What ``…`` stands for in the names of limits."""

LIMITS: Mapping[str, Words] = {
    "AssocGrp…Minutes": Words("You or your SLURM account have used up the hours that were granted: {}.", None),
    "AssocGrp…RunMinutes": Words("Running jobs of your SLURM account hold all the hours that it may have: {}.", True),
    "AssocGrp…": Words("You or your SLURM account use as much as you may at once: {}.", True),
    "AssocMax…MinutesPerJob": Words("It asks for more hours than one job of yours may have: {}. Ask for less.", False),
    "AssocMax…PerJob": Words("It asks for more than one job of yours may have: {}. Ask for less.", False),
    "AssocMax…PerNode": Words("It asks for more on each node than a job of yours may have: {}. Ask for less.", False),
    "QOSGrp…Minutes": Words("The hours that its QOS may use are used up: {}.", None),
    "QOSGrp…RunMinutes": Words("Running jobs hold all the hours that its QOS may have at once: {}.", True),
    "QOSGrp…": Words("Its QOS uses as much as it may at once: {}.", True),
    "QOSMax…MinutesPerJob": Words("It asks for more hours than its QOS gives to one job: {}. Ask for less.", False),
    "QOSMax…PerJob": Words("It asks for more than its QOS gives to one job: {}. Ask for less.", False),
    "QOSMax…PerNode": Words("It asks for more on each node than its QOS gives: {}. Ask for less.", False),
    "QOSMax…PerUser": Words("You use as much as its QOS gives to one person: {}.", True),
    "QOSMin…": Words("It asks for less than its QOS demands: {}. Ask for more, or choose another QOS.", False),
    "Max…PerAccount": Words("Your SLURM account uses as much as the QOS gives to one account: {}.", True),
    "Max…RunMinsPerAccount": Words(
        "Running jobs of your SLURM account hold all the hours that the QOS allows: {}.", True
    ),
    "Max…RunMinsPerUser": Words("Your running jobs hold all the hours that the QOS gives to one person: {}.", True),
    "AssocGrpJobs": Words("As many jobs of your SLURM account run as may run at once.", True),
    "AssocGrpSubmitJobs": Words("Your SLURM account has as many jobs in the queue as it may have.", True),
    "AssocGrpWall": Words("Your SLURM account has used up its walltime.", None),
    "AssocMaxJobs": Words("As many jobs of yours run as may run at once.", True),
    "AssocMaxSubmitJob": Words("You have as many jobs in the queue as you may have.", True),
    "AssocMaxWallDurationPerJob": Words("It asks for more time than a job of yours may have. Ask for less.", False),
    "QOSGrpJobs": Words("As many jobs run in its QOS as may run at once.", True),
    "QOSGrpSubmitJobs": Words("As many jobs of its QOS are in the queue as may be.", True),
    "QOSGrpWall": Words("The walltime that its QOS may use is used up.", None),
    "QOSMaxJobsPerUser": Words("You run as many jobs as its QOS allows to one person.", True),
    "QOSMaxSubmitJobPerUser": Words("You have as many jobs in the queue as its QOS allows to one person.", True),
    "QOSMaxWallDurationPerJob": Words("It asks for more time than its QOS allows. Ask for less.", False),
    "MaxJobsPerAccount": Words("Your SLURM account runs as many jobs as the QOS allows to one account.", True),
    "MaxSubmitJobsPerAccount": Words("Your SLURM account has as many jobs in the queue as the QOS allows.", True),
}
"""Reason of a limit, without ``Limit`` or ``NotSatisfied`` behind it → words; ``{}`` is the resource."""


def reason_in_words(reason: str) -> Words:
    """What SLURM gives as the reason, in words; a reason that is not known here as SLURM says it."""
    # squeue prints some reasons, which are sentences, with underscores.
    plain = " ".join("".join(c if c.isprintable() else " " for c in reason.replace("_", " ")).split())
    name, comma, more = plain.partition(",")
    known = REASONS.get(name or "None") or _limit(name)
    if known is None:
        return Words(f"SLURM says: {_short(plain)}", None)
    return Words(f"{known.text} SLURM says: {_short(more.strip())}", known.helps) if comma else known


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


WAIT_FOR_ROOM = frozenset({"", "None", "Priority", "Resources"})
"""Reasons of jobs that start as soon as there is room, in their order. All others wait for something else as well, and
others go past them meanwhile."""


_ENDS = re.compile(r"(Limit|NotSatisfied)$")
_RESOURCE = re.compile(f"(AssocGrp|AssocMax|QOSGrp|QOSMax|QOSMin|Max)({'|'.join(sorted(RESOURCES, reverse=True))})(.*)")


def _limit(name: str) -> Words | None:
    name = _ENDS.sub("", name)
    if name in LIMITS:
        return LIMITS[name]
    match = _RESOURCE.fullmatch(name)
    if match is None:
        return None
    words = LIMITS.get(f"{match[1]}…{match[3]}")
    return words and Words(words.text.format(RESOURCES[match[2]]), words.helps)


def state_in_words(state: str) -> str:
    """What a state means, in a sentence; of one that is not known here its name."""
    return STATES.get(state, f"SLURM says: {_short(state)}")
