"""core/slurm_choices.py and slurm_offers.py: what one person may ask of a cluster, as it tells it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.errors import InvalidOptions
from daas_hub.core.slurm_choices import May, Told, check, read, refuse_project
from daas_hub.core.slurm_cluster import EVERYBODY, Association, Partition, Reservation, parse_accounts
from daas_hub.core.slurm_offers import offers
from daas_hub.core.slurm_times import Bound, Qos, bound, parse_qos

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
NONE: frozenset[str] = frozenset()
DAY = 86400


def partition(name: str, **changes: object) -> Partition:
    plain = Partition(
        name, name == "cpu", "UP", DAY, None, EVERYBODY, NONE, EVERYBODY, EVERYBODY, NONE, False, False, ()
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


PARTITIONS = (
    partition("cpu", default_time_s=3600),
    partition("gpu", accounts=frozenset({"beam"}), max_time_s=3600),
    partition("fast", qos=frozenset({"fast"})),
    partition("staff", groups=frozenset({"staff"})),
    partition("shut", state="DRAIN"),
    partition("secret", hidden=True),
    partition("kept", needs_reservation=True),
)
LAB = Association("lab", "", ("normal", "fast"), "normal", True, None)
BEAM = Association("beam", "", ("normal",), "", False, None)
OWN = Association("lab", "gpu", ("fast",), "fast", True, 600)
QOS = {name: Qos(name) for name in ("normal", "fast")}
TALK = Reservation("talk", NOW, NOW + timedelta(hours=2), True, "n1", "", NONE, frozenset({"beam"}), NONE, NONE)


def may(*associations: Association, current: bool = True, **changes: object) -> May:
    known = May(
        "ada",
        Told(PARTITIONS, NOW, current),
        Told(associations or (LAB, BEAM), NOW, current),
        Told((TALK,), NOW, current),
        frozenset({"associations", "limits", "qos"}),
        qos=Told(QOS, NOW, current),
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def refused(known: May, asked: dict[str, str], fixed: dict[str, str] | None = None) -> tuple[str, str]:
    with pytest.raises(InvalidOptions) as caught:
        check(known, ("lab",), asked, fixed or {})
    return caught.value.field, caught.value.message


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({}, {"cpu"}),
        ({"slurm_account": "beam"}, {"cpu", "gpu"}),
        ({"partition": "gpu", "slurm_account": "beam"}, {"gpu"}),
        ({"qos": "fast"}, {"cpu", "fast"}),
        ({"qos": "fast", "partition": "fast"}, {"fast"}),
        ({"runtime": "2:00:00", "slurm_account": "beam"}, {"cpu"}),
        ({"runtime": "1-0"}, {"cpu"}),
        ({"reservation": "talk", "slurm_account": "beam"}, {"cpu", "gpu", "kept"}),
    ],
)
def test_what_she_may_use_is_taken_with_where_it_can_be(asked: dict[str, str], where: set[str]) -> None:
    assert check(may(), ("lab",), asked, {}) == where


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"partition": "gpu"}, "partition", '"gpu" cannot be used together with your default slurm_account lab.'),
        ({"partition": "gpu"}, "partition", "Allowed with it: cpu."),
        ({"partition": "staff"}, "partition", '"staff" is not a partition that you may use. Allowed: cpu, gpu, fast.'),
        ({"partition": "shut"}, "partition", '"shut" is not a partition that you may use.'),
        ({"partition": "secret"}, "partition", '"secret" is not a partition that you may use.'),
        ({"partition": "kept"}, "partition", '"kept" is not a partition that you may use.'),
        ({"slurm_account": "other"}, "slurm_account", "is not a SLURM account that you may use. Allowed: lab, beam."),
        ({"qos": "slow"}, "qos", '"slow" is not a QOS that you may use. Allowed: normal, fast.'),
        ({"qos": "fast", "slurm_account": "beam"}, "qos", "cannot be used together with slurm_account beam."),
        ({"partition": "fast"}, "partition", '"fast" cannot be used together with your default qos normal.'),
        ({"reservation": "talk"}, "reservation", '"talk" is not a reservation that you may use. Allowed: none.'),
        (
            {"runtime": "3-00:00:00", "partition": "gpu", "slurm_account": "beam"},
            "runtime",
            '"3-00:00:00" is more than the 01:00:00 of partition gpu; choose at most that, or ask the cluster\'s '
            "administrators.",
        ),
        ({"runtime": "3-0"}, "runtime", '"3-0" is more than the 1-00:00:00 of partition cpu'),
    ],
)
def test_what_she_may_not_is_refused_with_field_value_and_bound(asked: dict[str, str], field: str, words: str) -> None:
    named, message = refused(may(), asked)
    assert named == field
    assert message.startswith(f"{field}: ")
    assert words in message


def test_without_a_default_qos_a_job_has_the_only_one_or_slurms_own() -> None:
    both = Association("lab", "", ("fast", "normal"), "", True, None)
    assert refused(may(both), {"partition": "fast"})[0] == "partition"
    assert check(may(replace(both, qos=("fast",))), (), {"partition": "fast"}, {}) == {"fast"}
    assert check(may(replace(both, qos=("fast", "slow"))), (), {"partition": "fast"}, {}) == {"fast"}


def test_groups_open_partitions_and_unknown_groups_refuse_nothing() -> None:
    assert check(may(), ("lab", "staff"), {"partition": "staff"}, {}) == {"staff"}
    assert check(may(), None, {"partition": "staff"}, {}) == {"staff"}


def test_an_association_of_a_partition_stands_before_the_one_for_all() -> None:
    known = replace(may(LAB, OWN), partitions=Told((partition("cpu"), partition("gpu")), NOW))
    assert check(known, (), {"partition": "gpu", "qos": "fast"}, {}) == {"gpu"}
    assert refused(known, {"partition": "gpu", "qos": "normal"})[0] == "qos"
    field, message = refused(known, {"partition": "gpu", "runtime": "30"})
    assert (field, "the 00:10:00 of your slurm_account lab" in message) == ("runtime", True)


OF = partition("of", own_qos="own", max_time_s=400)
BRIEF, LONG, OVER, PAST = Qos("brief", 100), Qos("long", 300), Qos("over", 300, over_partition=True), Qos("past")
BY_NAME = {one.name: one for one in (QOS["normal"], BRIEF, LONG, OVER, replace(PAST, past_partition=True))}
LAB_HAS = (50, "slurm_account", "your slurm_account lab")


@pytest.mark.parametrize(
    ("where", "qos", "own_s", "limits", "found"),
    [
        (partition("cpu"), "normal", None, True, LAB_HAS),
        # A QOS with a bound stands before the association, also where it gives more.
        (partition("cpu"), "brief", None, True, (100, "qos", "QOS brief")),
        (partition("cpu", max_time_s=90), "brief", None, True, (90, "partition", "partition cpu")),
        (partition("cpu"), "brief", None, False, (DAY, "partition", "partition cpu")),
        (partition("cpu"), "past", None, True, LAB_HAS),
        (partition("cpu"), "past", None, False, (None, "", "")),
        # A partition's QOS stands before the job's, unless the job's is over it; one without a bound stands nowhere.
        (OF, "brief", 200, True, (200, "partition", "QOS own of partition of")),
        (OF, "over", 200, True, (300, "qos", "QOS over")),
        (OF, "long", None, True, (300, "qos", "QOS long")),
        (OF, "normal", None, True, LAB_HAS),
        # What is not known bounds nothing, and lifts no partition's bound but where some QOS does.
        (partition("cpu"), "new", None, True, (DAY, "partition", "partition cpu")),
        (replace(OF, own_qos="new"), "brief", None, True, (400, "partition", "partition of")),
        (partition("cpu"), "", None, True, (None, "", "")),
    ],
)
def test_the_bound_of_a_walltime(
    where: Partition, qos: str, own_s: int | None, limits: bool, found: tuple[int | None, str, str]
) -> None:
    known = {**BY_NAME, "own": Qos("own", own_s)}
    if qos == "new":
        del known["past"]
    assert bound(where, known, qos, "lab", 50, limits=limits) == Bound(*found)


def test_nothing_known_of_qos_leaves_the_partitions_bound() -> None:
    assert bound(OF, None, "brief", "lab", 50, limits=True) == Bound(400, "partition", "partition of")


def test_what_sacctmgr_says_of_qos() -> None:
    text = "normal||\nbrief|DenyOnLimit|00:30:00\nover|OverPartQOS,PartitionTimeLimit|1-00:00:00\n"
    assert parse_qos(text) == {
        "normal": Qos("normal"),
        "brief": Qos("brief", 1800),
        "over": Qos("over", DAY, over_partition=True, past_partition=True),
    }


def test_a_walltime_is_bound_by_the_qos_that_is_chosen() -> None:
    brief = may(qos=Told({**QOS, "fast": Qos("fast", 1800)}, NOW))
    assert check(brief, (), {"runtime": "1:00:00"}, {}) == {"cpu"}
    assert refused(brief, {"runtime": "1:00:00", "qos": "fast"}) == (
        "runtime",
        'runtime: "1:00:00" is more than the 00:30:00 of QOS fast; choose at most that, or ask the cluster\'s '
        "administrators.",
    )
    assert check(replace(brief, enforced=frozenset({"qos"})), (), {"runtime": "1:00:00", "qos": "fast"}, {})
    assert check(brief, (), {"qos": "fast"}, {"runtime": "30"}) == {"cpu", "fast"}
    # The profile's walltime and her choice do not go together, or the profile's goes with nothing of hers.
    assert refused(brief, {"qos": "fast"}, {"runtime": "8:00:00"}) == (
        "qos",
        'qos: "fast" cannot be used together with the profile\'s runtime: 8:00:00 is more than the 00:30:00 of QOS '
        "fast. Choose another, or less time where the profile lets you, or ask the cluster's administrators.",
    )
    assert check(brief, (), {}, {"runtime": "8-0"}) == {"cpu"}
    # What the site says for all profiles is the one that counts.
    assert refused(replace(brief, site={"qos": "fast"}), {"runtime": "1:00:00"})[0] == "runtime"
    assert check(replace(brief, site={"qos": "fast"}), (), {"runtime": "1:00:00", "qos": "normal"}, {}) == {"cpu"}
    old = replace(brief, qos=Told(dict(brief.qos.value), NOW, current=False)) if brief.qos else brief
    assert check(old, (), {"runtime": "1:00:00", "qos": "fast"}, {}) is not None
    shown = {each.field: each for each in offers(brief, ("lab",), ["partition", "qos", "runtime"], {}, (), NOW)}
    time = "At most 1-00:00:00 (01:00:00 by default). With QOS fast at most 00:30:00. Minutes"
    assert shown["runtime"].help.startswith(time)
    (_, differs) = offers(
        may(LAB, replace(BEAM, max_time_s=600)), ("lab",), ["slurm_account", "runtime"], {}, ("cpu",), NOW
    )
    assert "cpu with SLURM account beam at most 00:10:00" in differs.help
    assert dict(shown["qos"].choices)["fast"].startswith("fast: at most 00:30:00")


def test_the_profiles_own_settings_bound_what_she_may_choose() -> None:
    field, message = refused(may(), {"partition": "gpu"}, {"slurm_account": "lab"})
    assert (field, "together with the profile's slurm_account lab" in message) == ("partition", True)
    assert check(may(), (), {"runtime": "30"}, {"partition": "gpu", "slurm_account": "beam"}) == {"gpu"}
    # It names what is not hers: that is the profile's mistake, which SLURM tells.
    assert check(may(), (), {"runtime": "30"}, {"partition": "gpu", "slurm_account": "other"}) is not None
    assert check(may(), (), {"partition": "cpu"}, {}, only=("cpu",)) == {"cpu"}
    with pytest.raises(InvalidOptions, match="Allowed: cpu"):
        check(may(), (), {"partition": "fast"}, {}, only=("cpu",))


def test_lists_of_later_versions_mean_accounts_below_too() -> None:
    child = Association("beam-2026", "", ("normal",), "normal", True, None)
    assert refused(may(child), {"partition": "gpu"})[0] == "partition"
    tree = parse_accounts("root|\nbeam|root\nbeam-2026|beam\nada|\n")
    assert tree["beam-2026"] == {"beam", "root"}
    assert check(may(child, above=tree), (), {"partition": "gpu"}, {}) == {"gpu"}


@pytest.mark.parametrize(
    "known",
    [
        May("ada"),
        may(current=False),
        may(associations=None),
        may(enforced=frozenset()),
    ],
)
def test_what_is_not_known_refuses_nothing(known: May) -> None:
    asked = {"slurm_account": "other", "qos": "slow"}
    check(known, (), asked, {})
    refuse_project(replace(known, partitions=None), (), "p", "other")
    shown = offers(known, None, ["partition", "slurm_account", "qos", "reservation", "runtime"], {}, (), NOW)
    assert [offer.field for offer in shown][:3] == ["partition", "slurm_account", "qos"]
    assert all(offer.choices[0][0] == "" for offer in shown if offer.choices)


def test_who_must_not_charge_a_project_is_told_both_names() -> None:
    refuse_project(may(), (), "p-1", "beam")
    with pytest.raises(InvalidOptions) as caught:
        refuse_project(may(), (), "p-1", "gold")
    assert caught.value.field == "project"
    assert '"p-1" is charged to the SLURM account "gold", which ada may not use. Yours are: lab, beam.' in str(
        caught.value
    )


def test_a_form_offers_just_that() -> None:
    fields = ["partition", "slurm_account", "qos", "reservation", "runtime"]
    found = {offer.field: offer for offer in offers(may(), ("lab",), fields, {}, (), NOW)}
    assert found["partition"].choices == (
        ("", "Any: where it starts first"),
        ("cpu", "cpu: at most 1-00:00:00"),
        ("fast", "fast: at most 1-00:00:00, with SLURM account lab"),
        ("gpu", "gpu: at most 01:00:00, with SLURM account beam"),
        ("kept", "kept: at most 1-00:00:00, in a reservation only"),
    )
    assert found["slurm_account"].choices == (
        ("", "Default: lab"),
        ("beam", "beam: with partition cpu or gpu or kept"),
        ("lab", "lab: with partition cpu or fast or kept"),
    )
    assert [value for value, _ in found["qos"].choices] == ["", "fast", "normal"]
    assert found["reservation"].choices[1] == ("talk", "talk: now, until 02 Mar 16:00 UTC")
    by_name = "cpu at most 1-00:00:00 (01:00:00 by default); gpu at most 01:00:00; fast, kept at most 1-00:00:00"
    assert found["runtime"].help == f"By partition: {by_name}. Minutes, h:m:s or d-h:m:s."
    (time,) = offers(may(), ("lab",), ["runtime"], {"partition": "cpu", "runtime": "30"}, (), NOW)
    assert time.help == "At most 1-00:00:00. By default 30. Minutes, h:m:s or d-h:m:s."
    only = offers(may(), ("lab",), ["partition"], {"partition": "cpu"}, (), NOW)
    assert only[0].choices == (("", "cpu, as the profile says"), ("cpu", "cpu: at most 1-00:00:00"))


def test_a_list_that_is_old_tells_its_age() -> None:
    (qos,) = offers(may(current=False), (), ["qos"], {}, (), NOW + timedelta(minutes=3))
    assert "as of 3 min ago, because the cluster does not tell just now" in qos.help
    (qos,) = offers(May("ada"), (), ["qos"], {}, (), NOW)
    assert "not known just now" in qos.help
    (qos,) = offers(may(associations=Told((), NOW)), (), ["qos"], {}, (), NOW)
    assert (len(qos.choices), "lets you use nothing here" in qos.help) == (1, True)


@pytest.mark.parametrize("text", ["a b", "x;y", "$(id)", "{value}", "-x", "", "a" * 65, "a,b", "a\n#SBATCH"])
def test_names_are_whitelisted(text: str) -> None:
    for name in ("partition", "slurm_account", "qos", "reservation", "runtime"):
        if text or name != "runtime":
            with pytest.raises(ValueError, match=r"."):
                read(name, text)


def test_good_values_are_read() -> None:
    assert read("qos", "a.b-c_1") == "a.b-c_1"
    assert read("runtime", "1-12:30:00") == "1-12:30:00"
