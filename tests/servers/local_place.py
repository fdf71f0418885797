"""The local backend for tests: folders that accounts can reach, accounts unknown to NSS, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daas_hub.backends.local import LocalBackend
from daas_hub.clients import cgroups, processes
from daas_hub.core.models import Account, AccountGroup, Handle, LaunchSpec, Resources
from daas_hub.core.naming import new_id
from tests.contracts.backend import SECRET, Place
from tests.servers.no_blocking import no_blocking
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program

UID, GID, EXTRA_GID = 54321, 54322, 54323


class LocalPlace(Place):
    """One local backend with one account."""

    def __init__(self, root: Path, *, uid: int = UID, gid: int = GID, **traits: Any) -> None:
        self.root = root
        self.traits: dict[str, Any] = {
            "runtime_dir": str(root / "run"),
            "hub_id": f"test-{root.name.lower().replace('_', '-')}",
            "stop_grace_s": 3.0,
            **traits,
        }
        self.backends: list[LocalBackend] = []
        self.backend = self.another()
        self.account = Account(
            id=new_id(),
            name="zora",
            uid=uid,
            gid=gid,
            groups=(AccountGroup("zora", gid), *([AccountGroup("crew", EXTRA_GID)] if os.geteuid() == 0 else [])),
            home=str(root / "zora"),
            shell="/bin/sh",
            source="test",
            fetched_at=datetime.now(UTC),
            display_name="Zora: the\nFirst",
        )

    def another(self) -> LocalBackend:
        backend = LocalBackend(**self.traits)
        self.backends.append(backend)
        return backend

    def spec(
        self,
        launch_id: str,
        *,
        account: Account | None = None,
        resources: Resources | None = None,
        cmd: tuple[str, ...] | None = None,
        environment: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        **options: Any,
    ) -> LaunchSpec:
        return LaunchSpec(
            launch_id=launch_id,
            hub_id=self.traits["hub_id"],
            account=account or self.account,
            user_name="zora",
            server_name="",
            resources=resources or Resources(cpu_limit=1.0, mem_limit_bytes=512 * 2**20),
            cmd=cmd or program(reachable_python(), **options),
            environment={"FROM_THE_PROFILE": "yes", **(environment or {})},
            secrets={"JUPYTERHUB_API_TOKEN": SECRET, **(secrets or {})},
            mounts=(),
            service_prefix="/user/zora/",
        )

    async def end(self, handle: Handle) -> None:
        os.kill(handle["pid"], signal.SIGKILL)

    async def seen_by_others(self, handle: Handle) -> str:
        """Its command line, and every file below the runtime folder that another uid can read."""
        pid, root = handle["pid"], str(self.root / "run")
        seen = await asyncio.to_thread(Path(f"/proc/{pid}/cmdline").read_text)
        script = _READ_ALL if os.geteuid() == 0 else _READ_WHAT_OTHERS_MAY
        argv = (reachable_python(), "-c", script, f"/proc/{pid}/environ", root, handle["dir"], f"{handle['dir']}/own")
        child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        assert child.returncode == 0
        return seen + out.decode(errors="replace")

    async def close(self) -> None:
        """Stop all that is there."""
        for found in await self.another().find():
            await self.backend.stop(found.handle, within_s=5)
            await self.backend.cleanup(found.handle)
        await self.backend.capacity()
        left = await asyncio.to_thread(lambda: [group for one in self.backends for group in backend_groups(one)])
        assert await asyncio.to_thread(cgroups.remove, [str(group) for group in left]), left
        for backend in self.backends:
            await backend.close()


def backend_groups(backend: LocalBackend) -> list[Path]:
    """The cgroup folders that a backend instance has made, innermost first."""
    place = backend._limiter._place
    return [folder for base in (place.bases if place else ()) for folder in (*base.glob("*/"), base)]


_WALK = """
import os, pathlib, stat, sys
for root in sys.argv[1:]:
    names = [root, *(os.path.join(root, n) for n in ("record.json", "log", "secrets", "account.json"))]
    for path in names + [os.path.join(f, n) for f, _, ns in os.walk(root) for n in ns]:
        print(path)
        try:
            if may(path):
                print(pathlib.Path(path).read_text(errors="replace"))
        except OSError:
            pass
"""
_READ_ALL = f"""
import os
os.setgroups([]); os.setresgid(64999, 64999, 64999); os.setresuid(64999, 64999, 64999)
may = lambda path: True
{_WALK}"""
# Nobody else's eyes can be had without root: the permission bits must do.
_READ_WHAT_OTHERS_MAY = f"may = lambda path: os.stat(path).st_mode & stat.S_IROTH{_WALK}"


@asynccontextmanager
async def local_place(**options: Any) -> AsyncIterator[LocalPlace]:
    """A place below a folder that every account can pass."""
    # Not pytest's tmp_path: that lies in a 0700 folder.
    root = Path(tempfile.mkdtemp(prefix="daas-local-", dir="/var/tmp"))
    root.chmod(0o755)
    reachable_python()
    place = LocalPlace(root, **options)
    try:
        with no_blocking():
            yield place
    finally:
        await place.close()
        shutil.rmtree(root)


async def alive(pid: int) -> bool:
    """Whether a pid runs; a zombie does not."""
    seen = await asyncio.to_thread(processes.stat, pid)
    return seen is not None and not seen.ended
