"""A real hub with profiles, for tests of choosing: anybody may sign in, and servers are tiny."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.hub import HubServer
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

CONFIG = """
from daas_hub import configure
from jupyterhub.auth import Authenticator

class Known(Authenticator):
    '''Everybody by any password, with an account made from the name: sign-in has tests of its own.'''
    manage_groups = True
    async def authenticate(self, handler, data):
        name = data["username"]
        uid = 45000 + sum(name.encode())
        attributes = {{"uid_number": uid, "gid_number": uid, "home": f"{homes}/{{name}}", "shell": "/bin/sh",
                      "posix_groups": [[name, uid]]}}
        groups = ["data"] if name.startswith("data") else ["others"]
        identity = {{"issuer": "ldap:test", "subject": name, "name": name, "display_name": name, "mail": "",
                    "groups": groups, "attributes": attributes}}
        return {{"name": name, "admin": name == "boss", "groups": groups,
                "auth_state": {{"daas": {{"version": 1, "identity": identity}}}}}}

configure(c)
c.JupyterHub.authenticator_class = Known
c.Authenticator.allow_all = True
c.DaasSpawner.use_nss = False
c.DaasSpawner.cmd = {cmd!r}
c.LocalBackend.runtime_dir = "{run}"
c.LocalBackend.home_roots = ["{homes}"]
c.DaasSpawner.profile_list = [
    {{"display_name": "Basic", "resources": {{"cpu_limit": 1, "mem_limit": "512M"}}}},
    {{"display_name": "Other", "resources": {{"cpu_limit": 1, "mem_limit": "512M"}},
      "profile_options": {{"size": {{"display_name": "Size", "choices": {{
          "s": {{"display_name": "Small"}},
          "l": {{"display_name": "Large", "allowed_groups": ["data"], "resources": {{"mem_limit": "600M"}}}}}}}}}}}},
    {{"display_name": "Secret <i>", "slug": "secret", "allowed_groups": ["data"],
      "resources": {{"cpu_limit": 1, "mem_limit": "512M"}}}},
]
"""


@contextmanager
def profiles_hub() -> Iterator[HubServer]:
    """The hub, running; its servers and folders are gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="daas-test-options-", dir="/var/tmp"))
    root.chmod(0o755)
    homes = root / "homes"
    homes.mkdir(mode=0o755)
    server = HubServer(root, CONFIG.format(homes=homes, run=root / "run", cmd=[*program(reachable_python())]))
    try:
        asyncio.run(server.start())
        yield server
    finally:
        asyncio.run(stop_all(server))
        shutil.rmtree(root, ignore_errors=True)


async def stop_all(server: HubServer) -> None:
    """End every server that a failed test may have left, then the hub."""
    status, users = await server.api("GET", "users?state=active")
    for user in users if status == 200 else []:
        for name in user["servers"]:
            await stop_server(server, user["name"], name)
    await server.stop()


async def stop_server(server: HubServer, user: str, name: str = "") -> None:
    """Stop one server and wait until the hub knows."""
    path = f"users/{user}/servers/{name}" if name else f"users/{user}/server"
    await server.api("DELETE", path)

    async def gone() -> bool:
        model = await server.server(user, name)
        return model is None or model["stopped"]

    await until(gone, within_s=60, what=f"server of {user} stopped")
