"""What stands beside the server of a job that claimed its files, by itself: tokens, and the end of the log."""

from __future__ import annotations

import http.server
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends import slurm_keeper
from daas_hub.backends.slurm_launch import CLAIMER, CLAIMER_TEXT, KEEPER, KEEPER_TEXT
from daas_hub.wiring import claimed
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.timeout(120)
OFTEN = {"again_s": 0.5, "over_in_s": None}
CLAIMED = {"launch": "l", "claimer": "f" * 64}


class Hub:
    """Answers each question as it is told to."""

    def __init__(self) -> None:
        self.answer: tuple[int, Any] = (200, {})
        self.asked: list[tuple[str, bytes]] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                hub.asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                status, said = hub.answer
                text = json.dumps(said).encode()
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/claim"

    def gives(self, files: Mapping[str, Any], **more: Any) -> None:
        self.answer = (200, {"files": files, **OFTEN, **more})

    async def asked_again(self, times: int = 2) -> None:
        """By the second time the answer to the first was heard."""
        before = len(self.asked)
        await until(lambda: len(self.asked) >= before + times, within_s=30, what="it asks again")


@pytest.fixture
def hub() -> Iterator[Hub]:
    one = Hub()
    thread = threading.Thread(target=one.server.serve_forever)
    thread.start()
    try:
        yield one
    finally:
        one.server.shutdown()
        one.server.server_close()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, hub: Hub) -> Path:
    for name in ("launch", "own"):
        (tmp_path / name).mkdir(mode=0o700)
    path = tmp_path / "launch"
    (path / CLAIMER).write_text(CLAIMER_TEXT)
    (path / KEEPER).write_text(KEEPER_TEXT)
    (path / "claimed.json").write_text(json.dumps({"url": hub.url, "ca": "", **CLAIMED}))
    return path


def words(folder: Path, *what: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(folder / KEEPER), *what]


class Kept:
    """A process beside a server, which is this test."""

    def __init__(self, folder: Path) -> None:
        self.own, self.log = folder.parent / "own", folder.parent / "said"
        argv = words(folder, "tokens", str(self.own), str(os.getpid()))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, stderr=log)

    def set(self) -> dict[str, str]:
        """What a server reads. A set that is replaced meanwhile is read again."""
        path = self.own / "site_tokens"
        while True:
            try:
                return {one.name: one.read_text() for one in path.iterdir()} if path.exists() else {}
            except FileNotFoundError:
                continue

    async def has(self, files: Mapping[str, str]) -> None:
        await until(lambda: self.set() == files, within_s=30, what=f"the set is {files}")


@pytest.fixture
def kept(folder: Path) -> Iterator[Kept]:
    one = Kept(folder)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


async def test_the_set_is_the_hubs_until_it_is_over(hub: Hub, kept: Kept) -> None:
    hub.gives({"storage": "one", "storage.expires": "later"})
    await kept.has({"storage": "one", "storage.expires": "later"})
    link = kept.own / "site_tokens"
    assert stat.S_IMODE(link.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in link.iterdir()} == {0o600}
    path, body = hub.asked[-1]
    assert (path, json.loads(body)) == ("/claim/tokens", CLAIMED)
    # A batch system tells the whole job that it ends; the server may take its time.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        kept.process.send_signal(number)
    for answer in ((503, {}), (200, []), (200, {"files": {"../x": "y"}, **OFTEN})):
        hub.answer = answer
        await hub.asked_again()
        hub.gives({"storage": "one", "storage.expires": "later"})
        await hub.asked_again(1)
        assert kept.set() == {"storage": "one", "storage.expires": "later"}, answer
    hub.gives({"storage.missing": "why"})
    await kept.has({"storage.missing": "why"})
    # The set before goes a moment after the new one is in its place.
    await until(lambda: [one.is_symlink() for one in kept.own.iterdir()].count(False) == 1, what="only one set is left")
    hub.gives({})
    await kept.has({})
    # A hub that is gone renews nothing, and withdraws nothing: what is over goes all the same.
    hub.gives({"storage": "two"}, over_in_s=3)
    await kept.has({"storage": "two"})
    hub.answer = (503, {})
    await kept.has({})
    assert kept.process.poll() is None
    hub.gives({"storage": "two"})
    await kept.has({"storage": "two"})
    hub.answer = (403, {})
    await kept.has({})
    assert kept.process.wait(30 * PATIENCE) == 0
    said = kept.log.read_text()
    assert "no tokens for other services any more: 403" in said
    assert "two" not in said


async def test_it_goes_with_the_server(hub: Hub, folder: Path) -> None:
    """Killed as it is: nothing runs as the user when her server has ended."""
    hub.gives({"storage": "one"})
    own = folder.parent / "own"
    server = "import subprocess, sys, os, time\nargv = sys.argv[1:] + [str(os.getpid())]\n"
    server += "print(subprocess.Popen(argv).pid, flush=True)\ntime.sleep(1000)"
    argv = [sys.executable, "-c", server, *words(folder, "tokens", str(own))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        await until((own / "site_tokens" / "storage").exists, within_s=30, what="its token")
        process.kill()
    await until(lambda: ended(pid), within_s=30, what="it has ended, too")


def ended(pid: int) -> bool:
    """Whether a process is no more; one that nobody has waited for yet is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def tell(folder: Path) -> str:
    done = subprocess.run(words(folder, "log"), capture_output=True, text=True, check=False, timeout=60 * PATIENCE)
    assert done.returncode == 0
    return done.stderr


@pytest.mark.parametrize("line", ["a line of a log\n", "\x00\x01", "\u00e9\u20ac\U0001f600", '"\\', "x" * 40_000, ""])
def test_the_end_of_a_log_fits_what_the_hub_takes(hub: Hub, folder: Path, line: str) -> None:
    (folder / "log").write_text(line * 4000 + ("the end" if line else ""))
    assert tell(folder) == ""
    ((path, body),) = hub.asked
    sent = json.loads(body)
    assert path == "/claim/log"
    assert {key: sent[key] for key in CLAIMED} == CLAIMED
    assert len(body) <= claimed.MAX_LOG_BYTES
    assert len(sent["log"]) <= claimed.MAX_LOG_CHARACTERS
    assert sent["log"].endswith("the end" if line else "")
    assert len(sent["log"]) > 4000 or not line


def test_a_hub_that_does_not_take_it_holds_no_job_up(hub: Hub, folder: Path) -> None:
    (folder / "log").write_text("bad luck")
    for status, times in ((503, slurm_keeper.TELL_TIMES), (403, 1), (307, 1)):
        hub.asked.clear()
        hub.answer = (status, {})
        assert "the hub did not take the end of this log: " in tell(folder)
        assert [path for path, _ in hub.asked] == ["/claim/log"] * times
    (folder / "claimed.json").unlink()
    assert "claimed.json" in tell(folder)
