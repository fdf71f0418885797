"""Makes missing homes for a hub that may create nothing where homes lie: a small HTTP server with one verb.

It runs as root beside the storage, in a place of its own that the hub cannot touch (a pod in a namespace of its own),
and takes ``POST /make_home`` with ``{"name", "uid", "gid"}`` and the hub's token. A name is one plain part of a path
below its one root; ids must be in its ranges. What exists is looked at, never touched. Standard library only; it needs
``home_tasks.py`` beside it. Run it with ``python -I home_service.py --help``.
"""

from __future__ import annotations

import argparse
import hmac
import http.server
import importlib.util
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}", re.ASCII)
"""What ``core.naming.path_part`` makes."""
MAX_BYTES = 4096
READ_WITHIN_S = 10.0
VERB = "/make_home"

Range = tuple[int, int]


@dataclass(frozen=True)
class Limits:
    """What may be asked for; every range has both ends in it."""

    root: str
    uids: Range
    gids: Range
    reserved: tuple[Range, ...] = ()

    def problem(self, asked: Any) -> str:
        """What is wrong with a request; empty where nothing is."""
        if not isinstance(asked, dict) or set(asked) != {"name", "uid", "gid"}:
            return "a JSON object with name, uid and gid is needed, and nothing else"
        if not isinstance(asked["name"], str) or not NAME.fullmatch(asked["name"]):
            return "the name is not one plain part of a path"
        for key, (first, last) in (("uid", self.uids), ("gid", self.gids)):
            value = asked[key]
            if not isinstance(value, int) or isinstance(value, bool):
                return f"{key} is not a whole number"
            if not max(first, 1) <= value <= last or any(low <= value <= high for low, high in self.reserved):
                return f"{key} {value} may not have a home here: {first} to {last} may, but for reserved ranges"
        return ""


def home_tasks() -> Any:
    """The module in the file beside this one: nothing need be importable here."""
    spec = importlib.util.spec_from_file_location("home_tasks", Path(__file__).with_name("home_tasks.py"))
    if spec is None or spec.loader is None:
        raise SystemExit("home_tasks.py is not beside home_service.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(raw: bytes, limits: Limits, tasks: Any) -> tuple[int, dict[str, str]]:
    """Status and body of the answer to a request of the hub."""
    try:
        asked = json.loads(raw)
    except ValueError:
        return 400, {"error": "the request is not JSON"}
    if problem := limits.problem(asked):
        return 400, {"error": problem}
    home = f"{limits.root.rstrip('/')}/{asked['name']}"
    try:
        tasks.make_home({"home": home, "uid": asked["uid"], "gid": asked["gid"], "home_roots": [limits.root]})
    except tasks.Failed as error:
        return 403, {"error": str(error)}
    except OSError as error:
        return 500, {"error": f"{home} cannot be made: {error.strerror or error}"}
    return 200, {"home": home}


class Handler(http.server.BaseHTTPRequestHandler):
    """One request a connection, bounded in time and size."""

    server: Server
    timeout = READ_WITHIN_S

    def do_POST(self) -> None:
        """The one verb."""
        given = (self.headers.get("Authorization") or "").encode()
        if not hmac.compare_digest(given, b"Bearer " + self.server.token):
            return self._say(401, {"error": "the token is not the hub's"})
        length = self.headers.get("Content-Length") or ""
        if self.path != VERB or not length.isascii() or not length.isdigit() or int(length) > MAX_BYTES:
            return self._say(400, {"error": f"only {VERB} with at most {MAX_BYTES} bytes is answered"})
        return self._say(*answer(self.rfile.read(int(length)), self.server.limits, self.server.tasks))

    def do_GET(self) -> None:
        """Whether it runs, for the kubelet."""
        self._say(200 if self.path == "/health" else 404, {})

    def _say(self, status: int, what: dict[str, str]) -> None:
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    """A storage that hangs holds its own thread, and nobody else's."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], limits: Limits, token: bytes) -> None:
        self.limits, self.token, self.tasks = limits, token, home_tasks()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)


def numbers(text: str) -> Range:
    """``1000-60000`` as a range; raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d{1,10})-(\d{1,10})", text, re.ASCII)
    if found is None or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 1000-60000")
    return int(found[1]), int(found[2])


def arguments() -> argparse.ArgumentParser:
    """What the program is told when it is started."""
    parser = argparse.ArgumentParser(description="Makes missing homes below one folder.", allow_abbrev=False)
    parser.add_argument("--root", required=True, help="the folder in which homes lie")
    parser.add_argument("--token-file", required=True, help="file with the hub's token")
    parser.add_argument("--uids", type=numbers, default=(1000, 2**31 - 1), help="which uids may have a home")
    parser.add_argument("--gids", type=numbers, default=(100, 2**31 - 1), help="which gids a home may have")
    parser.add_argument("--reserved", type=numbers, action="append", default=[], help="ids that are neither")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104  in a pod of its own
    parser.add_argument("--port", type=int, default=8083, help="port to listen on")
    return parser


def main(argv: Sequence[str]) -> None:
    """Serve until it is killed."""
    given = arguments().parse_args(argv)
    token = Path(given.token_file).read_bytes().strip()
    if len(token) < 16:
        raise SystemExit("The token is shorter than 16 characters: anybody could guess it.")
    os.umask(0o022)
    limits = Limits(os.path.realpath(given.root), given.uids, given.gids, tuple(given.reserved))
    with Server((given.host, given.port), limits, token) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
