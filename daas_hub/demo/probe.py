"""Before the URL is printed: can every account really run a server here?"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from daas_hub.core.errors import ConfigError

from .people import Person

PROBE_WITHIN_S = 60.0


async def probe_accounts(people: Iterable[Person], gids: dict[str, int], path: str) -> None:
    """Run ``jupyterhub-singleuser --version`` as each account; raises ConfigError naming who cannot and why."""
    program = shutil.which("jupyterhub-singleuser", path=path)
    if program is None:
        raise ConfigError("jupyterhub-singleuser is not in this environment: install daas-hub[demo].")
    # Without root all are one account.
    accounts = list({person.uid: person for person in people}.values())
    # A group, not gather: cancelled, it ends only when each process has been awaited.
    async with asyncio.TaskGroup() as group:
        tried = [group.create_task(_probe(program, p, sorted(gids[g] for g in p.groups), path)) for p in accounts]
    problems = [task.result() for task in tried if task.result()]
    if problems:
        raise ConfigError(
            f"Servers could not start here. {problems[0]} Usually the environment or the folder lies where other "
            "accounts may not enter: use scripts/demo, which makes an environment that everybody can reach."
        )


async def _probe(program: str, person: Person, groups: list[int], path: str) -> str:
    as_account: dict[str, Any] = (
        {"user": person.uid, "group": person.gid, "extra_groups": groups} if os.geteuid() == 0 else {}
    )
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            # A home that does not exist: nothing may be read from or written to anybody's.
            env={"PATH": path, "HOME": "/nonexistent", "JUPYTER_PLATFORM_DIRS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            **as_account,
        )
    except OSError as error:
        return f"{program} cannot be started as {person.name} (uid {person.uid}): {error.strerror}."
    try:
        out, _ = await asyncio.wait_for(process.communicate(), PROBE_WITHIN_S)
    except TimeoutError:
        return f"{program} did not answer as {person.name} within {PROBE_WITHIN_S:g} s."
    finally:
        # Also where the demo was told to stop meanwhile: nothing of it goes on.
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return ""
    last = out.decode(errors="replace").strip().splitlines()[-1:]
    return f"{program} does not run as {person.name} (uid {person.uid}): {' '.join(last) or process.returncode}."
