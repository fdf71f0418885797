"""core/placement.py and core/room.py: where a server goes, by policy, freshness, fit and the user's choice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daas_hub.core.capacity import Capacity, NodeRoom, Room
from daas_hub.core.errors import InvalidOptions, NotAllowed
from daas_hub.core.models import LaunchRequest, Resources
from daas_hub.core.placement import Looks, Placement, about, choices, decide, settings_at, stored
from daas_hub.core.places import Policy, Wish, place
from daas_hub.core.room import Fit, Need, judge, need_of

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
GIB = 2**30
KUBE, SLURM = "kubernetes", "slurm"
NEED = Need(cores=4, memory_bytes=8 * GIB)


def seen(backend: str, *, age_s: float | None = 5, **more: Any) -> Capacity:
    """A look with room for anything, so old."""
    as_of = None if age_s is None else NOW - timedelta(seconds=age_s)
    room = {"free_cores": 64.0, "free_memory_bytes": 256 * GIB, "free_gpus": 8}
    return Capacity(backend, as_of, **{**room, "total": Room(64, 256 * GIB, {"": 8}), **more})


def in_(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


K_FREE = (seen(KUBE),)
K_FULL = (seen(KUBE, free_cores=1.0),)
K_STALE = (seen(KUBE, age_s=180),)
K_NEVER_SEEN = (seen(KUBE, age_s=None),)
K_SMALL = (seen(KUBE, free_cores=1.0, total=Room(2, 256 * GIB)),)
S_FREE = (seen(SLURM, partition="gpu"),)
S_AT_20 = (seen(SLURM, partition="gpu", starts_at=in_(20)),)
S_AT_200 = (seen(SLURM, partition="gpu", starts_at=in_(200)),)
S_FULL = (seen(SLURM, partition="gpu", free_cores=0.0),)
S_STALE = (seen(SLURM, partition="gpu", age_s=61),)
S_SMALL = (seen(SLURM, partition="gpu", free_cores=1.0, total=Room(2, 256 * GIB)),)
NOTHING: tuple[Capacity, ...] = ()

RESOURCES = Resources(cpu_limit=4, mem_limit_bytes=8 * GIB)


def request(placement: str = "", *backends: str, **more: Any) -> LaunchRequest:
    return LaunchRequest("p", "Profile", {}, more.pop("resources", RESOURCES), backends, placement=placement, **more)


def put(kube: tuple[Capacity, ...], slurm: tuple[Capacity, ...], wanted: LaunchRequest, policy: Policy) -> Placement:
    looks: Looks = {KUBE: kube, SLURM: slurm}
    return decide(wanted, (KUBE, SLURM), looks, policy=policy, now=NOW)


ASAP = Policy()
CHEAP = Policy(Wish.CHEAP, costs={SLURM: 1, KUBE: 5})
CHEAP_KUBE = Policy(Wish.CHEAP, costs={SLURM: 3, KUBE: 1})
LIKE_SLURM = Policy(Wish.PREFERRED, preferred=(SLURM,))
K, S = "kubernetes", "slurm:gpu"

TABLE: list[tuple[tuple[Capacity, ...], tuple[Capacity, ...], Policy, str]] = [
    # Kubernetes, SLURM, policy, the order
    (K_FREE, S_FREE, ASAP, f"{K} {S}"),
    (K_FREE, S_AT_20, ASAP, f"{K} {S}"),
    (K_FREE, S_STALE, ASAP, f"{K} {S}"),
    (K_FULL, S_FREE, ASAP, f"{S} {K}"),
    (K_FULL, S_AT_20, ASAP, f"{S} {K}"),
    (K_FULL, S_AT_200, ASAP, f"{S} {K}"),
    (K_FULL, S_FULL, ASAP, f"{K} {S}"),
    (K_FULL, S_STALE, ASAP, f"{S} {K}"),
    (K_STALE, S_FREE, ASAP, f"{S} {K}"),
    (K_STALE, S_AT_20, ASAP, f"{S} {K}"),
    (K_STALE, S_FULL, ASAP, f"{K} {S}"),
    (K_STALE, S_STALE, ASAP, f"{K} {S}"),
    (K_NEVER_SEEN, S_FREE, ASAP, f"{S} {K}"),
    (K_NEVER_SEEN, NOTHING, ASAP, "kubernetes slurm"),
    (NOTHING, S_FULL, ASAP, f"{K} {S}"),
    (K_SMALL, S_FULL, ASAP, S),
    (K_SMALL, S_STALE, ASAP, S),
    (K_FREE, S_SMALL, ASAP, K),
    (K_FREE, S_FREE, CHEAP, f"{S} {K}"),
    (K_FREE, S_AT_20, CHEAP, f"{S} {K}"),
    (K_FREE, S_AT_200, CHEAP, f"{K} {S}"),
    (K_FULL, S_AT_200, CHEAP, f"{S} {K}"),
    (K_FREE, S_FULL, CHEAP, f"{K} {S}"),
    (K_FREE, S_STALE, CHEAP, f"{K} {S}"),
    (K_STALE, S_STALE, CHEAP, f"{S} {K}"),
    (K_FULL, S_FULL, CHEAP, f"{S} {K}"),
    (K_SMALL, S_FREE, CHEAP, S),
    (K_FREE, S_FREE, CHEAP_KUBE, f"{K} {S}"),
    (K_FREE, S_FREE, LIKE_SLURM, f"{S} {K}"),
    (K_FREE, S_AT_20, LIKE_SLURM, f"{S} {K}"),
    (K_FREE, S_AT_200, LIKE_SLURM, f"{K} {S}"),
    (K_FREE, S_STALE, LIKE_SLURM, f"{K} {S}"),
    (K_FREE, S_FULL, LIKE_SLURM, f"{K} {S}"),
    (K_STALE, S_STALE, LIKE_SLURM, f"{S} {K}"),
    (K_FULL, S_FULL, LIKE_SLURM, f"{S} {K}"),
    (K_FREE, S_SMALL, LIKE_SLURM, K),
]


@pytest.mark.parametrize(("kube", "slurm", "policy", "expected"), TABLE)
def test_order_by_policy_and_what_is_known(
    kube: tuple[Capacity, ...], slurm: tuple[Capacity, ...], policy: Policy, expected: str
) -> None:
    assert " ".join(str(each.place) for each in put(kube, slurm, request(), policy).candidates) == expected


def test_who_waits_less_is_before_who_waits_more() -> None:
    slurm = (seen(SLURM, partition="cpu", starts_at=in_(90)), *S_AT_20, seen(SLURM, partition="x", starts_at=in_(-5)))
    found = put(K_FULL, slurm, request(), ASAP)
    assert [str(each.place) for each in found.candidates] == ["slurm:x", "slurm:gpu", "slurm:cpu", "kubernetes"]
    assert found.first.fit is Fit.NOW
    costs = {SLURM: 1.0, "slurm:cpu": 0.5, KUBE: 2.0}
    cheap = put(K_FREE, slurm, request(), Policy(Wish.CHEAP, costs=costs, patience_s=1e6))
    assert [str(each.place) for each in cheap.candidates] == ["slurm:cpu", "slurm:x", "slurm:gpu", "kubernetes"]


# ---------------------------------------------------------------- what she, or the profile, names


@pytest.mark.parametrize(
    ("named", "backends", "expected"),
    [
        ("auto", (), f"{K} {S}"),
        ("slurm", (), S),
        ("slurm:gpu", (), S),
        ("kubernetes", (), K),
        ("", ("slurm",), S),
        ("", ("slurm:gpu", "kubernetes"), f"{S} {K}"),
        ("slurm", ("slurm:gpu", "kubernetes"), S),
        ("", ("auto",), f"{K} {S}"),
        ("", ("nowhere", "slurm"), S),
        # The backend does not list it, and may know more than it says: whoever starts it has the last word.
        ("", ("slurm:secret",), "slurm:secret"),
    ],
)
def test_only_what_is_named_is_tried(named: str, backends: tuple[str, ...], expected: str) -> None:
    found = put(K_FREE, S_FREE, request(named, *backends), ASAP)
    assert " ".join(str(each.place) for each in found.candidates) == expected


@pytest.mark.parametrize(
    ("named", "backends", "allowed"),
    [
        ("nowhere", (), "auto, slurm, kubernetes, slurm:gpu"),
        ("slurm:cpu", (), "auto, slurm, kubernetes, slurm:gpu"),
        ("kubernetes:gpu", (), "auto, slurm, kubernetes, slurm:gpu"),
        ("kubernetes", ("slurm",), "auto, slurm, slurm:gpu"),
        ("slurm:cpu", ("slurm:gpu",), "auto, slurm, slurm:gpu"),
    ],
)
def test_a_place_that_the_profile_has_not_is_refused_with_those_it_has(
    named: str, backends: tuple[str, ...], allowed: str
) -> None:
    with pytest.raises(InvalidOptions) as refused:
        put(K_FREE, S_FREE, request(named, *backends), ASAP)
    assert refused.value.field == "placement"
    assert refused.value.message.endswith(f'"{named}" is not a place where this profile can run. Allowed: {allowed}.')


def test_a_partition_is_believed_where_none_can_be_listed() -> None:
    found = put(K_FREE, NOTHING, request("slurm:gpu"), ASAP)
    assert [str(each.place) for each in found.candidates] == ["slurm:gpu"]
    assert found.first.fit is Fit.UNKNOWN


def test_a_profile_for_unknown_backends_is_the_administrators() -> None:
    with pytest.raises(NotAllowed, match="runs on nowhere, but this hub has only kubernetes, slurm"):
        put(K_FREE, S_FREE, request("", "nowhere"), ASAP)


def test_the_partition_of_the_profiles_settings_is_the_only_one() -> None:
    long = request(override={"slurm": {"partition": "long", "qos": "normal"}, "x": 1})
    found = put(K_FULL, (*S_FREE, seen(SLURM, partition="long")), long, ASAP)
    assert [str(each.place) for each in found.candidates] == ["slurm:long", "kubernetes"]
    several = request(override={"slurm": {"partition": "long,gpu"}})
    (one, _) = put(K_FULL, (*S_AT_200, seen(SLURM, partition="long", starts_at=in_(20))), several, ASAP).candidates
    assert (str(one.place), one.starts_at) == ("slurm:long,gpu", in_(20))
    offered = dict(choices(put(K_FULL, S_FREE, several, ASAP)))
    assert offered["slurm"] == "SLURM partition long,gpu: has room now"
    assert put(K_FULL, S_FREE, replace(several, placement="slurm"), ASAP).first.place.partition == "long,gpu"
    gpu = settings_at(long, place("slurm:gpu"))
    assert gpu == {"slurm": {"partition": "gpu", "qos": "normal"}, "x": 1}
    assert settings_at(long, place("kubernetes")) == long.override


# ---------------------------------------------------------------- it fits nowhere


@pytest.mark.parametrize("named", ["", "auto", "slurm", "slurm:gpu"])
@pytest.mark.parametrize("wish", Wish)
def test_what_fits_nowhere_ever_is_refused_with_what_there_is(named: str, wish: Wish) -> None:
    with pytest.raises(InvalidOptions) as refused:
        put(K_SMALL, S_SMALL, request(named), Policy(wish))
    chosen = named in ("slurm", "slurm:gpu")
    assert refused.value.field == ("placement" if chosen else "profile")
    said = "SLURM partition gpu: it is too small: 4 cores needed, the largest has 2 cores"
    assert said in refused.value.message
    assert ("Kubernetes: it is too small" in refused.value.message) is not chosen


@pytest.mark.parametrize(
    "kube",
    [
        K_STALE,
        K_NEVER_SEEN,
        NOTHING,
        (replace(K_SMALL[0], grows=True),),
        (replace(K_SMALL[0], as_of=NOW - timedelta(minutes=5)),),
        (replace(K_SMALL[0], total=Room()),),
    ],
)
def test_nothing_is_refused_while_one_place_may_be_large_enough(kube: tuple[Capacity, ...]) -> None:
    found = put(kube, S_SMALL, request(), ASAP)
    assert [str(each.place) for each in found.candidates] == ["kubernetes"]
    assert [str(each.place) for each in found.others] == ["slurm:gpu"]


# ---------------------------------------------------------------- room


LARGE = Room(64, 256 * GIB, {"a100": 4, "v100": 4})


def node(free: Room, total: Room = LARGE) -> NodeRoom:
    return NodeRoom("n", free, total)


HALVES = (node(Room(3, 64 * GIB, {"a100": 0, "v100": 2})), node(Room(8, 4 * GIB, {"a100": 1, "v100": 0})))


@pytest.mark.parametrize(
    ("look", "need", "fit", "words"),
    [
        (seen(KUBE), NEED, Fit.NOW, "it has room"),
        (seen(KUBE, pending=3), NEED, Fit.NOW, "it has room, 3 wait there"),
        (seen(KUBE, note="others are not counted"), NEED, Fit.NOW, "it has room (others are not counted)"),
        (seen(KUBE, free_cores=4.0), NEED, Fit.NOW, "it has room"),
        (seen(KUBE, free_cores=3.999), NEED, Fit.LATER, "full now: 4 cores needed, free are at most 3.99 cores"),
        (seen(KUBE, free_memory_bytes=GIB), NEED, Fit.LATER, "8 GiB of memory needed, free are at most 1 GiB"),
        (
            seen(KUBE, free_cores=3.0, holds_back=False),
            NEED,
            Fit.CROWDED,
            "free are at most 3 cores; a server starts at",
        ),
        (seen(KUBE, free_cores=None), NEED, Fit.UNKNOWN, "it does not tell what is free"),
        (seen(KUBE, free_cores=None, free_memory_bytes=0), NEED, Fit.LATER, "8 GiB of memory needed"),
        (seen(KUBE, free_cores=None), Need(), Fit.NOW, "it has room"),
        (seen(KUBE, free_gpus=None), NEED, Fit.NOW, "it has room"),
        (seen(KUBE, free_gpus=None), Need(gpus=1), Fit.UNKNOWN, "does not tell"),
        (seen(KUBE, free_gpus=0), Need(gpus=1), Fit.LATER, "1 GPU needed, free are at most 0 GPUs"),
        (seen(KUBE), Need(gpus=9), Fit.NEVER, "too small: 9 GPUs needed, the largest has 8 GPUs"),
        (seen(KUBE, age_s=60), NEED, Fit.NOW, "it has room"),
        (seen(KUBE, age_s=61), NEED, Fit.UNKNOWN, "last seen 1 min ago"),
        (seen(KUBE, age_s=61, note="it is away"), NEED, Fit.UNKNOWN, "ago (it is away)"),
        (seen(KUBE, age_s=None, note="never asked"), NEED, Fit.UNKNOWN, "it has not told what is free (never asked)"),
        (seen(KUBE, closed="drained"), NEED, Fit.LATER, "drained"),
        (seen(KUBE, closed="drained", starts_at=in_(90)), NEED, Fit.LATER, "drained"),
        (seen(KUBE, starts_at=in_(20)), NEED, Fit.LATER, "its own scheduler says so"),
        (seen(KUBE, starts_at=in_(0.5), free_cores=0.0), NEED, Fit.NOW, "its own scheduler says so"),
        # On nodes all of it must be on one.
        (seen(KUBE, nodes=HALVES), NEED, Fit.LATER, "no node has all of it at once"),
        (seen(KUBE, nodes=(*HALVES, node(Room(4, 8 * GIB)))), NEED, Fit.NOW, "it has room"),
        (seen(KUBE, nodes=HALVES), Need(gpus=2), Fit.NOW, "it has room"),
        (seen(KUBE, nodes=HALVES), Need(gpus=2, gpu_type="a100"), Fit.LATER, "2 a100 GPUs needed"),
        (seen(KUBE, nodes=HALVES), Need(gpus=1, gpu_type="h100"), Fit.NEVER, "1 h100 GPU needed, the largest has 0"),
        (seen(KUBE, nodes=(node(Room(1, GIB), Room(2, 4 * GIB)),)), NEED, Fit.NEVER, "8 GiB of memory needed"),
        (seen(KUBE, nodes=(NodeRoom("n", LARGE, LARGE, taints=("x",)),)), NEED, Fit.NEVER, "it has no node for it"),
        (
            seen(KUBE, nodes=(NodeRoom("n", LARGE, LARGE, taints=("x",)),), grows=True),
            NEED,
            Fit.LATER,
            "no node for it",
        ),
        (seen(KUBE, grows=True, free_cores=0.0), Need(cores=999), Fit.LATER, "999 cores needed"),
        (seen(KUBE, free_gpus=3, free_gpus_by_type={"a": 1, "b": 2}), Need(gpus=3), Fit.NOW, "it has room"),
        (
            seen(KUBE, free_gpus=3, free_gpus_by_type={"a": 1, "b": 2}),
            Need(gpus=2, gpu_type="a"),
            Fit.LATER,
            "2 a GPUs",
        ),
        (seen(KUBE, free_gpus=3), Need(gpus=2, gpu_type="a"), Fit.NOW, "it has room"),
    ],
)
def test_room(look: Capacity, need: Need, fit: Fit, words: str) -> None:
    verdict = judge(look, need, now=NOW, stale_s=60)
    assert (verdict.fit, words in verdict.reason) == (fit, True), verdict


@pytest.mark.parametrize(
    ("resources", "override", "expected"),
    [
        (Resources(), {}, Need()),
        (Resources(cpu_limit=4, mem_limit_bytes=GIB, gpus=1), {}, Need(4, GIB, 1)),
        (Resources(cpu_limit=4, cpu_guarantee=1, mem_limit_bytes=GIB, mem_guarantee_bytes=9), {}, Need(1, 9)),
        (Resources(gpus=2), {"slurm": {"gres": "gpu:a100:2"}}, Need(gpus=2, gpu_type="a100")),
        (Resources(gpus=2), {"slurm": {"gres": "gpu:a100"}}, Need(gpus=2, gpu_type="a100")),
        (Resources(gpus=2), {"slurm": {"gres": "gpu:2"}}, Need(gpus=2)),
        (Resources(gpus=2), {"slurm": None}, Need(gpus=2)),
    ],
)
def test_the_guarantee_is_needed_and_else_the_limit(
    resources: Resources, override: dict[str, Any], expected: Need
) -> None:
    assert need_of(resources, override) == expected


def test_a_place_that_gives_limits_is_not_free_for_a_guarantee() -> None:
    """The same profile: half a core is free on both, which Kubernetes may overcommit and SLURM does not."""
    both = Resources(cpu_limit=4, cpu_guarantee=0.5, mem_limit_bytes=8 * GIB, mem_guarantee_bytes=GIB)
    kube, slurm = seen(KUBE, free_cores=2.0), seen(SLURM, free_cores=2.0, partition="gpu", by_limit=True)
    found = put((kube,), (slurm,), request(resources=both), LIKE_SLURM)
    assert [(each.place.backend, each.fit) for each in found.candidates] == [(KUBE, Fit.NOW), (SLURM, Fit.LATER)]
    assert "4 cores needed, free are at most 2 cores" in found.candidates[1].reason


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("kube", "slurm", "named", "expected"),
    [
        (
            K_FREE,
            S_AT_20,
            "",
            "Now on Kubernetes (it has room); else on SLURM partition gpu at about 14:20 UTC. "
            "This hub takes the place where a server starts first.",
        ),
        (
            K_STALE,
            S_STALE,
            "",
            "On Kubernetes perhaps: what is free was last seen 3 min ago; else on SLURM partition gpu perhaps: what "
            "is free was last seen 1 min ago. This hub takes the place where a server starts first.",
        ),
        (
            K_FULL,
            S_AT_20,
            "slurm",
            "On SLURM partition gpu at about 14:20 UTC (its own scheduler says so), as you chose. "
            "Nothing has room just now: it waits in the queue there.",
        ),
        (K_FREE, S_SMALL, "", "Now on Kubernetes (it has room): it fits at no other place."),
    ],
)
def test_why_in_words(kube: tuple[Capacity, ...], slurm: tuple[Capacity, ...], named: str, expected: str) -> None:
    found = put(kube, slurm, request(named), ASAP)
    assert found.why(found.first) == expected


def test_why_where_there_was_nothing_to_choose() -> None:
    one = put(K_FREE, S_FREE, request("", KUBE), ASAP)
    assert one.why(one.first) == "Now on Kubernetes (it has room): this profile has no other place."
    crowded = put((replace(K_FULL[0], holds_back=False),), S_SMALL, request("", KUBE), ASAP)
    assert crowded.why(crowded.first).endswith("Nothing has room just now: it starts all the same.")
    alone = decide(request(), (KUBE,), {}, policy=ASAP, now=NOW)
    assert alone.why(alone.first) == "On Kubernetes: this hub has no other place."
    assert (one.had_choice, alone.had_choice) == (False, False)


def test_the_next_one_is_taken_because_the_first_failed() -> None:
    found = put(K_FREE, S_AT_20, request(), ASAP)
    why = found.why(found.candidates[1])
    assert why.endswith("14:20 UTC (its own scheduler says so), because it could not be started on Kubernetes.")


def test_what_is_stored_says_all_that_was_known() -> None:
    found = put(K_FREE, (*S_AT_20, *(replace(S_SMALL[0], partition="tiny"),)), request(), ASAP)
    kept = stored({"placement": found.to_json()})
    assert kept is not None
    assert (kept["chosen"], kept["asked"], kept["policy"]) == ("kubernetes", "auto", "now")
    assert kept["reason"] == found.why(found.first)
    assert [(c["place"], c["fit"]) for c in kept["candidates"]] == [
        ("kubernetes", "now"),
        ("slurm:gpu", "later"),
        ("slurm:tiny", "never"),
    ]
    assert kept["candidates"][1]["starts_at"] == "2026-03-02T14:20:00+00:00"
    assert kept["candidates"][0]["as_of"] == "2026-03-02T13:59:55+00:00"
    assert found.to_json(found.candidates[1])["chosen"] == "slurm:gpu"
    assert stored({}) is None
    assert stored({"placement": {**kept, "version": 99}}) is None


def test_another_day_is_named() -> None:
    assert about(in_(20), NOW) == "about 14:20 UTC"
    assert about(in_(60 * 24), NOW) == "about 14:00 UTC on 3 Mar"
