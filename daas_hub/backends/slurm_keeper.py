"""Beside the server of a job that claimed its files: fetches fresh site tokens; and sends the end of the job's log.

Runs on the compute node as the user, as ``keeper.py`` in the launch's folder, beside ``claimer.py`` and what that has
written down of its claim. Nothing of this project is importable there: standard library only, and syntax and calls that
Python 3.6 has. The launcher begins it with ``tokens OWN PARENT``, and it ends with the server; the script calls it with
``log`` when the server has ended.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any

CLAIMER, CLAIMED = "claimer.py", "claimed.json"
LINK, BEGIN = "site_tokens", ".site_tokens."
PR_SET_PDEATHSIG = 1
FIRST_PAUSE_S, LONGEST_PAUSE_S, LOOK_EVERY_S = 0.5, 30.0, 1.0
ASK_WITHIN_S, TELL_WITHIN_S, TELL_TIMES = 20.0, 4.0, 2
MAX_ANSWER, LOG_BYTES, MAX_SENT = 1 << 20, 1 << 14, 30000


def say(text: str) -> None:
    """A line of the job's log; no secret is ever in it."""
    sys.stderr.write(f"daas-hub: {text}\n")
    sys.stderr.flush()


class Hub:
    """The hub, as this run of the job may ask it: with the secret by which it has claimed."""

    def __init__(self, folder: str) -> None:
        spec = importlib.util.spec_from_file_location("claimer", os.path.join(folder, CLAIMER))
        assert spec is not None  # noqa: S101
        assert spec.loader is not None  # noqa: S101
        self._claimer: Any = importlib.util.module_from_spec(spec)
        sys.dont_write_bytecode = True
        spec.loader.exec_module(self._claimer)
        with open(os.path.join(folder, CLAIMED), encoding="utf-8") as file:
            self._claimed = json.load(file)

    def fit(self, name: str) -> bool:
        """Whether a file may have this name."""
        return self._claimer.FILE.fullmatch(name) is not None

    def ask(self, what: str, within_s: float, **more: str) -> Any:
        """What it answers. Raises PermissionError where that is final, and OSError, ValueError otherwise."""
        claimed = self._claimed
        body = dict(more, launch=claimed["launch"], claimer=claimed["claimer"])
        text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        request = urllib.request.Request(  # noqa: S310
            claimed["url"] + what, data=text, headers={"Content-Type": "application/json"}, method="POST"
        )
        try:
            with self._claimer.opener(claimed["ca"]).open(request, timeout=within_s) as answer:
                return json.loads(answer.read(MAX_ANSWER + 1).decode())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in self._claimer.AGAIN:
                raise
            raise PermissionError(f"{error.code} {error.reason}") from None


# ---------------------------------------------------------------- site tokens


def put(own: str, files: "dict[str, str]") -> None:
    """Replace the whole set at once, in the folder of this run on the node (0700)."""
    new = tempfile.mkdtemp(prefix=BEGIN, dir=own)
    try:
        for name, text in files.items():
            number = os.open(os.path.join(new, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
        link = os.path.join(own, f"{LINK}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        os.symlink(os.path.basename(new), link)
        os.rename(link, os.path.join(own, LINK))
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise
    remove(own, all_but=os.path.basename(new))


def remove(own: str, all_but: str = "") -> None:
    """Remove every set but this one."""
    for name in os.listdir(own):
        if name.startswith(BEGIN) and name != all_but:
            shutil.rmtree(os.path.join(own, name), ignore_errors=True)


def checked(said: Any, hub: Hub) -> "tuple[dict[str, str], float, float]":
    """The set, when to ask again, when it is over, in seconds from now. Raises ValueError."""
    try:
        files, again_s, over_in_s = dict(said["files"]), float(said["again_s"]), said["over_in_s"]
        over_s = float("inf") if over_in_s is None else float(over_in_s)
    except (KeyError, TypeError) as error:
        raise ValueError(f"it has no {error}") from None
    if not all(isinstance(name, str) and isinstance(text, str) and hub.fit(name) for name, text in files.items()):
        raise ValueError("it names no files")
    return files, min(max(again_s, 0.5), 600.0), over_s


class Tokens:
    """The set of this run. Time is the machine's own: a clock that is set moves no token's end."""

    def __init__(self, hub: Hub, own: str) -> None:
        self._hub, self._own = hub, own
        self._files: Any = {}
        self._pause, self._why = FIRST_PAUSE_S, ""
        self.next_at, self.over_at = time.monotonic(), float("inf")

    def step(self) -> None:
        """Do what is due. Raises PermissionError where there will be none any more."""
        if time.monotonic() >= self.over_at:
            remove(self._own)
            self._files, self.over_at = {}, float("inf")
        if time.monotonic() >= self.next_at:
            self._renew()

    def _renew(self) -> None:
        asked_at = time.monotonic()
        try:
            files, again_s, over_s = checked(self._hub.ask("/tokens", ASK_WITHIN_S), self._hub)
            if files != self._files:
                put(self._own, files)
                self._files = files
        except PermissionError:
            raise
        except (OSError, ValueError) as error:
            why = str(getattr(error, "reason", error))
            if why != self._why:
                say(f"fresh tokens for other services could not be fetched: {why}. Trying again.")
            self._why = why
            self.next_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        else:
            self._pause, self._why = FIRST_PAUSE_S, ""
            self.next_at, self.over_at = asked_at + again_s, asked_at + over_s


def keep(hub: Hub, own: str, parent: int) -> None:
    """Until the server ends, with which this process is killed; its folder another one removes."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    tokens = Tokens(hub, own)
    while os.getppid() == parent:
        try:
            tokens.step()
        except PermissionError as error:
            say(f"the hub hands out no tokens for other services any more: {error}.")
            remove(own)
            return
        time.sleep(min(max(0.0, min(tokens.next_at, tokens.over_at) - time.monotonic()), LOOK_EVERY_S))


# ---------------------------------------------------------------- the log


def last_of(path: str) -> str:
    """The end of a log, short enough to be sent."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        text = file.read(LOG_BYTES).decode("utf-8", "replace")
    # Characters that nobody sees are six in JSON.
    while len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) > MAX_SENT:
        text = text[len(text) // 2 :]
    return text


def tell(hub: Hub, folder: str) -> None:
    """Send it; the job's end waits for this, so not for long."""
    text = last_of(os.path.join(folder, "log"))
    for left in reversed(range(TELL_TIMES)):
        try:
            hub.ask("/log", TELL_WITHIN_S, log=text)
            return
        except (OSError, ValueError) as error:
            why = str(getattr(error, "reason", error))
            if isinstance(error, PermissionError) or not left:
                say(f"the hub did not take the end of this log: {why}.")
                return
        time.sleep(FIRST_PAUSE_S)


def main(argv: "list[str]") -> None:
    """See above."""
    folder = os.path.dirname(os.path.abspath(__file__))
    os.umask(0o077)
    try:
        hub = Hub(folder)
        if argv[0] == "log":
            tell(hub, folder)
        else:
            keep(hub, argv[1], int(argv[2]))
    except (OSError, ValueError, KeyError) as error:
        say(f"{argv[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
