"""Static volumes on a real NFS server: mounted as kubelet would mount them, used by people, root and the home service.

This machine's kernel has no NFS, so no pod of the cluster can use one: server, client and people are in a virtual
machine with Debian's kernel. What kubelet is told is the disk that the backend makes; the command line is the one that
Kubernetes makes of it (pkg/volume/nfs, k8s.io/mount-utils), which ``test_kube_two_nodes.py`` sees from a real kubelet.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends.kube_static import disk_of
from daas_hub.clients import home_service
from daas_hub.core.models import AccountGroup, Json
from daas_hub.core.pods import volume_problem
from daas_hub.core.volume_rules import HOME, VolumeRule, read_roots, read_rules
from daas_hub.core.volumes import plan
from tests.faults import nfs_inside
from tests.faults.nfs_inside import CREW, GID, OTHER, UID
from tests.helm.pods import launch_spec
from tests.servers import nfs

pytestmark = [pytest.mark.needs("root", "nfs"), pytest.mark.timeout(330)]
WITHIN_S = 300.0
SERVER = "127.0.0.1"
OPTIONS = ["hard", "nfsvers=4.2"]
NAS = {"kind": "nfs", "server": SERVER, "mount_options": OPTIONS}
EXPORTS = {
    # The root of what NFSv4 shows: clients name the others without it.
    "/export": "ro,fsid=0,root_squash,no_subtree_check",
    "/export/home": "rw,fsid=1,root_squash,no_subtree_check",
    "/export/projects": "rw,fsid=2,root_squash,no_subtree_check",
    "/export/trusted": "rw,fsid=3,no_root_squash,no_subtree_check",
}


def disk(name: str, user: str = "zora") -> Json:
    """The PersistentVolume that the backend binds in advance for a volume of that rule."""
    account = replace(launch_spec().account, name=user, uid=UID, gid=GID, groups=(AccountGroup("crew", CREW),))
    roots = read_roots([{"nfs": {"server": SERVER, "path": f"/{part}"}} for part in ("home", "projects")])
    given = {
        "home": {**NAS, "path": "/home/{username}"},
        "crew": {**NAS, "path": "/projects/{group}", "mount_path": "/groups/{group}"},
    }
    rules = read_rules(given, roots, VolumeRule(HOME))
    (found,) = (one for one in plan(account, (), (name,), rules) if one.rule == name)
    spec = replace(launch_spec(), account=account)
    return disk_of(found.mount("v1", known=False), spec, rules[name], "daas-v1", "users")


def as_kubelet(disk: Json, target: str) -> list[str]:
    """The command by which kubelet mounts it: that it does is seen in ``test_kube_two_nodes.py``."""
    source, options = disk["spec"]["nfs"], sorted(disk["spec"]["mountOptions"])
    return ["mount", "-t", "nfs", "-o", ",".join(options), f"{source['server']}:{source['path']}", target]


def whole(path: str, target: str) -> list[str]:
    """An export as a whole, to look at several homes; a site mounts it on no node."""
    return ["mount", "-t", "nfs", "-o", ",".join(OPTIONS), f"{SERVER}:{path}", target]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One machine for all tests: what each part of ``nfs_inside.py`` saw."""
    mounts = {
        "home": as_kubelet(disk(HOME), "/mnt/home"),
        "missing": as_kubelet(disk(HOME, "nobody-made-it"), "/mnt/missing"),
        "crew": as_kubelet(disk("crew"), "/mnt/crew"),
        "homes": whole("/home", "/mnt/homes"),
        "projects": whole("/projects", "/mnt/projects"),
        "trusted": whole("/trusted", "/mnt/trusted"),
        "closed": whole("/elsewhere", "/mnt/closed"),
    }
    given = {"mounts": mounts, "home_service": str(Path(home_service.__file__ or ""))}
    folder, program = tmp_path_factory.mktemp("nfs"), Path(nfs_inside.__file__ or "")
    return nfs.run(folder, program, EXPORTS, json.dumps(given), within_s=WITHIN_S)


def test_what_the_backend_binds_is_mounted_by_kubelets_command(seen: Any) -> None:
    assert {name: seen["mounts"][name] for name in ("home", "crew")} == {
        name: {"status": 0, "said": ""} for name in ("home", "crew")
    }
    assert [seen["types"][name] for name in ("home", "crew")] == ["nfs4 vers=4.2"] * 2
    assert (seen["home"], seen["home_file"][:2]) == ("written", [UID, GID])


def test_a_folder_that_is_missing_on_the_server_is_refused_and_named(seen: Any) -> None:
    missing = seen["mounts"]["missing"]
    assert missing["status"] == 32
    assert seen["types"]["missing"] == ""
    told = volume_problem(kubelets_event(as_kubelet(disk(HOME, "nobody-made-it"), "/mnt/missing"), missing["said"]))
    assert told is not None
    assert told.final
    assert f"The folder {SERVER}:/home/nobody-made-it does not exist" in told.message


def test_what_the_server_does_not_export_is_refused_and_named(seen: Any) -> None:
    closed = seen["mounts"]["closed"]
    told = volume_problem(kubelets_event(whole("/elsewhere", "/mnt/closed"), closed["said"]))
    assert closed["status"] == 32
    assert told is not None
    assert told.final, closed["said"]
    assert f"{SERVER}:/elsewhere" in told.message


def kubelets_event(argv: list[str], said: str) -> Json:
    """What kubelet tells of a mount that failed (k8s.io/mount-utils, mount_linux.go)."""
    text = f"mount failed: exit status 32\nMounting command: mount\nMounting arguments: {' '.join(argv[1:])}\n"
    return {"reason": "FailedMount", "message": f'MountVolume.SetUp failed for volume "daas-v1" : {text}Output: {said}'}


def test_homes_below_one_export_are_open_to_their_owners_alone(seen: Any) -> None:
    homes = seen["homes"]
    assert (homes["written"], homes["file"][:2]) == ("written", [UID, GID])
    assert homes["others_own_home"] == []
    for what in ("read_by_other", "listed_by_other", "other_home"):
        assert homes[what] == "PermissionError", what


def test_root_of_a_node_is_nobody_there(seen: Any) -> None:
    for what in ("listed_by_root", "written_by_root", "given_away_by_root"):
        assert seen["homes"][what] == "PermissionError", what


def test_a_groups_folder_gives_its_group_and_no_other(seen: Any) -> None:
    groups = seen["groups"]
    assert (groups["written"], groups["file"][:2]) == ("written", [UID, CREW])
    assert groups["by_other"] == "PermissionError"


def test_the_seventeenth_group_does_not_count(seen: Any) -> None:
    """Why more than 16 groups are a warning (``many_groups``): AUTH_SYS carries no more."""
    assert (seen["groups"]["early"], seen["groups"]["late"]) == ("written", "PermissionError")


def test_the_home_service_needs_a_node_that_is_let_in_as_root(seen: Any) -> None:
    squashed, trusted = seen["service"]["homes"], seen["service"]["trusted"]
    assert (trusted["status"], trusted["home"]) == (200, [UID + 7, GID, 0o700]), trusted
    assert trusted["left"] == ["carol"]
    assert squashed["status"] in (403, 500)
    assert "carol cannot be made" in squashed["answer"]["error"]
    assert (squashed["home"], squashed["left"]) == ([], ["bob", "zora"])
    assert OTHER not in (trusted["home"][0], trusted["home"][1])
