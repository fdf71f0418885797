"""Every reason and state of SLURM has its sentence, what nobody knows is shown, and the reference says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas_hub.clients.slurm_said import WORDS
from daas_hub.core.slurm_jobs import PHASES
from daas_hub.core.slurm_words import (
    LIMITS,
    REASONS,
    RESOURCES,
    SHOWN_CHARACTERS,
    STATES,
    Words,
    reason_in_words,
    state_in_words,
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "slurm-states.md").read_text(encoding="utf-8")
KNOWN = """
AccountNotAllowed AccountingPolicy AssocGrpBB AssocGrpBBMinutes AssocGrpBBRunMinutes AssocGrpBilling
AssocGrpBillingMinutes AssocGrpBillingRunMinutes AssocGrpCPUMinutesLimit AssocGrpCPURunMinutesLimit AssocGrpCpuLimit
AssocGrpEnergy AssocGrpEnergyMinutes AssocGrpEnergyRunMinutes AssocGrpGRES AssocGrpGRESMinutes AssocGrpGRESRunMinutes
AssocGrpJobsLimit AssocGrpLicense AssocGrpLicenseMinutes AssocGrpLicenseRunMinutes AssocGrpMemLimit AssocGrpMemMinutes
AssocGrpMemRunMinutes AssocGrpNodeLimit AssocGrpNodeMinutes AssocGrpNodeRunMinutes AssocGrpSubmitJobsLimit
AssocGrpUnknown AssocGrpUnknownMinutes AssocGrpUnknownRunMinutes AssocGrpWallLimit AssocMaxBBMinutesPerJob
AssocMaxBBPerJob AssocMaxBBPerNode AssocMaxBillingMinutesPerJob AssocMaxBillingPerJob AssocMaxBillingPerNode
AssocMaxCpuMinutesPerJobLimit AssocMaxCpuPerJobLimit AssocMaxCpuPerNode AssocMaxEnergyMinutesPerJob
AssocMaxEnergyPerJob AssocMaxEnergyPerNode AssocMaxGRESMinutesPerJob AssocMaxGRESPerJob AssocMaxGRESPerNode
AssocMaxJobsLimit AssocMaxLicenseMinutesPerJob AssocMaxLicensePerJob AssocMaxMemMinutesPerJob AssocMaxMemPerJob
AssocMaxMemPerNode AssocMaxNodeMinutesPerJob AssocMaxNodePerJobLimit AssocMaxSubmitJobLimit
AssocMaxUnknownMinutesPerJob AssocMaxUnknownPerJob AssocMaxUnknownPerNode AssocMaxWallDurationPerJobLimit
AssociationJobLimit AssociationResourceLimit AssociationTimeLimit BadConstraints BeginTime BlockFreeAction
BlockMaxError BurstBufferOperation BurstBufferResources BurstBufferStageIn Cleaning Constraints DeadLine Dependency
DependencyNeverSatisfied FedJobLock FrontEndDown InactiveLimit InvalidAccount InvalidQOS JobArrayTaskLimit
JobHeldAdmin JobHeldUser JobHoldMaxRequeue JobLaunchFailure Licenses MaxBBPerAccount MaxBBRunMinsPerAccount
MaxBBRunMinsPerUser MaxBillingPerAccount MaxBillingRunMinsPerAccount MaxBillingRunMinsPerUser MaxCpuPerAccount
MaxCpuRunMinsPerAccount MaxCpuRunMinsPerUser MaxEnergyPerAccount MaxEnergyRunMinsPerAccount MaxEnergyRunMinsPerUser
MaxGRESPerAccount MaxGRESRunMinsPerAccount MaxGRESRunMinsPerUser MaxJobsPerAccount MaxLicensePerAccount
MaxLicenseRunMinsPerAccount MaxLicenseRunMinsPerUser MaxMemPerLimit MaxMemoryPerAccount MaxMemoryRunMinsPerAccount
MaxMemoryRunMinsPerUser MaxNodePerAccount MaxNodeRunMinsPerAccount MaxNodeRunMinsPerUser MaxPoweredUpNodes
MaxSubmitJobsPerAccount MaxUnknownPerAccount MaxUnknownRunMinsPerAccount MaxUnknownRunMinsPerUser MpiPortsBusy
NodeDown NonZeroExitCode None OutOfMemory PartitionConfig PartitionDown PartitionInactive PartitionNodeLimit
PartitionTimeLimit PowerNotAvail PowerReserved Priority Prolog QOSGrpBB QOSGrpBBMinutes QOSGrpBBRunMinutes
QOSGrpBilling QOSGrpBillingMinutes QOSGrpBillingRunMinutes QOSGrpCPUMinutesLimit QOSGrpCPURunMinutesLimit
QOSGrpCpuLimit QOSGrpEnergy QOSGrpEnergyMinutes QOSGrpEnergyRunMinutes QOSGrpGRES QOSGrpGRESMinutes
QOSGrpGRESRunMinutes QOSGrpJobsLimit QOSGrpLicense QOSGrpLicenseMinutes QOSGrpLicenseRunMinutes QOSGrpMemLimit
QOSGrpMemoryMinutes QOSGrpMemoryRunMinutes QOSGrpNodeLimit QOSGrpNodeMinutes QOSGrpNodeRunMinutes
QOSGrpSubmitJobsLimit QOSGrpUnknown QOSGrpUnknownMinutes QOSGrpUnknownRunMinutes QOSGrpWallLimit QOSJobLimit
QOSMaxBBPerJob QOSMaxBBPerNode QOSMaxBBPerUser QOSMaxBillingMinutesPerJob QOSMaxBillingPerJob QOSMaxBillingPerNode
QOSMaxBillingPerUser QOSMaxCpuMinutesPerJobLimit QOSMaxCpuPerJobLimit QOSMaxCpuPerNode QOSMaxCpuPerUserLimit
QOSMaxEnergyMinutesPerJob QOSMaxEnergyPerJob QOSMaxEnergyPerNode QOSMaxEnergyPerUser QOSMaxGRESMinutesPerJob
QOSMaxGRESPerJob QOSMaxGRESPerNode QOSMaxGRESPerUser QOSMaxJobsPerUserLimit QOSMaxLicenseMinutesPerJob
QOSMaxLicensePerJob QOSMaxLicensePerUser QOSMaxMemoryMinutesPerJob QOSMaxMemoryPerJob QOSMaxMemoryPerNode
QOSMaxMemoryPerUser QOSMaxNodeMinutesPerJob QOSMaxNodePerJobLimit QOSMaxNodePerUserLimit QOSMaxSubmitJobPerUserLimit
QOSMaxUnknownMinutesPerJob QOSMaxUnknownPerJob QOSMaxUnknownPerNode QOSMaxUnknownPerUser QOSMaxWallDurationPerJobLimit
QOSMinBB QOSMinBilling QOSMinCpuNotSatisfied QOSMinEnergy QOSMinGRES QOSMinLicense QOSMinMemory QOSMinNode
QOSMinUnknown QOSNotAllowed QOSResourceLimit QOSTimeLimit QOSUsageThreshold RaisedSignal ReqNodeNotAvail Reservation
ReservationDeleted ReservationInvalid Resources SchedDefer SystemFailure TimeLimit
"""
"""All that slurmctld's table of reasons has, 22.05.8 and 24.11.6."""


def test_every_reason_of_slurm_has_words() -> None:
    known = KNOWN.split()
    assert len(known) == 220
    assert [name for name in known if "SLURM says" in reason_in_words(name).text] == []
    assert [name for name in known if "{" in reason_in_words(name).text] == []


def test_no_limit_in_the_table_is_made_up() -> None:
    short = {re.sub(r"(Limit|NotSatisfied)$", "", name) for name in KNOWN.split()}
    for name in LIMITS:
        assert any(name.replace("…", resource) in short for resource in RESOURCES), name


@pytest.mark.parametrize(
    ("reason", "start", "helps"),
    [
        ("", "The scheduler has not looked", True),
        ("Priority", "Jobs with a higher priority", True),
        ("JobHeldUser", "It is held by its owner", False),
        ("QOSMaxMemoryPerUser", "You use as much as its QOS gives to one person: memory.", True),
        ("AssocMaxCpuPerJobLimit", "It asks for more than one job of yours may have: CPU cores.", False),
        ("QOSMaxJobsPerUserLimit", "You run as many jobs", True),
        ("launch failed requeued held", "It could not be started on its node, and is held.", False),
        ("launch_failed_requeued_held", "It could not be started on its node, and is held.", False),
        ("ReqNodeNotAvail, UnavailableNodes:gpu[1-2]", "Nodes that it needs are not available now", None),
    ],
)
def test_reasons(reason: str, start: str, helps: bool | None) -> None:
    words = reason_in_words(reason)
    assert words.text.startswith(start)
    assert words.helps is helps


def test_what_slurm_adds_is_shown() -> None:
    assert reason_in_words("ReqNodeNotAvail, UnavailableNodes:gpu[1-2]").text.endswith("UnavailableNodes:gpu[1-2]")
    down = "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions"
    assert reason_in_words(down).text.startswith("Nodes that it needs are down, drained or reserved.")


def test_what_nobody_knows_is_shown_as_it_is() -> None:
    assert reason_in_words("QuantumFluxLimit") == Words("SLURM says: QuantumFluxLimit", None)
    assert state_in_words("DREAMING") == "SLURM says: DREAMING"


@given(st.text(max_size=2000))
def test_any_reason_is_one_line_that_fits(reason: str) -> None:
    text = reason_in_words(reason).text
    assert text.isprintable()
    assert len(text) <= SHOWN_CHARACTERS + 150


def test_every_state_has_words() -> None:
    assert set(STATES) == set(PHASES)


HELPS = {True: "yes", False: "no", None: "perhaps"}


def rows() -> set[str]:
    """The lines of the reference's tables, as they must be."""
    states = {f"| `{state}` | {PHASES[state]} | {text} |" for state, text in STATES.items()}
    tables = {**REASONS, **LIMITS}.items()
    return states | {f"| `{name}` | {words.text.replace('{}', '…')} | {HELPS[words.helps]} |" for name, words in tables}


def test_the_reference_has_these_tables_and_nothing_else() -> None:
    written = set(re.findall(r"^\| `.*\|$", PAGE, re.M))
    resources = {f"| `{name}` | {text} |" for name, text in RESOURCES.items()}
    assert written == rows() | resources


def test_the_reference_has_every_reason_of_an_outage() -> None:
    for reason, text in WORDS.items():
        assert f"| {reason} | the program {text} |" in PAGE
