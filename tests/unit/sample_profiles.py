"""Profiles of every kind, and what somebody might send, for the tests of options and form."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from daas_hub.core.profile_config import read_profiles

RAW: list[dict[str, Any]] = [
    {"display_name": "Basic", "resources": {"cpu_limit": 1, "mem_limit": "1G"}},
    {
        "display_name": "Data Science",
        "slug": "ds",
        "allowed_groups": ["data", "staff"],
        "resources": {"cpu_limit": 2, "mem_limit": "4G"},
        "backend": "local",
        "profile_options": {
            "image": {
                "display_name": "Image",
                "choices": {
                    "base": {"display_name": "Base"},
                    "big": {"display_name": "Big", "allowed_groups": ["big"], "resources": {"mem_limit": "8G"}},
                },
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Other image",
                    "validation_regex": "^jupyter/.+:.+$",
                    "validation_message": "Must be jupyter/<name>:<tag>",
                    "kubespawner_override": {"image": "{value}", "extra_labels": {"i": "{value}"}},
                },
            },
            "gpu": {
                "display_name": "GPU",
                "allowed_groups": ["gpu"],
                "choices": {"one": {"display_name": "One", "resources": {"gpus": 1}}},
            },
            "cores": {
                "display_name": "Cores",
                "choices": {"two": {"display_name": "Two"}},
                "unlisted_choice": {
                    "enabled": True,
                    "allowed_groups": ["staff"],
                    "kubespawner_override": {"cpu_limit": "{value}"},
                },
            },
        },
    },
    {
        "display_name": "Free",
        "slug": "free",
        "allowed_groups": ["free"],
        "profile_options": {"note": {"display_name": "Note", "unlisted_choice": {"enabled": True}}},
    },
]
SITE = read_profiles(RAW)
DATA, STAFF = ("data",), ("staff", "big", "gpu")

KEYS = ["profile", "image", "gpu", "cores", "note", "image--unlisted-choice", "cores--unlisted-choice", "__class__"]
VALUES = ["ds", "basic", "free", "base", "big", "two", "one", "unlisted-choice", "jupyter/x:1", "", "2"]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters() | st.sampled_from(VALUES)
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(KEYS), inner), max_leaves=20
)
likely = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES) | json_values)
groups_of = st.lists(st.sampled_from(["data", "staff", "big", "gpu", "free", "x"]), max_size=4).map(tuple)
