"""Partitions, nodes, associations, reservations and settings, as SLURM's programs print them."""

from __future__ import annotations

import pytest

from daas_hub.core.slurm_cluster import (
    ASSOCIATION_FIELDS,
    NODE_FIELDS,
    Association,
    Reservation,
    admin_level,
    hides_jobs,
    parse_associations,
    parse_gres,
    parse_nodes,
    parse_partitions,
    parse_reservations,
    parse_settings,
    sinfo_format,
    usable,
)

PARTITION = (
    "PartitionName=gpu AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A "
    "DefaultTime=01:00:00 Hidden=NO MaxTime=1-00:00:00 Nodes=gpu[1-2] ReqResv=NO State=UP TotalCPUs=16"
)
RESERVATION = (
    "ReservationName=beam StartTime=1795315862 EndTime=1795319462 Duration=01:00:00 Nodes=gpu1 NodeCnt=1 "
    "PartitionName=(null) Flags=IGNORE_JOBS,SPEC_NODES TRES=cpu=8 Users=ada Groups=(null) Accounts=(null) "
    "State=ACTIVE Comment=Users=eve State=INACTIVE"
)


def line(**said: str) -> str:
    values = {
        "NodeList": "gpu1", "NodeHost": "gpu1", "NodeAddr": "10.0.0.1", "PartitionName": "gpu",
        "StateComplete": "mixed", "CPUsState": "3/5/0/8", "Memory": "16000", "AllocMem": "1000",
        "Gres": "gpu:a100:2(S:0-1),tmpdisk:100", "GresUsed": "gpu:a100:1(IDX:0)",
    }  # fmt: skip
    return "".join(f"{ {**values, **said}[name] }|" for name in NODE_FIELDS) + "\n"


def test_a_partition_and_what_is_free_in_it() -> None:
    text = line() + line(
        NodeList="gpu2", StateComplete="idle+drain", CPUsState="0/0/8/8", AllocMem="0", GresUsed="gpu:0"
    )
    text += line(NodeList="gpu3", StateComplete="idle", CPUsState="0/8/0/8", AllocMem="0", Gres="(null)")
    (partition,) = parse_partitions(f"{PARTITION}\n", parse_nodes(text))
    assert [node.name for node in partition.nodes] == ["gpu1", "gpu2", "gpu3"]
    assert (partition.cpus, partition.cpus_free, partition.idle_nodes) == (24, 13, 1)
    assert (partition.gpus, partition.gpus_free) == ({"a100": 4}, {"a100": 1})
    assert (partition.memory_bytes, partition.memory_free_bytes) == (48000 * 2**20, 31000 * 2**20)
    assert (partition.default, partition.state, partition.hidden, partition.needs_reservation) == (
        False,
        "UP",
        False,
        False,
    )
    assert (partition.max_time_s, partition.default_time_s) == (86400, 3600)


def test_a_partition_without_nodes_or_bounds() -> None:
    text = PARTITION.replace("1-00:00:00", "UNLIMITED").replace("DefaultTime=01:00:00", "DefaultTime=NONE")
    (partition,) = parse_partitions(text, {})
    assert (partition.nodes, partition.cpus, partition.idle_nodes, partition.gpus) == ((), 0, 0, {})
    assert (partition.max_time_s, partition.default_time_s) == (None, None)
    with pytest.raises(ValueError, match="'State'"):
        parse_partitions(PARTITION.replace("State=UP", ""), {})


def test_who_may_use_a_partition() -> None:
    def admits(old: str, new: str, account: str = "lab", groups: tuple[str, ...] = ()) -> bool:
        (partition,) = parse_partitions(PARTITION.replace(old, new), {})
        return partition.admits(account, groups)

    assert admits("", "")
    assert not admits("AllowAccounts=ALL", "AllowAccounts=beam")
    assert admits("AllowAccounts=ALL", "AllowAccounts=beam,lab")
    assert not admits("AllowAccounts=ALL", "DenyAccounts=lab")
    assert admits("AllowAccounts=ALL", "DenyAccounts=beam")
    assert not admits("AllowGroups=ALL", "AllowGroups=wheel", groups=("lab",))
    assert admits("AllowGroups=ALL", "AllowGroups=wheel,lab", groups=("lab",))
    (partition,) = parse_partitions(PARTITION.replace("AllowQos=ALL", "AllowQos=long"), {})
    assert (partition.admits_qos("long"), partition.admits_qos("normal")) == (True, False)
    (partition,) = parse_partitions(PARTITION.replace("AllowQos=ALL", "DenyQos=long"), {})
    assert (partition.admits_qos("long"), partition.admits_qos("normal")) == (False, True)


@pytest.mark.parametrize(
    ("state", "starts"),
    [("idle", True), ("IDLE", True), ("mixed", True), ("allocated", True), ("idle+cloud+powered_down", True),
     ("mixed+planned", True), ("idle+drain", False), ("idle+not_responding", False), ("idle+reserved", False),
     ("mixed+maintenance", False), ("idle+reboot_requested", False), ("down", False), ("unknown", False), ("", False),
     ("future", False), ("error", False), ("idle+invalid_reg", False)],
)  # fmt: skip
def test_nodes_on_which_jobs_start(state: str, starts: bool) -> None:
    assert usable(state) is starts


@pytest.mark.parametrize(
    ("said", "gpus"),
    [("", {}), ("(null)", {}), ("gpu:2", {"": 2}), ("gpu:0", {"": 0}), ("gpu:a100:2(S:0-1)", {"a100": 2}),
     ("gpu:a100:2(IDX:0,2),gpu:1g.5gb:3(IDX:4-6),shard:8", {"a100": 2, "1g.5gb": 3}),
     ("gpu:tesla:no_consume:1", {"tesla": 1}), ("gpu", {})],
)  # fmt: skip
def test_gpus(said: str, gpus: dict[str, int]) -> None:
    assert parse_gres(said) == gpus


def test_lines_that_are_not_whole() -> None:
    for text in ("gpu1|gpu1|\n", line(CPUsState="n/a"), line(Memory="much")):
        with pytest.raises(ValueError, match=r"\S"):
            parse_nodes(text)
    assert sinfo_format().startswith("NodeList:0|,NodeHost:0|")


def test_a_reservation_is_not_what_its_comment_says() -> None:
    (reservation,) = parse_reservations(f"{RESERVATION}\n")
    assert (reservation.name, reservation.active, reservation.users) == ("beam", True, {"ada"})
    assert (reservation.nodes, reservation.partition) == ("gpu1", "")
    assert parse_reservations("No reservations in the system\n") == ()
    with pytest.raises(ValueError, match="'Users'"):
        parse_reservations("ReservationName=beam StartTime=0 EndTime=0 Nodes=a PartitionName=b State=ACTIVE")


@pytest.mark.parametrize(
    ("users", "accounts", "groups", "may"),
    [("ada", "(null)", "(null)", True), ("eve", "(null)", "(null)", False), ("-ada", "(null)", "(null)", False),
     ("-eve", "(null)", "(null)", True), ("(null)", "lab", "(null)", True), ("ada", "beam", "(null)", False),
     ("(null)", "-lab", "(null)", False), ("(null)", "(null)", "crew", True), ("(null)", "(null)", "others", False)],
)  # fmt: skip
def test_who_may_use_a_reservation(users: str, accounts: str, groups: str, may: bool) -> None:
    said = RESERVATION.replace("Users=ada", f"Users={users}").replace("Accounts=(null)", f"Accounts={accounts}")
    reservation: Reservation
    (reservation,) = parse_reservations(said.replace("Groups=(null)", f"Groups={groups}"))
    assert reservation.admits("ada", "lab", ("crew",)) is may


def test_associations() -> None:
    def row(**said: str) -> str:
        values = dict.fromkeys(ASSOCIATION_FIELDS, "") | {
            "Cluster": "daas", "DefaultAccount": "lab", "AdminLevel": "None", "Account": "lab", "QOS": "long,normal",
            "DefaultQOS": "normal",
        }  # fmt: skip
        return "|".join({**values, **said}[name] for name in ASSOCIATION_FIELDS) + "\n"

    text = row() + row(Account="beam", Partition="gpu", MaxWall="1-00:00:00") + row(Cluster="other")
    assert parse_associations(text, "daas") == (
        Association("lab", "", ("long", "normal"), "normal", True, None),
        Association("beam", "gpu", ("long", "normal"), "normal", False, 86400),
    )
    assert parse_associations(row(Account="", Cluster=""), "daas") == ()
    assert (admin_level(row(AdminLevel="Operator")), admin_level("")) == ("Operator", "")


def test_settings() -> None:
    text = "Configuration data as of 1\nClusterName   = daas\nPrivateData   = {}\nSlurmUser  = slurm(64)\n"
    settings = parse_settings(text.format("accounts,jobs"))
    assert settings["SlurmUser"] == "slurm(64)"
    assert hides_jobs(settings)
    assert not hides_jobs(parse_settings(text.format("none")))
    assert not hides_jobs(parse_settings(text.format("cloud,usage")))
    with pytest.raises(ValueError, match="no settings"):
        parse_settings("")
