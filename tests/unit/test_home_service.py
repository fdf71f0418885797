"""The service that makes homes: what it may be asked for, by whom, and what it never touches."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daas_hub.backends.kube import KubeBackend
from daas_hub.clients.home_maker import HomeMaker
from daas_hub.clients.home_service import Limits, Server, home_tasks, main, numbers
from daas_hub.core.errors import BackendUnavailable, ConfigError, HomeRefused, StartFailed
from tests.servers.ports import free_port

TOKEN = "a token of the tests"
UID, GID = (20001, 20002) if os.geteuid() == 0 else (os.getuid(), os.getgid())


class Homes:
    """A running service."""

    def __init__(self, root: Path, token_file: Path) -> None:
        self.root = root
        self.limits = Limits(str(root), (1000, 60000), (100, 60000), ((30000, 30999),))
        self.url = f"http://127.0.0.1:{free_port()}"
        self.server = Server(("127.0.0.1", int(self.url.rpartition(":")[2])), self.limits, TOKEN.encode())
        self.maker = HomeMaker(self.url, str(token_file))


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    token_file, root = tmp_path / "token", tmp_path / "homes"
    token_file.write_text(TOKEN + "\n")
    root.mkdir(mode=0o755)
    made = Homes(root, token_file)
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


@pytest.mark.needs("root")
async def test_a_missing_home_is_made_and_hers_alone(homes: Homes) -> None:
    await homes.maker.make("ada.b", UID, GID)
    facts = (homes.root / "ada.b").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (UID, GID, 0o700)
    (homes.root / "ada.b" / "file").write_text("kept")
    await homes.maker.make("ada.b", UID, GID)
    assert (homes.root / "ada.b" / "file").read_text() == "kept"


@pytest.mark.needs("root")
async def test_a_folder_of_another_owner_is_refused_and_not_touched(homes: Homes) -> None:
    (homes.root / "eve").mkdir(mode=0o750)
    os.chown(homes.root / "eve", UID + 1, GID)
    before = (homes.root / "eve").stat()
    with pytest.raises(HomeRefused, match=f"belongs to uid {UID + 1}, but the account has uid {UID}"):
        await homes.maker.make("eve", UID, GID)
    (homes.root / "link").symlink_to(homes.root / "eve")
    with pytest.raises(HomeRefused, match="symbolic link"):
        await homes.maker.make("link", UID + 1, GID)
    (homes.root / "file").write_text("")
    with pytest.raises(HomeRefused, match="is not a folder"):
        await homes.maker.make("file", UID, GID)
    assert (homes.root / "eve").stat() == before
    assert sorted(path.name for path in homes.root.iterdir()) == ["eve", "file", "link"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"name": "../ada"}, "plain part"),
        ({"name": ".."}, "plain part"),
        ({"name": "a/b"}, "plain part"),
        ({"name": ""}, "plain part"),
        ({"name": "-ada"}, "plain part"),
        ({"name": "ada\n"}, "plain part"),
        ({"name": "x" * 65}, "plain part"),
        ({"name": 5}, "plain part"),
        ({"uid": 0}, "uid 0 may not"),
        ({"uid": 999}, "uid 999 may not"),
        ({"uid": 60001}, "uid 60001 may not"),
        ({"uid": 30500}, "uid 30500 may not"),
        ({"uid": True}, "uid is not a whole number"),
        ({"uid": "20001"}, "uid is not a whole number"),
        ({"uid": 20001.0}, "uid is not a whole number"),
        ({"gid": 0}, "gid 0 may not"),
        ({"gid": 99}, "gid 99 may not"),
        ({"gid": 30999}, "gid 30999 may not"),
        ({"mode": 511}, "and nothing else"),
    ],
)
async def test_nothing_else_may_be_asked_for(homes: Homes, asked: dict[str, Any], words: str) -> None:
    request = {"name": "ada", "uid": 20001, "gid": 20002, **asked}
    async with aiohttp.ClientSession(trust_env=False) as session:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with session.post(f"{homes.url}/make_home", json=request, headers=headers) as reply:
            assert reply.status == 400
            assert words in (await reply.json())["error"]
    assert list(homes.root.iterdir()) == []


async def test_a_refused_id_ends_the_start(homes: Homes) -> None:
    with pytest.raises(StartFailed) as raised:
        await homes.maker.make("ada", 999, 20002)
    assert (raised.value.permanent, raised.value.reason) == (True, "home")
    assert "uid 999 may not have a home here" in raised.value.log_message


async def test_only_the_hub_is_answered(homes: Homes, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another token")
    with pytest.raises(BackendUnavailable) as raised:
        await homes.maker.make("ada", 20001, 20002)
    assert "it answers 401: the token is not the hub's" in raised.value.log_message
    async with aiohttp.ClientSession(trust_env=False) as session:
        async with session.post(f"{homes.url}/make_home", json={"name": "ada", "uid": 20001, "gid": 20002}) as reply:
            assert reply.status == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with session.post(f"{homes.url}/other", json={}, headers=headers) as reply:
            assert reply.status == 400
        async with session.post(f"{homes.url}/make_home", data=b"x" * 5000, headers=headers) as reply:
            assert reply.status == 400
        async with session.post(f"{homes.url}/make_home", data=b"{", headers=headers) as reply:
            assert (reply.status, await reply.json()) == (400, {"error": "the request is not JSON"})
        async with session.get(f"{homes.url}/health") as reply:
            assert reply.status == 200
    assert list(homes.root.iterdir()) == []


async def test_a_service_that_is_away_is_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable) as raised:
        await HomeMaker(f"http://127.0.0.1:{free_port()}", str(tmp_path / "none")).make("ada", 20001, 20002)
    assert raised.value.reason == "home_service"
    (tmp_path / "token").write_text(TOKEN)
    with pytest.raises(BackendUnavailable):
        await HomeMaker(f"http://127.0.0.1:{free_port()}", str(tmp_path / "token")).make("ada", 20001, 20002)


def test_a_root_that_is_gone_is_told(tmp_path: Path) -> None:
    limits = Limits(str(tmp_path / "none"), (1000, 60000), (100, 60000))
    tasks = home_tasks()
    with pytest.raises(tasks.Failed, match="does not exist, nor does the folder it would be made in"):
        tasks.make_home({"home": f"{limits.root}/ada", "uid": 20001, "gid": 20002, "home_roots": [limits.root]})
    assert replace(limits, uids=(0, 5)).problem({"name": "ada", "uid": 0, "gid": 100})


def test_a_short_token_or_a_wrong_range_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("short\n")
    argv = ["--root", str(tmp_path), "--token-file", str(tmp_path / "token")]
    with pytest.raises(SystemExit, match="shorter than 16"):
        main(argv)
    with pytest.raises(SystemExit):
        main([*argv, "--uids", "60000-1000"])
    assert "is not a range" in capsys.readouterr().err
    assert numbers("1000-60000") == (1000, 60000)


@pytest.mark.parametrize(
    ("traits", "words"),
    [
        ({"volumes": {}}, "the home is not static"),
        ({"home_service_url": ""}, "home_service_url is ''"),
        ({"home_service_token_file": ""}, "home_service_token_file is empty"),
        (
            {
                "volume_roots": [{"hostPath": {"path": "/srv"}, "depth": 2}],
                "volumes": {"home": {"kind": "hostPath", "path": "/srv/{uid}/home"}},
            },
            "homes lie in several folders",
        ),
    ],
)
def test_settings_that_cannot_work_stop_the_hub(traits: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {
        "home_creation": "service",
        "home_service_url": "http://homes:8083",
        "home_service_token_file": "/run/token",
        "volume_roots": [{"hostPath": {"path": "/srv"}}],
        "volumes": {"home": {"kind": "hostPath", "path": "/srv/{username}"}},
    }
    assert KubeBackend(**good).volume_names() == ("home",)
    with pytest.raises(ConfigError, match=words):
        KubeBackend(**{**good, **traits})
