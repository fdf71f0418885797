"""What a launch on this machine consists of: ids, environment, words for its end. Values only."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends import local_launch
from daas_hub.backends.local_folder import LaunchFolder
from daas_hub.backends.local_launch import POSIX_SHELLS, Hub, Ids
from daas_hub.core.errors import AccountRefused
from daas_hub.core.models import Account, AccountGroup, LaunchSpec, Resources

ZORA = Account(
    "1", "zora", 5001, 6001, (AccountGroup("crew", 6002),), "/home/zora", "/bin/zsh", "test", datetime.now(UTC)
)
ROOT = Hub(0, 0, (0,), False, 1000)
PLAIN = Hub(7000, 7000, (7000, 7001), False, 1000)
SPEC = LaunchSpec(
    launch_id="abc",
    hub_id="h",
    account=ZORA,
    user_name="zora",
    server_name="",
    resources=Resources(),
    cmd=("/opt/env/bin/jupyterhub-singleuser",),
    environment={"HOME": "/tmp/evil", "X": "1", "JUPYTERHUB_SERVICE_URL": "http://evil", "JUPYTER_PATH": "/site"},
    secrets={"JUPYTERHUB_API_TOKEN": "t"},
    mounts=(),
    service_prefix="/user/zora/",
)


def test_root_gives_the_account_its_own_ids() -> None:
    assert local_launch.ids_of(ZORA, ROOT) == Ids(5001, 6001, (6001, 6002))


@pytest.mark.parametrize(
    "account",
    [
        replace(ZORA, uid=0),
        replace(ZORA, uid=999),
        replace(ZORA, gid=0),
        replace(ZORA, groups=(AccountGroup("wheel", 0),)),
    ],
)
def test_root_refuses_system_ids_once_more(account: Account) -> None:
    with pytest.raises(AccountRefused) as refusal:
        local_launch.ids_of(account, ROOT)
    assert str(account.uid) in refusal.value.message


def test_without_root_another_uid_is_refused_and_both_are_named() -> None:
    with pytest.raises(AccountRefused) as refusal:
        local_launch.ids_of(ZORA, PLAIN)
    assert "5001" in refusal.value.message
    assert "7000" in refusal.value.message
    assert local_launch.ids_of(replace(ZORA, uid=7000), PLAIN) == Ids(7000, 7000, (7000, 7001))
    shared = local_launch.ids_of(ZORA, replace(PLAIN, allow_shared_uid=True))
    assert shared == Ids(7000, 7000, (7000, 7001), shared=True)


def test_without_root_groups_that_cannot_be_set_are_named() -> None:
    own = replace(ZORA, uid=7000, gid=7000, groups=(AccountGroup("a", 7001), AccountGroup("b", 7002)))
    assert "[7002]" in local_launch.groups_warning(own, local_launch.ids_of(own, PLAIN))[0]
    assert local_launch.groups_warning(ZORA, local_launch.ids_of(ZORA, ROOT)) == []


def test_a_uid_that_everybody_has_lacks_no_groups_whatever_the_directory_says() -> None:
    everybody = replace(PLAIN, allow_shared_uid=True)
    for account in (ZORA, replace(ZORA, uid=7000, gid=7000)):
        ids = local_launch.ids_of(account, everybody)
        assert ids == Ids(7000, 7000, (7000, 7001), shared=True)
        assert local_launch.groups_warning(account, ids) == []


def test_as_root_a_shared_uid_is_never_used() -> None:
    assert local_launch.ids_of(ZORA, replace(ROOT, allow_shared_uid=True)) == Ids(5001, 6001, (6001, 6002))


def test_the_environment_is_the_accounts_and_ours_comes_last() -> None:
    folder = LaunchFolder(Path("/run/daas"), "abc")
    env = local_launch.environment(SPEC, folder, inherited={"PATH": "/usr/bin", "X": "0"}, certificates={})
    assert (env["HOME"], env["USER"], env["LOGNAME"], env["SHELL"]) == ("/home/zora", "zora", "zora", "/bin/zsh")
    assert env["X"] == "1"
    at = local_launch.address(SPEC, 8001)
    assert at == {"JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:8001/user/zora/"}
    assert env["PATH"] == "/opt/env/bin:/usr/bin"
    assert env["JUPYTER_PATH"] == "/home/zora/.local/share/jupyter:/site"
    assert "JUPYTERHUB_API_TOKEN" not in env
    outside = ("RUNTIME_DIR", "DATA_DIR", "CONFIG_DIR")
    assert all(env[f"JUPYTER_{name}"].startswith("/run/daas/abc/own/") for name in outside)
    assert all(env[name].startswith("/run/daas/abc/own/") for name in ("IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR"))
    keys = {"JUPYTERHUB_SSL_KEYFILE": "/k"}
    assert local_launch.environment(SPEC, folder, inherited={}, certificates=keys)["JUPYTERHUB_SSL_KEYFILE"] == "/k"
    assert (
        "https://" in local_launch.address(replace(SPEC, certificates={"keyfile": "/k"}), 1)["JUPYTERHUB_SERVICE_URL"]
    )


@pytest.mark.parametrize("shell", [f"/bin/{name}" for name in sorted(POSIX_SHELLS) if Path(f"/bin/{name}").exists()])
def test_a_terminal_puts_back_what_the_login_took_from_the_path_and_no_more(shell: str, tmp_path: Path) -> None:
    for name in (".profile", ".zprofile"):
        (tmp_path / name).write_text("PATH=/mine:/usr/bin:/bin; export LOGIN=read\n")
    env = {"PATH": "/opt/a b:/usr/bin:/bin", "HOME": str(tmp_path)}
    asked = 'echo "$LOGIN $PATH $0 ${_daas_path-none}"\n'
    done = subprocess.run(
        local_launch.terminal(shell), input=asked, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"read /opt/a b:/mine:/usr/bin:/bin {shell} none", done.stderr


def test_a_shell_of_another_language_is_begun_as_it_is() -> None:
    assert local_launch.terminal("/usr/bin/fish") == ["/usr/bin/fish"]


@pytest.mark.parametrize(
    "handle",
    [
        {},
        {"backend": "local"},
        {"backend": "local", "version": 2, "boot_id": "b", "pid": 5, "start_time": 1},
        {"backend": "slurm", "version": 1, "boot_id": "b", "pid": 5, "start_time": 1},
        {"backend": "local", "version": 1, "boot_id": "b", "pid": 1, "start_time": 1},
        {"backend": "local", "version": 1, "boot_id": "b", "pid": -1, "start_time": 1},
        {"backend": "local", "version": 1, "boot_id": "b", "pid": "5", "start_time": 1},
    ],
)
def test_a_handle_that_names_no_process_is_refused(handle: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="handle"):
        local_launch.process_of(handle)


def test_only_groups_of_this_launch_are_ever_killed() -> None:
    handle = {"launch_id": "abc", "groups": ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu/daas-h/abc", "/", "/x/abc/y"]}
    assert local_launch.groups_of(handle) == ("/sys/fs/cgroup/cpu/daas-h/abc",)


@pytest.mark.parametrize("launch_id", ["", "..", "a/b", "a.b", "/etc"])
def test_a_launch_id_is_never_a_path(launch_id: str) -> None:
    with pytest.raises(ValueError, match="launch id"):
        LaunchFolder(Path("/x"), launch_id)


@pytest.mark.parametrize(
    ("code", "oom_kills", "words"),
    [
        (0, 0, "it ended by itself"),
        (3, 0, "exit status 3"),
        (-15, 0, "SIGTERM"),
        (-9, 0, "SIGKILL"),
        (-9, 1, "out of memory: it used more than its 512 MiB"),
        (None, 1, "out of memory"),
        (None, 0, "exit status is not known"),
        # A kernel was killed, the server went on and ended later by itself.
        (0, 1, "it ended by itself"),
        (-200, 0, "signal 200"),
    ],
)
def test_words_for_an_end(code: int | None, oom_kills: int, words: str) -> None:
    assert words in local_launch.how_it_ended(code, oom_kills=oom_kills, memory_limit_bytes=512 * 2**20)
