"""A terminal of a real server, used as Lab does: it has the person's profile and the server's own programs."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from tests.flow.site import Site
from tests.servers.hub import http_call
from tests.servers.reachable_python import singleuser
from tests.servers.websockets import websocket
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(180)]


async def terminal_says(url: str, token: str, expression: str) -> str:
    """What a shell of a new terminal makes of ``"<expression>"``."""
    headers = {"Authorization": f"token {token}"}
    status, made = await asyncio.to_thread(http_call, "POST", f"{url}api/terminals", b"{}", headers)
    assert status == 200, made
    address = f"{url}terminals/websocket/{made['name']}".replace("http", "ws", 1)
    printed = ""
    async with websocket(address, headers) as socket, asyncio.timeout(30):
        # In two parts, so that the terminal's echo of what is typed is not what is looked for.
        await socket.write_message(json.dumps(["stdin", f'echo "<""<{expression}>"">"\r']))
        while (found := re.search("<<(.*?)>>", printed, re.DOTALL)) is None:
            raw = await socket.read_message()
            assert raw is not None, f"the terminal ended: {printed}"
            kind, text = json.loads(raw)[:2]
            printed += text if kind == "stdout" else ""
    return found[1]


async def test_a_terminal_has_the_profile_and_the_programs_of_the_server(site: Site) -> None:
    await site.sign_in("ada")
    home, ada = site.home("ada"), site.person("ada")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    profile = home / ".profile"
    profile.write_text("export FROM_PROFILE=read\nPATH=$HOME/bin:/usr/bin:/bin\n")
    os.chown(profile, ada.uid, ada.gid)
    [row] = [one for one in site.launches() if one.user_name == "ada"]
    assert row.handle is not None
    url = f"http://127.0.0.1:{row.handle['port']}/user/ada/"
    said = await terminal_says(url, site.hub.token, "$FROM_PROFILE|$(command -v python)|$PATH|$_daas_path")
    programs = str(Path(singleuser()).parent)
    read, python, path, rest = said.split("|")
    assert (read, python, rest) == ("read", f"{programs}/python", "")
    assert path.endswith(f"{home}/bin:/usr/bin:/bin"), "the order of the person's own PATH stays"
    assert path.split(":").count("/usr/bin") == 1
    await site.stop_servers()
    await until(lambda: not site.servers("ada"), within_s=30, what="server gone")
