"""What a site may say about volumes, and what a server of an account then sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daas_hub.backends.kube_pod import Claim, Rules, names_of, own, warnings_of
from daas_hub.core.errors import ConfigError, StartFailed
from daas_hub.core.models import AccountGroup
from daas_hub.core.naming import path_part
from daas_hub.core.profile_config import read_profiles
from daas_hub.core.profiles import unknown_volumes
from daas_hub.core.units import quantity_bytes
from daas_hub.core.volume_rules import HOME, VolumeRule, read_roots, read_rules
from daas_hub.core.volumes import grows, growth, growth_said, plan
from tests.helm.pods import launch_spec

ROOTS = [
    {"nfs": {"server": "nas.example.org", "path": "/export/home"}},
    {"nfs": {"server": "nas.example.org", "path": "/export/projects"}, "depth": 2},
    {"hostPath": {"path": "/srv/data"}},
]
NAS = {"kind": "nfs", "server": "nas.example.org"}
ADA = replace(
    launch_spec().account,
    name="ada",
    home="/home/ada",
    groups=(AccountGroup("ada", 20001), AccountGroup("physics", 3001), AccountGroup("x-ray", 3002)),
)


def rules(**volumes: Any) -> dict[str, VolumeRule]:
    named = {name.replace("_", "-"): given for name, given in volumes.items()}
    return read_rules(named, read_roots(ROOTS), VolumeRule(HOME))


def test_without_rules_there_is_the_home_alone() -> None:
    (home,) = plan(ADA, (), (), rules())
    assert (home.name, home.path, home.place, home.own) == ("home", "/home/ada", {"version": 1, "kind": "claim"}, True)


def test_a_static_home_lies_where_the_site_has_it() -> None:
    (home,) = plan(ADA, (), (), rules(home={**NAS, "path": "/export/home/{username}"}))
    assert home.path == "/home/ada"
    place = {"version": 1, "kind": "nfs", "server": "nas.example.org", "path": "/export/home/ada"}
    assert home.place == place
    mount = home.mount("v1", known=False)
    assert (mount.source, mount.path, mount.place, mount.own) == ("/export/home/ada", "/home/ada", place, True)


def test_each_of_her_groups_has_its_folder_and_no_other_group_has() -> None:
    projects = {**NAS, "path": "/export/projects/{group}/data", "mount_path": "/projects/{group}"}
    seen = plan(ADA, ("chemistry",), ("projects",), rules(projects=projects))
    assert [(one.name, one.path, one.own, one.group_gid) for one in seen[1:]] == [
        ("projects:physics", "/projects/physics", False, 3001),
        ("projects:x-ray", "/projects/x-ray", False, 3002),
    ]
    assert seen[0].group_gid is None
    assert seen[1].mount("v1", known=False).group_gid == 3001
    some = rules(projects={**projects, "allowed_groups": ["physics", "chemistry"]})
    assert [one.name for one in plan(ADA, ("chemistry",), ("projects",), some)[1:]] == ["projects:physics"]


def test_a_volume_is_there_for_those_whose_profile_names_it_and_whose_group_may() -> None:
    site = rules(
        atlas={"kind": "hostPath", "path": "/srv/data/atlas", "mount_path": "/atlas", "read_only": True,
               "allowed_groups": ["physics"]},
        scratch={"kind": "dynamic", "mount_path": "/scratch/{username}", "size": "5Gi"},
    )  # fmt: skip
    assert [one.name for one in plan(ADA, ("physics",), (), site)] == ["home"]
    assert [one.name for one in plan(ADA, (), ("atlas", "scratch"), site)] == ["home", "scratch"]
    _, atlas, scratch = plan(ADA, ("physics",), ("atlas", "scratch", "atlas"), site)
    assert (atlas.read_only, atlas.own, atlas.source) == (True, False, "/srv/data/atlas")
    assert (scratch.path, scratch.own, scratch.place["kind"]) == ("/scratch/ada", True, "claim")


@pytest.mark.parametrize(
    ("name", "part"),
    [("ada", "ada"), ("ada.b", "ada.b"), ("DATA_2", "DATA_2"), ("a@b.org", "a@b.org"), ("_x", "_x")],
)
def test_a_plain_name_is_its_own_folder(name: str, part: str) -> None:
    assert path_part(name) == part


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../ada", "{uid}", "a b", "-x", "ä", "a---b", "x" * 65, "a\0b"])
def test_no_other_name_is_a_path(name: str) -> None:
    part = path_part(name)
    assert "---" in part
    assert "/" not in part
    hostile = replace(ADA, name=name)
    (home,) = plan(hostile, (), (), rules(home={**NAS, "path": "/export/home/{username}"}))
    assert home.place["path"] == f"/export/home/{part}"


def test_names_that_differ_have_folders_that_differ() -> None:
    names = ["a/b", "a b", "a-b", "a---b", path_part("a/b")]
    assert len({path_part(name) for name in names}) == len(names)


def test_volumes_that_cannot_be_had_together_are_refused() -> None:
    site = rules(work={"kind": "dynamic", "mount_path": "/home/ada/work"})
    with pytest.raises(StartFailed, match=r"work \(/home/ada/work\) and home \(/home/ada\) overlap") as raised:
        plan(ADA, (), ("work",), site)
    assert (raised.value.permanent, raised.value.reason) == (True, "volume")
    with pytest.raises(StartFailed, match="'lost', which is not known here; there is home, work"):
        plan(ADA, (), ("lost",), site)


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        ({"Home": {}}, "'Home' is no name"),
        ({"a": "nfs"}, r"\['a'\] is str; a dict is needed"),
        ({"a": {"kind": "ceph"}}, r"\['kind'\] is 'ceph'; allowed are dynamic, nfs, hostPath"),
        ({"a": {"kind": "dynamic", "mount_path": "/a", "path": "/x"}}, r"\['path'\] is unknown for kind dynamic"),
        ({"a": {"kind": "dynamic"}}, r"\['mount_path'\] is None; a path is needed"),
        ({"a": {"kind": "dynamic", "mount_path": "a"}}, "an absolute path is needed"),
        ({"a": {"kind": "dynamic", "mount_path": "/"}}, "an absolute path is needed"),
        ({"a": {"kind": "dynamic", "mount_path": "/a/../b"}}, "an absolute path is needed"),
        ({"a": {"kind": "dynamic", "mount_path": "/etc/a"}}, "nothing may be mounted in /etc"),
        ({"a": {"kind": "dynamic", "mount_path": "/run"}}, "nothing may be mounted in /run"),
        ({"a": {"kind": "dynamic", "mount_path": "/a/{mail}"}}, r"only \{username\}, \{uid\}, \{group\} may stand"),
        ({"a": {"kind": "dynamic", "mount_path": "/a/{uid!r}"}}, "only .* may stand"),
        ({"a": {"kind": "dynamic", "mount_path": "/a/{uid.real}"}}, "only .* may stand"),
        ({"a": {"kind": "dynamic", "mount_path": "/a/{uid"}}, "is no template"),
        ({"a": {"kind": "dynamic", "mount_path": "/a/{group}"}}, "no {group} in the path"),
        ({"a": {"kind": "dynamic", "mount_path": "/a", "size": "1 GB"}}, r"\['size'\] cannot be used"),
        ({"a": {"kind": "dynamic", "mount_path": "/a", "access_modes": ["RWX"]}}, "has 'RWX'; allowed are"),
        ({"a": {"kind": "dynamic", "mount_path": "/a", "read_only": "no"}}, "is 'no'; True or False"),
        ({"a": {"kind": "dynamic", "mount_path": "/a", "allowed_groups": "x"}}, "a list of groups"),
        ({"a": {**NAS, "path": "/export/home/{uid}", "mount_path": "/a", "server": "a b"}}, r"\['server'\]"),
        ({"a": {**NAS, "path": "/other/{uid}", "mount_path": "/a"}}, "below no root of volume_roots for nfs"),
        ({"a": {**NAS, "path": "/export/home", "mount_path": "/a"}}, "below no root"),
        ({"a": {**NAS, "path": "/export/home/a/b", "mount_path": "/a"}}, "below no root"),
        ({"a": {**NAS, "path": "/export/homes/a", "mount_path": "/a"}}, "below no root"),
        ({"a": {"kind": "hostPath", "path": "/export/home/x", "mount_path": "/a"}}, "below no root"),
        ({"a": {**NAS, "path": "/export/projects/{group}", "mount_path": "/a"}}, "add {group}"),
        ({"home": {**NAS, "path": "/export/home/all"}}, "needs {username} or {uid}"),
        ({"home": {"kind": "dynamic", "mount_path": "/h"}}, "it is where the account says"),
        ({"home": {"kind": "dynamic", "allowed_groups": []}}, "every account has a home"),
        ({"home": {"kind": "dynamic", "read_only": True}}, "a home is written to"),
        (
            {"a": {"kind": "dynamic", "mount_path": "/a"}, "b": {"kind": "dynamic", "mount_path": "/a/b"}},
            "'b' is mounted at /a/b, which is in 'a'",
        ),
    ],
)
def test_what_cannot_work_stops_the_hub_with_a_sentence(volumes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_rules(volumes, read_roots(ROOTS), VolumeRule(HOME))


@pytest.mark.parametrize(
    "roots",
    [["/srv"], [{}], [{"nfs": {"path": "/x"}}], [{"hostPath": {"path": "x"}}], [{"hostPath": {"path": "/x/{uid}"}}],
     [{"hostPath": {"path": "/x"}, "depth": 0}], [{"hostPath": {"path": "/x"}, "depth": True}],
     [{"hostPath": {"path": "/x"}, "nfs": {"server": "a", "path": "/x"}}]],
)  # fmt: skip
def test_a_root_that_is_none_stops_the_hub(roots: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"KubeBackend\.volume_roots\[0\]"):
        read_roots(roots)


def test_a_profile_or_choice_that_names_an_unknown_volume_is_told_at_start_up() -> None:
    choice = {"display_name": "Big", "volumes": ["big"]}
    raw = {"display_name": "A", "volumes": ["scratch"],
           "profile_options": {"size": {"display_name": "Size", "choices": {"big": choice}}}}  # fmt: skip
    profiles = read_profiles([raw])
    assert unknown_volumes(profiles, {"home", "scratch", "big"}) == []
    (told,) = unknown_volumes(profiles, {"home", "scratch"})
    assert told == "Profile 'a' names the volume 'big'; there is home, scratch."


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("1Gi", 2**30), ("1G", 10**9), ("1k", 1000), ("1024", 1024), ("0.5Mi", 2**19), ("2Ti", 2**41)]
)
def test_sizes_of_kubernetes(text: str, n_bytes: int) -> None:
    assert quantity_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "1 Gi", "1GB", "-1Gi", "1K", "1e3", "Gi"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        quantity_bytes(text)


def claim(asked: str, has: str, *conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "spec": {"resources": {"requests": {"storage": asked}}},
        "status": {"capacity": {"storage": has}, "conditions": list(conditions), **status},
    }


@pytest.mark.parametrize(
    ("given", "state", "words"),
    [
        (claim("2Gi", "1Gi"), "asked", "was asked to grow from 1 GiB to 2 GiB"),
        (claim("2Gi", "1Gi", {"type": "Resizing", "status": "True"}), "resizing", "grows from 1 GiB to 2 GiB"),
        (claim("2Gi", "1Gi", {"type": "FileSystemResizePending", "status": "True"}), "resizing", "grows"),
        (claim("2Gi", "1Gi", {"type": "Resizing", "status": "False"}), "asked", "was asked"),
        (
            claim("2Gi", "1Gi", {"type": "ControllerResizeError", "status": "True", "message": "pool is full"}),
            "refused",
            "stays at 1 GiB; it should have 2 GiB, but pool is full",
        ),
        (
            claim("2Gi", "1Gi", allocatedResourceStatuses={"storage": "ControllerResizeInfeasible"}),
            "refused",
            "the storage cannot do it",
        ),
        (claim("2Gi", "2Gi"), "done", ""),
    ],
)
def test_how_far_a_claim_has_grown(given: dict[str, Any], state: str, words: str) -> None:
    told = growth(given)
    assert told["state"] == state
    assert words in growth_said("/home/ada", told)
    assert bool(growth_said("/home/ada", told)) is bool(words)


def test_a_smaller_size_never_shrinks() -> None:
    assert grows("1Gi", "2Gi")
    assert not grows("2Gi", "1Gi")
    assert not grows("1Gi", "1024Mi")


# ---------------------------------------------------------------- fsGroup


@pytest.mark.parametrize(
    ("kinds", "foreign", "fs_group", "warned"),
    [
        ((True,), False, True, False),
        ((True, True), False, True, False),
        ((False,), False, False, False),
        ((True, False), False, False, True),
        ((True,), True, False, False),
        ((), False, True, False),
    ],
)
def test_kubelet_gives_her_group_only_what_the_cluster_made(
    kinds: tuple[bool, ...], foreign: bool, fs_group: bool, warned: bool
) -> None:
    spec = launch_spec()
    claims = [Claim(f"daas-{n}", f"/v{n}", dynamic=dynamic) for n, dynamic in enumerate(kinds)]
    built: dict[str, Any] = {"metadata": {}, "spec": {"containers": [{"name": "notebook"}]}}
    if foreign:
        # By c.KubeSpawner.volumes: whose disk it is, nobody knows.
        built["spec"]["volumes"] = [{"name": "x", "persistentVolumeClaim": {"claimName": "theirs"}}]
    context = own(built, spec, names_of(spec, "n"), claims, Rules())["spec"]["securityContext"]
    assert context.get("fsGroup") == (spec.account.gid if fs_group else None)
    assert context.get("fsGroupChangePolicy") == ("OnRootMismatch" if fs_group else None)
    warnings = [w.partition(":")[0] for w in warnings_of(spec.account, Rules(), claims)]
    assert warnings == (["no_fs_group"] if warned else [])
