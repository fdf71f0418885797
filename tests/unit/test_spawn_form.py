"""spawners/form.py, and forms and links in spawners/options.py: read as meant, shown without harm."""

from __future__ import annotations

import contextvars
import html
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas_hub.core.errors import InvalidOptions
from daas_hub.core.profile_config import read_profiles
from daas_hub.spawners import form
from daas_hub.spawners.options import dump, from_form, from_query, lenient, parse
from tests.unit.sample_profiles import DATA, SITE, STAFF, VALUES, groups_of

fields_of_forms = st.dictionaries(
    st.text() | st.sampled_from(["profile", "_xsrf", "image", "profile-option-ds--image", "profile-option-x"]),
    st.lists(st.text() | st.sampled_from(VALUES) | st.dictionaries(st.text(), st.binary()), max_size=3),
)


@given(fields_of_forms, groups_of)
def test_any_form_is_options_or_a_refusal_and_any_link_a_form(fields: Any, groups: tuple[str, ...]) -> None:
    try:
        options = from_form(fields)
    except InvalidOptions:
        options = {}
    assert all(isinstance(text, str) for item in options.items() for text in item)
    assert isinstance(rendered(from_query(fields), by_link=True, groups=groups), str)


# ---------------------------------------------------------------- forms and links


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"profile": ["basic"]}, {"profile": "basic"}),
        ({"_xsrf": ["t"], "profile": ["ds"], "profile-option-ds--image": ["base"]}, {"profile": "ds", "image": "base"}),
        (
            {
                "profile": ["ds"],
                "profile-option-ds--image": ["unlisted-choice"],
                "profile-option-ds--image--unlisted-choice": ["jupyter/x:1"],
                "profile-option-other--image": ["x"],
            },
            {"profile": "ds", "image": "unlisted-choice", "image--unlisted-choice": "jupyter/x:1"},
        ),
        (
            {
                "profile": ["ds"],
                "profile-option-ds--image": ["base"],
                "profile-option-ds--image--unlisted-choice": ["left over"],
                "profile-option-ds--cores--unlisted-choice": [""],
            },
            {"profile": "ds", "image": "base"},
        ),
        # KubeSpawner's script takes the select's name away
        (
            {"profile": ["ds"], "profile-option-ds--image--unlisted-choice": ["jupyter/x:1"]},
            {"profile": "ds", "image--unlisted-choice": "jupyter/x:1"},
        ),
        ({"evil": ["1"], "profile": ["ds"]}, {"evil": "1", "profile": "ds"}),
        ({"profile": ["ds"], "profile-option-ds--evil": ["1"]}, {"evil": "1", "profile": "ds"}),
    ],
)
def test_form_fields_become_options(fields: Any, options: dict[str, str]) -> None:
    assert from_form(fields) == options


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"profile": ["a", "b"]}, "profile: one text is needed, not a list"),
        ({"profile": []}, "profile: one text is needed, not a list"),
        ({"x_file": [{"body": b"\x00"}]}, "x_file: one text is needed, not a list"),
    ],
)
def test_what_no_form_of_ours_posts_is_refused(fields: Any, message: str) -> None:
    with pytest.raises(InvalidOptions, match=message):
        from_form(fields)


def test_a_link_fills_in_what_is_good_and_names_the_rest() -> None:
    query = {"profile": ["ds"], "image": ["big"], "cores": ["two"], "evil": ["<script>", "2"], "gpu": ["one"]}
    good, problems = lenient(from_query(query), SITE, DATA)
    assert good == {"profile": "ds", "cores": "two"}
    assert [p.split(" ")[0] for p in problems] == ["evil:", "Image", "Option"]
    assert lenient({"profile": "nope", "image": "base"}, SITE, DATA)[0] == {}
    assert lenient(dict.fromkeys(map(str, range(90)), 1), SITE, DATA)[1][-1] == "and 70 more."


def test_options_accepted_before_profiles_changed_shrink_to_what_is_left() -> None:
    stored = dump(parse({"profile": "ds", "image": "big"}, SITE, STAFF))
    assert lenient(stored, SITE, ("staff",))[0] == {"profile": "ds", "cores": "two"}
    assert lenient(stored, SITE[:1], ("staff",))[0] == {}


# ---------------------------------------------------------------- the page


def rendered(asked: dict[str, Any] | None = None, *, by_link: bool = False, **keys: Any) -> str:
    def show() -> str:
        if asked is not None:
            form.remember(asked, by_link=by_link)
        return form.render(SITE, keys.pop("groups", DATA), backends=("local",), **keys)

    return contextvars.copy_context().run(show)


PLACES = {"basic": [("auto", "Automatic: now on Kubernetes"), ("slurm:gpu", "SLURM <gpu>: about 14:20 UTC")]}


def test_places_are_offered_where_there_is_a_choice() -> None:
    assert "placement" not in rendered()
    page = rendered(places=PLACES)
    assert page.count('name="profile-option-basic--placement"') == 1
    assert "profile-option-ds--placement" not in page
    assert '<option value="auto" selected>Automatic: now on Kubernetes</option>' in page
    assert "SLURM &lt;gpu&gt;: about 14:20 UTC" in page
    again = rendered(places=PLACES, last={"profile": "basic", "placement": "slurm:gpu"})
    assert '<option value="slurm:gpu" selected>' in again


def chosen(page: str) -> list[str]:
    return re.findall(r'value="([^"]*)"[^>]*? (?:checked|selected)', page)


def test_cards_show_what_a_profile_gives_and_only_open_ones() -> None:
    page = rendered()
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert "Basic 1 core · 1 GiB memory · on this machine" in text
    assert "Data Science 2 cores · 4 GiB memory · on this machine Image" in text
    assert 'on this machine <span class="text-body-secondary">(the options change this)' in rendered(groups=STAFF)
    assert 'name="profile-option-ds--image"' in page
    assert 'name="profile-option-ds--image--unlisted-choice"' in page
    for closed in ("Free", "GPU", "Big"):
        assert closed not in page
    assert page.count("autofocus") == 1
    assert "<script" not in page


@pytest.mark.parametrize(
    ("last", "marked"),
    [
        (None, ["basic", "base", "two"]),
        ({"profile": "ds", "cores": "two"}, ["ds", "base", "two"]),
        ({"profile": "ds", "image--unlisted-choice": "jupyter/x:1"}, ["ds", "unlisted-choice", "two"]),
        ({"profile": "free"}, ["basic", "base", "two"]),
        ([["hostile"]], ["basic", "base", "two"]),
    ],
)
def test_the_last_accepted_options_are_chosen(last: Any, marked: list[str]) -> None:
    page = rendered(last=last)
    assert chosen(page) == marked
    assert ('value="jupyter/x:1"' in page) == ("unlisted-choice" in marked)


def test_a_link_fills_the_form_and_says_that_nothing_started() -> None:
    page = rendered({"profile": "ds", "image": "<b>"}, by_link=True, last={"profile": "basic"})
    assert chosen(page) == ["ds", "base", "two"]
    assert "nothing was started yet" in page
    assert "image: Image has no choice &#34;&lt;b&gt;&#34;" in page


def test_a_refused_post_comes_back_filled_with_what_was_good() -> None:
    page = rendered({"profile": "ds", "image--unlisted-choice": "jupyter/x:1", "evil": "1"})
    assert chosen(page) == ["ds", "unlisted-choice", "two"]
    assert "alert" not in page, "the hub shows the refusal itself"
    page = rendered({"profile": "ds", "image--unlisted-choice": 'bad "text"', "cores--unlisted-choice": "\x00"})
    assert chosen(page) == ["ds", "unlisted-choice", "two"]
    assert "bad &#34;text&#34;" in page, "a refused text comes back to be mended"


def test_hostile_names_are_escaped_everywhere() -> None:
    bad = "</option></style><script>alert(1)</script>\"'&{{ 7*7 }}"
    profiles = read_profiles(
        [
            {
                "display_name": bad,
                "slug": "x",
                "description": bad,
                "profile_options": {
                    "o": {
                        "display_name": bad,
                        "description": bad,
                        "choices": {"c": {"display_name": bad}},
                        "unlisted_choice": {
                            "enabled": True,
                            "display_name": bad,
                            "display_name_in_choices": bad,
                            "validation_message": bad,
                        },
                    }
                },
            }
        ]
    )
    page = form.render(profiles, [bad], last={"profile": "x", "o": bad}, notes={"x": bad}, backends=[bad])
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "49" not in page
    assert page.count("&lt;script&gt;") >= 11


def test_where_nothing_is_open_the_page_says_so() -> None:
    page = form.render(SITE[1:], ["b", "a"])
    assert "No profile is open to you. Your groups: a, b." in page
    assert "No profile is open to you. You are in no group." in form.render(SITE[1:], [])
