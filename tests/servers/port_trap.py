"""Somebody who listens where another person's server was, with a certificate that he has, and notes what he gets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers.reachable_python import reachable_python
from tests.servers.slapd import Entry

TRAP = """
import http.server, ssl, sys
host, port, key, certificate, authorities, book = sys.argv[1:]
def note(*words):
    with open(book, "a") as file:
        print(*words, file=file)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        note("request", self.path, repr(str(self.headers)))
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
    def get_request(self):
        try:
            return super().get_request()
        except OSError as error:
            note("handshake", error)
            raise
server = Server((host, int(port)), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authorities)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
"""


def new_book(folder: Path) -> Path:
    """A file that everybody may write."""
    book = folder / "book"
    book.touch()
    book.chmod(0o666)
    return book


def received(book: Path) -> set[str]:
    """What kinds of things came: ``handshake`` (one that failed), ``request``."""
    return {line.split()[0] for line in book.read_text().splitlines()}


@contextmanager
def port_trap(who: Entry, host: str, port: int, files: Mapping[str, str], book: Path) -> Iterator[None]:
    """``files``: paths of ``client_key``, ``client_cert`` and ``ca_certs``, in this order."""
    words = [host, str(port), *files.values(), str(book)]
    argv = [reachable_python(), "-c", TRAP, *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, user=who.uid, group=who.gid, extra_groups=[]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n", "not listening"
            yield
        finally:
            process.kill()
