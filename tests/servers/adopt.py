"""``daas-hub adopt`` beside a hub of the tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.servers.hub import HubServer


async def adopt(hub: HubServer, *words: str, token: bool = True) -> tuple[int, str]:
    """Exit status and output. ``token``: with the tests' own administrator token."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTERHUB_")}
    given |= {"PYTHONPATH": str(Path(__file__).parents[2]), "JUPYTERHUB_CRYPT_KEY": hub.crypt_key}
    if token:
        given["DAAS_ADOPT_TOKEN"] = hub.token
    argv = [sys.executable, "-m", "daas_hub.cli", "adopt", "-f", str(hub.write_config()), *words]

    # Not the hub's own folder: what a configuration writes there is the hub's.
    folder = hub.root.parent

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env=given, cwd=folder, capture_output=True, text=True, timeout=200, check=False)

    done = await asyncio.to_thread(run)
    said = done.stdout + done.stderr
    assert hub.token not in said
    return done.returncode, said
