"""A home without a single free byte: the server starts, a kernel works, deleting frees room, then saving works."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from daas_hub.core.models import Resources
from daas_hub.core.naming import new_id
from tests.contracts.backend import SECRET, Saved
from tests.servers.local_place import GID, UID, LocalPlace, local_place
from tests.servers.reachable_python import singleuser
from tests.servers.websockets import websocket

pytestmark = pytest.mark.needs("root")

# JupyterLab as jupyterhub-singleuser runs it, less the hub that it would ask.
LAB = """
import os, sys
from urllib.parse import urlparse
from jupyterlab.labapp import main
url = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
sys.argv = ["jupyter-lab", "--no-browser", f"--ServerApp.ip={url.hostname}", f"--ServerApp.port={url.port}",
            "--ServerApp.port_retries=0", f"--ServerApp.base_url={url.path}", "--ServerApp.disable_check_xsrf=True"]
os.environ["JUPYTER_TOKEN"] = os.environ["JUPYTERHUB_API_TOKEN"]
main()
"""


@pytest.fixture
async def place() -> AsyncIterator[LocalPlace]:
    await asyncio.to_thread(singleuser)
    async with local_place() as place:
        yield place


@pytest.fixture
async def full_home(place: LocalPlace) -> AsyncIterator[Path]:
    """A small file system of its own as the home, filled to the last byte."""
    home = Path(place.account.home)
    home.mkdir()
    options = f"size=8m,mode=0700,uid={UID},gid={GID}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "daas-test-home", home], check=True)
    try:
        settings = home / ".jupyter/lab/user-settings/@jupyterlab/theme"
        settings.mkdir(parents=True)
        (settings / "theme.jupyterlab-settings").write_text('{"theme": "JupyterLab Dark"}')
        fill(home / "big.dat", 4 * 2**20)
        fill(home / "rest.dat", None)
        for path in home.rglob("*"):
            os.chown(path, UID, GID)
        assert os.statvfs(home).f_bavail == 0
        yield home
    finally:
        await place.close()
        subprocess.run(["umount", home], check=True)


def fill(path: Path, size: int | None) -> None:
    """Write ``size`` bytes, or as many as there is room for."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for _ in range(size // 4096 if size is not None else 2**20):
            file.write(b"x" * 4096)


class Lab:
    """A running JupyterLab."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"token {SECRET}"}

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = HTTPRequest(
            f"{self.url}{path}",
            method=method,
            headers=self.headers,
            body=None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            request_timeout=30,
        )
        answer = await AsyncHTTPClient().fetch(request, raise_error=False)
        return answer.code, json.loads(answer.body) if answer.body else None

    async def execute(self, code: str) -> str:
        """What a fresh kernel prints for ``code``."""
        status, kernel = await self.call("POST", "/api/kernels", {})
        assert status == 201, kernel
        address = f"{self.url.replace('http', 'ws', 1)}/api/kernels/{kernel['id']}/channels"
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "s"}
        header |= {"version": "5.3", "date": ""}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        printed = ""
        async with websocket(address, self.headers) as socket, asyncio.timeout(40):
            await socket.write_message(json.dumps(message))
            while True:
                got = json.loads(str(await socket.read_message()))
                if got["parent_header"].get("msg_id") != header["msg_id"]:
                    continue
                if got["msg_type"] == "stream":
                    printed += got["content"]["text"]
                # The reply comes by another channel than what was printed, and may overtake it.
                if got["msg_type"] == "status" and got["content"]["execution_state"] == "idle":
                    return printed


def file_of(size: int) -> dict[str, Any]:
    return {"type": "file", "format": "text", "content": "y" * size}


@pytest.mark.timeout(180)
async def test_start_kernel_delete_save_in_a_full_home(place: LocalPlace, full_home: Path) -> None:
    python = str(Path(singleuser()).with_name("python"))
    spec = place.spec(new_id(), cmd=(python, "-c", LAB), resources=Resources(mem_limit_bytes=2**30))
    saved = Saved()
    await place.backend.prepare(spec)
    url = await place.backend.start(spec, saved)
    assert any(warning.startswith("home_nearly_full") for warning in saved.last["warnings"])
    lab = Lab(f"{url}/user/zora")
    assert await lab.execute("import os; print(os.getuid(), 6 * 7)") == f"{UID} 42\n"
    # Her settings are there although they can only be read in the home.
    plugin = "@jupyterlab/theme:theme"
    status, answer = await lab.call("GET", f"/lab/api/settings/{plugin}")
    assert status == 404 or "Dark" in json.dumps(answer)
    status, _ = await lab.call("PUT", "/api/contents/new.txt", file_of(2**20))
    assert status >= 400
    status, _ = await lab.call("DELETE", "/api/contents/big.dat")
    assert status == 204
    assert not (full_home / ".local/share/Trash").exists()
    assert os.statvfs(full_home).f_bavail > 0
    status, _ = await lab.call("PUT", "/api/contents/new.txt", file_of(2**20))
    assert status in {200, 201}
    assert (full_home / "new.txt").stat().st_size == 2**20
    assert (full_home / "new.txt").stat().st_uid == UID


async def test_settings_that_do_not_fit_leave_the_old_ones_whole(
    place: LocalPlace, full_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theme = full_home / ".jupyter/lab/user-settings/@jupyterlab/theme/theme.jupyterlab-settings"
    before = theme.read_text()
    spec, saved = place.spec(new_id()), Saved()
    await place.backend.prepare(spec)
    await place.backend.start(spec, saved)
    out = Path(saved.last["dir"]) / "own/lab/user-settings/@jupyterlab/theme" / theme.name
    assert out.read_text() == before
    out.write_text("z" * 2**20)
    await place.backend.stop(saved.last, within_s=10)
    await place.backend.cleanup(saved.last)
    assert theme.read_text() == before
    assert os.strerror(errno.ENOSPC) in caplog.text
    assert list(full_home.rglob(".daas-*")) == []


async def test_deleting_uses_the_trash_while_there_is_room(place: LocalPlace) -> None:
    place.backend.full_home_bytes = 0
    spec, saved = place.spec(new_id()), Saved()
    await place.backend.prepare(spec)
    await place.backend.start(spec, saved)
    assert saved.last["warnings"] == []
    settings = json.loads((Path(saved.last["dir"]) / "own/config/jupyter_server_config.json").read_text())
    assert "FileContentsManager" not in settings
