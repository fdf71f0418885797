"""spawners/options.py: hostile options are refused cheaply and by name, and never shown raw."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given

from daas_hub.core.errors import InvalidOptions, NotAllowed
from daas_hub.core.profile_config import read_profiles
from daas_hub.spawners import form
from daas_hub.spawners.kept_options import shrunk
from daas_hub.spawners.options import dump, lenient, parse, shown
from tests.unit.sample_profiles import DATA, RAW, SITE, STAFF, groups_of, json_values, likely

# ---------------------------------------------------------------- what is accepted


@pytest.mark.parametrize(
    ("user_options", "groups", "stored"),
    [
        ({}, (), {"profile": "basic"}),
        ({"profile": ""}, DATA, {"profile": "basic"}),
        ({"profile": "ds"}, DATA, {"profile": "ds", "image": "base", "cores": "two"}),
        ({"profile": "ds", "image": ""}, DATA, {"profile": "ds", "image": "base", "cores": "two"}),
        (
            {"profile": "ds", "image": "big", "gpu": "one"},
            STAFF,
            {"profile": "ds", "image": "big", "gpu": "one", "cores": "two"},
        ),
        (
            {"profile": "ds", "image--unlisted-choice": "jupyter/x:1", "image": "unlisted-choice"},
            DATA,
            {"profile": "ds", "image--unlisted-choice": "jupyter/x:1", "cores": "two"},
        ),
        ({"profile": "free", "note--unlisted-choice": "日本 é"}, ("free",), None),
        ({"placement": "slurm:gpu"}, (), {"profile": "basic", "placement": "slurm:gpu"}),
        ({"profile": "basic", "placement": "auto"}, (), {"profile": "basic"}),
        ({"profile": "basic", "placement": ""}, (), {"profile": "basic"}),
    ],
)
def test_accepted_options_ask_for_the_same_again(
    user_options: Any, groups: tuple[str, ...], stored: dict[str, str] | None
) -> None:
    request = parse(user_options, SITE, groups)
    assert dump(request) == (stored or user_options)
    assert shrunk(user_options) == user_options
    assert parse(json.loads(json.dumps(dump(request))), SITE, groups) == request


def test_choices_reach_the_request() -> None:
    request = parse({"profile": "ds", "image": "big", "gpu": "one", "cores--unlisted-choice": "0.5"}, SITE, STAFF)
    assert request.profile_display_name == "Data Science"
    assert request.resources.mem_limit_bytes == 8 * 2**30
    assert request.resources.cpu_limit == 0.5
    assert request.resources.gpus == 1
    assert request.backends == ("local",)
    text = parse({"profile": "ds", "image--unlisted-choice": "jupyter/x:1"}, SITE, DATA)
    assert text.override == {"image": "jupyter/x:1", "extra_labels": {"i": "jupyter/x:1"}}
    assert text.resources.gpus == 0, "a closed option adds nothing"


# ---------------------------------------------------------------- what is refused

DEEP: Any = json.loads('{"a":' * 900 + "[]" + "}" * 900)

REFUSED: list[tuple[Any, str, str]] = [
    # wrong types, on every level
    ([], "user_options", "user_options: an object is needed, not a list."),
    (None, "user_options", "not null"),
    ("profile=ds", "user_options", 'not "profile=ds"'),
    ({"profile": None}, "profile", "profile: text is needed, not null."),
    ({"profile": ["ds"]}, "profile", "profile: text is needed, not a list."),
    ({"profile": {"slug": "ds"}}, "profile", "not an object"),
    ({"profile": True}, "profile", "not true"),
    ({"profile": 0}, "profile", "not the number 0"),
    ({"profile": float("inf")}, "profile", "not the number inf"),
    ({"profile": 10**4000}, "profile", "not a very large number"),
    ({"profile": "ds", "image": 5}, "image", "image: text is needed, not the number 5."),
    ({"profile": "ds", "image--unlisted-choice": []}, "image--unlisted-choice", "not a list"),
    # unknown and reserved names
    ({"profile": "nope"}, "profile", 'there is no profile "nope". Open to you: basic, ds.'),
    ({"profile": "DS"}, "profile", 'there is no profile "DS"'),
    ({"evil": "1"}, "evil", "evil: profile Basic has no such option; it has no options."),
    ({"image": "base"}, "image", "image: profile Basic has no such option"),
    ({"profile": "ds", "uid": "0"}, "uid", "its options are image, cores."),
    ({"profile": "ds", "__class__": "x"}, "__class__", "no such option"),
    ({"__jupyterhub_bytes__": "x", "data": "aGk="}, "__jupyterhub_bytes__", "no such option"),
    ({"profile": "ds", "kubespawner_override": "x"}, "kubespawner_override", "no such option"),
    ({"profile": "ds", "unlisted-choice": "x"}, "unlisted-choice", "no such option"),
    ({"profile": "ds", "a\n\x1b[31m\u202e": "x"}, "a\\n\\x1b[31m\\u202e", "no such option"),
    ({"profile": "ds", "\ud800": "x"}, "\\ud800", "no such option"),
    ({"profile": "ds", "": "x"}, "", "no such option"),
    ({"placement": "slurm gpu"}, "placement", 'placement: "slurm gpu" is not a place: auto, or the name of one'),
    ({"placement": "a:b:c"}, "placement", '"a:b:c" is not a place'),
    ({"placement": ":gpu"}, "placement", '":gpu" is not a place'),
    ({"placement": "slurm:--uid=0"}, "placement", "is not a place"),
    ({"placement": "slurm:gpu\n"}, "placement", "is not a place"),
    ({"placement": 5}, "placement", "placement: text is needed"),
    # choices
    ({"profile": "ds", "image": "nope"}, "image", 'no choice "nope". Allowed: base, image--unlisted-choice.'),
    ({"profile": "ds", "cores": "unlisted-choice"}, "cores--unlisted-choice", None),  # type: ignore[list-item]
    ({"profile": "ds", "image": "unlisted-choice"}, "image--unlisted-choice", "write a value for Image"),
    ({"profile": "ds", "image": "base", "image--unlisted-choice": "jupyter/x:1"}, "image--unlisted-choice", "one of"),
    ({"profile": "ds", "image--unlisted-choice": "x"}, "image--unlisted-choice", '"x" is not allowed. Must be jupyter'),
    ({"profile": "ds", "image--unlisted-choice": "x jupyter/x:1"}, "image--unlisted-choice", "is not allowed"),
    ({"profile": "ds", "image--unlisted-choice": "jupyter/x:1\n"}, "image--unlisted-choice", "control characters"),
    ({"profile": "ds", "image--unlisted-choice": "jupyter/{username}:1"}, "image--unlisted-choice", "braces"),
    ({"profile": "ds", "image--unlisted-choice": "jupyter/\ud800:1"}, "image--unlisted-choice", "\\ud800"),
    ({"profile": "ds", "image--unlisted-choice": "   "}, "image--unlisted-choice", "write a value"),
    # size and depth
    ({"profile": "x" * 5_000_000}, "profile", "profile: the text has more than 1000 characters"),
    ({"x" * 5_000_000: "1"}, "x" * 100 + "…", "no such option"),
    ({"profile": "ds", "image--unlisted-choice": "a" * 1001}, "image--unlisted-choice", "more than 1000 characters"),
    ({str(i): "" for i in range(101)}, "user_options", "more than 100 fields were sent"),
    ({"profile": [0] * 1_000_000}, "profile", "a list"),
    ({"profile": DEEP}, "profile", "an object"),
]


@pytest.mark.parametrize(("user_options", "field", "words"), REFUSED, ids=range(len(REFUSED)))
def test_hostile_options_are_refused_by_name_and_shortly(user_options: Any, field: str, words: str | None) -> None:
    if words is None:
        with pytest.raises(NotAllowed, match=r"A text for Cores is not open to you\. It is open to group staff"):
            parse(user_options, SITE, DATA)
        return
    began = time.perf_counter()
    with pytest.raises(InvalidOptions) as caught:
        parse(user_options, SITE, DATA)
    assert time.perf_counter() - began < 0.25
    error = caught.value
    if isinstance(user_options, dict):
        small = shrunk(user_options)
        assert len(json.dumps(small)) < 5000
        assert shrunk(json.loads(json.dumps(small))) == small
        with pytest.raises(InvalidOptions, match=re.escape(error.message)):
            parse(small, SITE, DATA)
    assert error.field == field
    assert error.message.startswith(f"{field}:")
    assert words in error.message
    assert len(error.message) < 500
    assert error.message.isprintable()


def test_a_text_that_is_needed_is_asked_for() -> None:
    with pytest.raises(InvalidOptions, match="note--unlisted-choice: Note is needed"):
        parse({"profile": "free"}, SITE, ("free",))


def test_a_text_that_makes_no_size_is_refused() -> None:
    for text in ("many", "-1", "1e999", "nan", "0"):
        with pytest.raises(InvalidOptions, match=r'cores--unlisted-choice: ".*" cannot be used for cpu_limit'):
            parse({"profile": "ds", "cores--unlisted-choice": text}, SITE, STAFF)


@pytest.mark.parametrize(
    ("user_options", "groups", "sentence"),
    [
        (
            {"profile": "ds"},
            (),
            "Profile Data Science is not open to you. It is open to groups data, staff. You are in no group. "
            "Ask an administrator if you need it.",
        ),
        ({"profile": "ds"}, ("a", "b"), "You are in groups a, b."),
        ({"profile": "ds", "image": "big"}, DATA, "Image Big is not open to you. It is open to group big."),
        ({"profile": "ds", "gpu": "one"}, DATA, "Option GPU is not open to you. It is open to group gpu."),
        ({"profile": "ds", "gpu--unlisted-choice": "x"}, DATA, "Option GPU is not open to you."),
        ({"profile": "ds", "cores--unlisted-choice": "2"}, DATA, "A text for Cores is not open to you."),
    ],
)
def test_what_groups_close_is_refused_with_a_sentence(
    user_options: Any, groups: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(NotAllowed) as caught:
        parse(user_options, SITE, groups)
    assert sentence in caught.value.message
    assert caught.value.status == 403


def test_where_nothing_is_open_every_start_is_refused() -> None:
    closed = read_profiles([{**RAW[0], "allowed_groups": ["x"]}])
    with pytest.raises(NotAllowed, match="No profile is open to you"):
        parse({}, closed, ())
    assert parse({}, closed, (), admin=True).profile == "basic"


def test_a_refusal_names_no_closed_profile_or_choice() -> None:
    for user_options in ({"profile": "nope"}, {"profile": "ds", "image": "nope"}):
        with pytest.raises(InvalidOptions) as caught:
            parse(user_options, SITE, DATA)
        assert "free" not in caught.value.message.lower()
        assert "big" not in caught.value.message.lower()


# ---------------------------------------------------------------- properties


@given(json_values | likely, groups_of)
def test_any_json_is_a_request_or_a_refusal(user_options: Any, groups: tuple[str, ...]) -> None:
    try:
        request = parse(user_options, SITE, groups)
    except (InvalidOptions, NotAllowed) as error:
        message = error.message
    else:
        message = ""
        assert parse(dump(request), SITE, groups) == request
    assert len(message) < 1000
    assert message.isprintable()


@given(json_values | likely, groups_of)
def test_the_lenient_part_is_part_of_it_and_has_no_problems(user_options: Any, groups: tuple[str, ...]) -> None:
    good, problems = lenient(user_options, SITE, groups)
    assert all(isinstance(user_options, dict) and user_options[k] == v for k, v in good.items())
    assert lenient(good, SITE, groups) == (good, ())
    html_text = form.render(SITE, groups, last=user_options)
    html_text.encode()
    assert len(problems) <= 21
    try:
        parse(user_options, SITE, groups)
    except (InvalidOptions, NotAllowed):
        return
    assert not problems


@pytest.mark.parametrize("depth", [10, 1000, 100_000])
def test_depth_and_size_cost_nothing(depth: int) -> None:
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    hostile = {"profile": "ds", "image": deep, "x" * 1_000_000: deep, "gpu": "y" * 4_000_000}
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(InvalidOptions, match="image: text is needed, not a list"):
            parse(hostile, SITE, DATA)
        good, problems = lenient(hostile, SITE, DATA)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 0.25
    assert peak < 200_000
    assert good == {"profile": "ds"}
    assert len(problems) == 3
    while deep:
        (deep,) = deep


def test_parse_is_fast() -> None:
    """The goal is 1 ms; measured 0.02 to 0.13 ms, asserted with room for a busy machine."""
    options = {"profile": "ds", "image--unlisted-choice": "jupyter/datascience-notebook:2024-10-01"}
    best = 1.0
    for _ in range(50):
        began = time.perf_counter()
        parse(options, SITE, DATA)
        best = min(best, time.perf_counter() - began)
    assert best < 0.001


@pytest.mark.parametrize("value", ["a" * 500, "\u202e\x00\ud800", b"x", object(), (1, 2), -0.0, -(10**30)])
def test_shown_is_short_and_harmless(value: object) -> None:
    assert shown(value).isprintable()
    assert len(shown(value)) <= 104


# ---------------------------------------------------------------- what of SLURM people choose, and for which project

CLUSTER = read_profiles(
    [
        {"display_name": "GPU", "slug": "gpu", "slurm_choices": ["qos", "partition", "runtime"],
         "slurm_override": {"partition": "gpu", "account": "site", "runtime": "60"}},
        {"display_name": "Plain", "slug": "plain"},
    ]
)  # fmt: skip


def test_her_own_choices_lie_over_the_profiles_settings_for_slurm() -> None:
    asked = {"profile": "gpu", "qos": "fast", "runtime": "2:00:00", "project": "p-1"}
    request = parse(asked, CLUSTER, ())
    expected = {"partition": "gpu", "account": "site", "runtime": "2:00:00", "qos": "fast"}
    assert (request.override["slurm"], request.project) == (expected, "p-1")
    assert dump(request) == asked
    assert lenient(asked, CLUSTER, ()) == (asked, ())


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"profile": "plain", "qos": "fast"}, "qos", "profile Plain has no such option; it has no options."),
        ({"profile": "gpu", "slurm_account": "x"}, "slurm_account", "its options are partition, qos, runtime."),
        ({"profile": "gpu", "qos": "{value}"}, "qos", '"{value}" cannot be used: a name has letters'),
        ({"profile": "gpu", "partition": "a,b"}, "partition", '"a,b" cannot be used'),
        ({"profile": "gpu", "runtime": "for ever"}, "runtime", "it must be minutes, or m:s"),
        ({"profile": "gpu", "runtime": "0"}, "runtime", "it must be from 1 to"),
        ({"project": "Not A Name"}, "project", '"Not A Name" is not the name of a project.'),
    ],
)
def test_what_is_no_name_or_not_hers_to_choose_is_refused(asked: dict[str, str], field: str, words: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        parse(asked, CLUSTER, ())
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")
    assert words in caught.value.message
    given, problems = lenient(asked, CLUSTER, ())
    assert field not in given
    assert len(problems) == 1
