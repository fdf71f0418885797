"""core/profile_config.py, layers.py, profiles.py: what is refused at start-up, who sees what, what it gives."""

from __future__ import annotations

from typing import Any

import pytest

from daas_hub.core.errors import ConfigError
from daas_hub.core.layers import OWNED, substituted
from daas_hub.core.models import Resource, Resources
from daas_hub.core.profile_config import derived_slug, read_profiles
from daas_hub.core.profiles import combined, default_profile, find, missing_limits, visible

IMAGE = {
    "display_name": "Image",
    "choices": {
        "base": {"display_name": "Base", "kubespawner_override": {"image": "base:1"}},
        "big": {
            "display_name": "Big",
            "default": True,
            "allowed_groups": ["big"],
            "kubespawner_override": {"mem_limit": "8G", "image": "big:1"},
        },
    },
}


def profile(**keys: Any) -> dict[str, Any]:
    return {"display_name": "Basic", **keys}


# ---------------------------------------------------------------- reading KubeSpawner's format


def test_kubespawners_own_example_is_read() -> None:
    """The shape of KubeSpawner's documentation: list and dict of profiles, options, unlisted choice, overrides."""
    one = {
        "display_name": "Demo - profile_list entry 1",
        "slug": "demo-1",
        "default": True,
        "kubespawner_override": {"default_url": "/lab", "cpu_guarantee": 0.5},
        "profile_options": {
            "image": {
                "display_name": "Image",
                "choices": {
                    "base": {"display_name": "jupyter/base", "kubespawner_override": {"image": "jupyter/base:latest"}},
                    "minimal": {"display_name": "jupyter/minimal", "default": True},
                },
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Other image",
                    "display_name_in_choices": "Enter image manually",
                    "validation_regex": "^jupyter/.+:.+$",
                    "validation_message": "Must be an image matching ^jupyter/<name>:<tag>$",
                    "kubespawner_override": {"image": "{value}"},
                },
            }
        },
    }
    two = {
        "display_name": "Demo - profile_list entry 2",
        "kubespawner_override": {"extra_resource_guarantees": {"nvidia.com/gpu": "1"}},
    }
    as_list = read_profiles([one, two])
    assert [p.slug for p in as_list] == ["demo-1", "demo-profile-list-entry-2"]
    assert as_list[0].options[0].default is as_list[0].options[0].choices[1]
    assert as_list[0].layer.override == {"default_url": "/lab"}
    assert as_list[1].layer.override == {"extra_resource_guarantees": {"nvidia.com/gpu": "1"}}
    assert read_profiles({"b": two, "a": one}) == as_list


@pytest.mark.parametrize(
    ("display_name", "slug"),
    [
        ("GPU (large)", "gpu-large"),
        ("Größe 1,000", "grosse-1000"),
        ("R&amp;D", "r-d"),
        ("  Data -- Science!", "data-science"),
    ],
)
def test_missing_slugs_are_derived(display_name: str, slug: str) -> None:
    assert derived_slug(display_name) == slug


def test_folded_keys_leave_the_override_and_choices_win() -> None:
    (read,) = read_profiles(
        [
            profile(
                kubespawner_override={
                    "cpu_limit": 2,
                    "mem_limit": "4G",
                    "mem_guarantee": "1G",
                    "environment": {"A": "1", "B": 2},
                    "extra_labels": {"x": "1", "y": "2"},
                    "image": "old",
                },
                resources={"cpu_guarantee": 0.5, "gpus": 1},
                volumes=["shared"],
                backend=["slurm:gpu", "slurm", "local"],
            )
        ]
    )
    top, _ = read_profiles(
        [
            profile(
                slug="top",
                resources={"cpu_limit": None, "mem_limit": 2**30},
                environment={"A": None, "C": "3"},
                volumes=["scratch", "shared"],
                backend="auto",
                kubespawner_override={"extra_labels": {"x": None, "z": "3"}, "image": "new"},
            ),
            profile(),
        ]
    )
    request = combined(read, [top.layer], {"o": "c"})
    assert request.resources == Resources(
        cpu_limit=None, cpu_guarantee=0.5, mem_limit_bytes=2**30, mem_guarantee_bytes=2**30, gpus=1
    )
    assert request.resources.charge().cores == 0.5
    assert request.environment == {"B": "2", "C": "3"}
    assert request.volumes == ("shared", "scratch")
    assert request.backends == ()
    assert combined(read, [], {}).backends == ("slurm:gpu", "slurm", "local")
    assert request.override == {"extra_labels": {"y": "2", "z": "3"}, "image": "new"}
    assert request.choices == {"o": "c"}
    assert read.layer.override == {"extra_labels": {"x": "1", "y": "2"}, "image": "old"}, "merging changes no profile"


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{value}", "a{b}c"),
        ("x-{value}-{value}", "x-a{b}c-a{b}c"),
        ("{{value}} {username}", "{value} {username}"),
        ({"k": ["{value}", 1, None]}, {"k": ["a{b}c", 1, None]}),
    ],
)
def test_a_text_is_never_read_as_a_template(template: Any, filled: Any) -> None:
    assert substituted(template, "a{b}c") == filled


# ---------------------------------------------------------------- what refuses to start


def option(**keys: Any) -> dict[str, Any]:
    return {"profile_options": {"image": {**IMAGE, **keys}}}


def unlisted(**keys: Any) -> dict[str, Any]:
    return option(unlisted_choice={"enabled": True, **keys})


def choice(**keys: Any) -> dict[str, Any]:
    return option(choices={"c": {"display_name": "C", **keys}})


MISTAKES: list[tuple[Any, str]] = [
    ([], "at least one profile"),
    ("text", "at least one profile"),
    ([1], "profile 1: a dict is needed, not int"),
    ([{}], "profile 1: display_name is None"),
    ([profile(mem_limt="1G")], r"mem_limt is unknown\. .*Allowed are display_name"),
    ([profile(allowed_group=["a"])], r"allowed_group is unknown\. Was allowed_groups meant\?"),
    ([profile(), profile()], "two profiles have the slug 'basic'"),
    ([profile(default=True), profile(slug="b", default=True)], "basic, b are all marked default"),
    ([profile(default="yes")], "profile 'Basic': default is 'yes'; True or False"),
    ([profile(slug="a--b")], "slug is 'a--b'"),
    ([profile(slug="a/b")], "slug is 'a/b'"),
    ([profile(slug="a" * 64)], "at most 63"),
    ([{"display_name": "日本"}], "slug is ''"),
    ([profile(resources={"cpu_limit": "many"})], "cpu_limit cannot be used: 'many' is not a number of cores"),
    ([profile(resources={"cpu_limit": 0})], "for no limit leave it out"),
    ([profile(resources={"cpu_limit": True})], "cpu_limit cannot be used"),
    ([profile(resources={"cpu_limit": float("nan")})], "cpu_limit cannot be used"),
    ([profile(resources={"cpu_limit": 10**400})], "cpu_limit cannot be used"),
    ([profile(resources={"mem_limit": "4 gigs"})], "mem_limit cannot be used: '4 gigs' is not a size"),
    ([profile(resources={"mem_limit": 0})], "mem_limit cannot be used: 0 must be more than 0 and at most"),
    ([profile(resources={"mem_limit": "9" * 400})], "mem_limit cannot be used"),
    ([profile(resources={"gpus": -1})], "gpus cannot be used"),
    ([profile(resources={"disk": 1})], "resources.disk is unknown; allowed are cpu_limit"),
    ([profile(resources=[1])], "resources is list; a dict is needed"),
    ([profile(resources={"cpu_limit": 1, "cpu_guarantee": 2})], "the guarantee 2.0 is above the limit 1.0"),
    ([profile(resources={"cpu_limit": 1}, kubespawner_override={"cpu_limit": 1})], "cpu_limit is set here and in"),
    ([profile(kubespawner_override={"mem_limits": "1G"})], "mem_limits is unknown. Was mem_limit meant"),
    ([profile(kubespawner_override={"uid": 0})], "kubespawner_override.uid is an owned key: the account decides"),
    ([profile(kubespawner_override={"image": lambda s: s})], "image is a function"),
    ([profile(kubespawner_override={"x": {"y": {1, 2}}})], r"kubespawner_override\.x\.y is set; JSON values"),
    ([profile(kubespawner_override={"extra_pod_config": {"securityContext": {}}})], "securityContext is an owned key"),
    ([profile(kubespawner_override={"extra_pod_config": {"host_network": True}})], "host_network is an owned key"),
    (
        [profile(kubespawner_override={"init_containers": [{"security_context": {"runAsUser": 0}}]})],
        "security_context is an owned key",
    ),
    ([profile(environment={"JUPYTERHUB_USER": "root"})], "environment.JUPYTERHUB_USER is an owned key"),
    ([profile(environment={"DAAS_LAUNCH_ID": "1"})], "environment.DAAS_LAUNCH_ID is an owned key"),
    ([profile(kubespawner_override={"environment": {"JPY_API_TOKEN": ""}})], "JPY_API_TOKEN is an owned key"),
    ([profile(environment={"A B": "1"})], "environment.A B is not the name of a variable"),
    ([profile(environment={"A": ["1"]})], "environment.A is list; text is needed"),
    ([profile(environment={"A": "\0"})], "NUL"),
    ([profile(volumes="a/b")], "volumes has 'a/b'"),
    ([profile(volumes={"a": 1})], "volumes is dict"),
    ([profile(backend="cloud")], "backend is 'cloud'; this hub has local, slurm"),
    ([profile(backend="cloud:gpu")], "backend is 'cloud:gpu'; this hub has local, slurm"),
    ([profile(backend="slurm:gpu x")], "backend has 'slurm:gpu x', which is not a name"),
    ([profile(backend=[])], "backend is empty"),
    ([profile(backend=3)], "backend is int"),
    ([profile(allowed_groups=[])], "allowed_groups is empty"),
    ([profile(allowed_groups="staff")], "allowed_groups is 'staff'; a list"),
    ([profile(profile_options=[1])], "profile_options is list"),
    ([profile(profile_options={"profile": IMAGE})], "option 'profile': its key is the name under which"),
    ([profile(profile_options={"project": IMAGE})], "option 'project': its key is the name under which the project"),
    (
        [profile(slurm_choices=["queue"])],
        r"slurm_choices is \['queue'\]; a list of any of partition, slurm_",
    ),
    ([profile(slurm_choices="qos")], "slurm_choices is 'qos'; a list"),
    ([profile(slurm_choices=["qos"], profile_options={"qos": IMAGE})], "has qos, and so has profile_options"),
    (
        [profile(profile_options={"mail_when_ready": IMAGE})],
        "option 'mail_when_ready': its key is the name",
    ),
    ([profile(profile_options={"placement": IMAGE})], "option 'placement': its key is the name under which the place"),
    ([profile(profile_options={"a--b": IMAGE})], "option 'a--b': its key is 'a--b'"),
    ([profile(profile_options={3: IMAGE})], "option 3: its key is 3"),
    ([profile(profile_options={"x": {"display_name": "X"}})], "there is nothing to choose"),
    ([profile(**option(choices=[1]))], "choices is list"),
    ([profile(**option(kubespawner_override={}))], "option 'image': kubespawner_override is unknown"),
    ([profile(**choice(uid=1))], "option 'image', choice 'c': uid is unknown"),
    ([profile(**choice(kubespawner_override={"gid": 0}))], "choice 'c': kubespawner_override.gid is an owned key"),
    ([profile(**option(choices={"unlisted-choice": {"display_name": "C"}}))], "a text of the user's own"),
    (
        [profile(**option(choices={k: {"display_name": k, "default": True} for k in "ab"}))],
        r"several defaults \(a, b\)",
    ),
    ([profile(**choice(resources={"cpu_guarantee": 4}), resources={"cpu_limit": 2})], "choice 'c' cannot work"),
    ([profile(**unlisted(validation_regex="(a"))], "validation_regex '\\(a' cannot be used: it is not a regular"),
    ([profile(**unlisted(validation_regex="(?=a)"))], "its time cannot be bounded"),
    ([profile(**unlisted(kubespawner_override={"uid": "{value}"}))], "uid is an owned key"),
    ([profile(**unlisted(kubespawner_override={"environment": {"JUPYTERHUB_X": "{value}"}}))], "is an owned key"),
    ([profile(**unlisted(kubespawner_override={"image": "{value.__class__}"}))], "only as {value}"),
    ([profile(**unlisted(kubespawner_override={"image": "{value!r}"}))], "only as {value}"),
    ([profile(**unlisted(kubespawner_override={"image": "{value[0]}"}))], "only as {value}"),
    ([profile(**unlisted(kubespawner_override={"image": "{value"}))], "is not a template"),
    ([profile(**unlisted(kubespawner_override={"cpu_limit": "{value} cores"}))], "cpu_limit cannot be used"),
    ([profile(**unlisted(enable=True))], "enable is unknown. Was enabled meant"),
    ([profile(slug=f"p{i}") for i in range(201)], "201 profiles"),
]


@pytest.mark.parametrize(("raw", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_refuse_to_start_and_name_their_place(raw: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_profiles(raw, backends=("local", "slurm"))
    assert caught.value.message.startswith("DaasSpawner.profile_list")


@pytest.mark.parametrize("key", sorted(OWNED))
def test_no_owned_key_can_be_set_anywhere(key: str) -> None:
    override = {"kubespawner_override": {key: 0}}
    for keys in (override, choice(**override), unlisted(**override)):
        with pytest.raises(ConfigError, match=f"kubespawner_override.{key} is an owned key"):
            read_profiles([profile(**keys)])


SHAPING = {
    "allow_privileged_ports", "after_x", "args", "cmd", "common_labels", "component_label", "debug", "default_url",
    "delete_grace_period", "delete_stopped_pods", "disable_user_config", "events_enabled", "extra_annotations",
    "extra_container_config", "extra_containers", "extra_labels", "extra_pod_config", "extra_resource_guarantees",
    "extra_resource_limits", "image", "image_pull_policy", "image_pull_secrets", "init_containers",
    "lifecycle_hooks", "node_affinity_preferred", "node_affinity_required", "node_selector", "notebook_dir",
    "pod_affinity_preferred", "pod_affinity_required", "pod_anti_affinity_preferred", "pod_anti_affinity_required",
    "poll_interval", "priority_class_name", "scheduler_name", "services_enabled", "shell_cmd",
    "storage_access_modes", "storage_capacity", "storage_class", "storage_extra_annotations", "storage_extra_labels",
    "storage_selector", "tolerations", "volume_mounts", "volumes", "working_dir",
}  # fmt: skip
"""What KubeSpawner 7.1 and JupyterHub take to shape a server."""


def test_kubespawners_shaping_keys_are_not_taken_for_misspelt_ones() -> None:
    (read,) = read_profiles([profile(kubespawner_override=dict.fromkeys(SHAPING, "x"))])
    assert set(read.layer.override) == SHAPING


# ---------------------------------------------------------------- who sees what

SITE = read_profiles(
    [
        profile(),
        profile(
            display_name="Data Science",
            slug="ds",
            default=True,
            allowed_groups=["data", "staff"],
            profile_options={
                "image": IMAGE,
                "gpu": {
                    "display_name": "GPU",
                    "allowed_groups": ["gpu"],
                    "choices": {"one": {"display_name": "One", "resources": {"gpus": 1}}},
                },
            },
        ),
    ]
)


@pytest.mark.parametrize(
    ("groups", "admin", "seen"),
    [
        ([], False, {"basic": {}}),
        (["gpu", "big"], False, {"basic": {}}),
        (["data"], False, {"basic": {}, "ds": {"image": ["base"]}}),
        (["staff", "big"], False, {"basic": {}, "ds": {"image": ["base", "big"]}}),
        (["data", "gpu"], False, {"basic": {}, "ds": {"image": ["base"], "gpu": ["one"]}}),
        (["DATA", "dat", "data "], False, {"basic": {}}),
        ([], True, {"basic": {}, "ds": {"image": ["base", "big"], "gpu": ["one"]}}),
    ],
)
def test_groups_open_profiles_options_and_choices(groups: list[str], admin: bool, seen: dict[str, Any]) -> None:
    shown = visible(SITE, groups, admin)
    assert {p.slug: {o.key: [c.key for c in o.choices] for o in p.options} for p in shown} == seen


def test_the_default_is_one_that_is_open() -> None:
    for groups, slug in (([], "basic"), (["data"], "ds")):
        default = default_profile(visible(SITE, groups))
        assert default is not None
        assert default.slug == slug
    ds = find(visible(SITE, ["data"]), "ds")
    assert ds is not None
    assert [o.default.key for o in ds.options if o.default] == ["base"], "big is the default, but closed"
    assert default_profile(()) is None


# ---------------------------------------------------------------- profiles that limits could not count

CPU, MEM = {"cpu_limit": 1}, {"mem_guarantee": "1G"}


def sizes(*layers: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """An option whose choices set these resources."""
    choices = {f"c{i}": {"display_name": "C", "resources": layer} for i, layer in enumerate(layers)}
    return {"display_name": "Size", "choices": choices, **keys}


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({}, ["cpu", "mem"]),
        ({"resources": {**CPU, **MEM}}, []),
        ({"resources": CPU}, ["mem"]),
        ({"resources": MEM, "profile_options": {"s": sizes(CPU, {"cpu_guarantee": 1})}}, []),
        ({"resources": MEM, "profile_options": {"s": sizes(CPU, {})}}, ["cpu"]),
        ({"resources": MEM, "profile_options": {"s": sizes(CPU, allowed_groups=["a"])}}, ["cpu"]),
        ({"resources": {**CPU, **MEM}, "profile_options": {"s": sizes({"mem_guarantee": None})}}, ["mem"]),
        ({"resources": CPU, "profile_options": {"s": sizes({}), "t": sizes(MEM), "u": sizes({})}}, []),
        (
            {
                "resources": MEM,
                "profile_options": {
                    "s": {
                        "display_name": "Cores",
                        "unlisted_choice": {"enabled": True, "kubespawner_override": {"cpu_limit": "{value}"}},
                    }
                },
            },
            [],
        ),
    ],
)
def test_missing_limits(keys: dict[str, Any], missing: list[str]) -> None:
    profiles = read_profiles([profile(**keys)])
    sentences = missing_limits(profiles, set(Resource))
    assert ["cpu" if "cpu_limit" in s else "mem" for s in sentences] == missing
    assert all("Profile 'basic'" in s for s in sentences)
    assert missing_limits(profiles, {Resource.SERVERS, Resource.GPUS}) == []
