"""The process that removes site tokens once no hub is there: one for a hub, made anew when killed, ends by itself."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from daas_hub.backends.local_tokens import Keeper
from tests.waiting import until


def a_set(root: Path, launch: str, end: str) -> Path:
    folder = root / launch / f".site_tokens.{end}.0123"
    folder.mkdir(parents=True)
    (folder / "storage").write_text("a token")
    return folder


async def test_what_is_over_goes_and_then_the_keeper(tmp_path: Path) -> None:
    soon, never = a_set(tmp_path, "one", str(int(time.time()) + 2)), a_set(tmp_path, "two", "none")
    replaced = a_set(tmp_path, "three", str(int(time.time()) + 3600))
    keeper = Keeper()
    keeper.require(tmp_path)
    first = keeper._pid
    keeper.require(tmp_path)
    assert keeper._pid == first
    os.kill(first, signal.SIGKILL)

    def another() -> int:
        keeper.require(tmp_path)
        return keeper._pid if keeper._pid != first else 0

    pid = await until(another, what="another keeper")
    assert soon.exists(), "the hub is there, so it is the hub's"
    keeper.close()
    await until(lambda: not soon.exists(), what="what is over is gone")
    assert (never / "storage").exists()
    assert (replaced / "storage").exists()
    (replaced / "storage").unlink()
    replaced.rmdir()
    await until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, what="the keeper ends with the last set")
    assert never.exists()
