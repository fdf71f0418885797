"""A server small enough for contract tests: answers as jupyterhub-singleuser does, and tells who it is.

``program(...)`` is an argv; it needs a Python from 3.9 on and nothing else.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

_CODE = """
import http.server, json, os, pathlib, signal, subprocess, sys, time
from urllib.parse import urlparse
options = json.loads(sys.argv[1])
if options.get("print"):
    print(options["print"].format(**os.environ), flush=True)
if options.get("ignore_term"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(options.get("children", 0)):
    # In sessions of their own, as kernels are.
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
if "exit" in options:
    sys.exit(options["exit"])
while "until" in options and not os.path.exists(options["until"].format(**os.environ)):
    time.sleep(0.05)
if options.get("silent"):
    time.sleep(1000)
url = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
held = []
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_GET(self):
        here, _, query = self.path.partition("?")
        if not here.startswith(url.path):
            return self.send_error(404)
        answer = {"version": "6.1.1"}
        if here == url.path + "whoami":
            answer = {"resuid": os.getresuid(), "resgid": os.getresgid(), "groups": sorted(set(os.getgroups())),
                      "environment": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid(),
                      "umask": os.umask(0o022), "sid": os.getsid(0)}
        if here == url.path + "read":
            try:
                answer = {"text": pathlib.Path(query).read_text()}
            except OSError as error:
                answer = {"error": type(error).__name__}
        if here == url.path + "run":
            done = subprocess.run(json.loads(__import__("urllib.parse").parse.unquote(query)),
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            answer = {"code": done.returncode, "text": done.stdout}
        if here == url.path + "end":
            # As a crash does; a pod's first process cannot be killed from within.
            os._exit(9)
        if here == url.path + "allocate":
            held.append(b"x" * int(query))
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer((url.hostname, url.port), Handler)
if "JUPYTERHUB_SSL_KEYFILE" in os.environ:
    import ssl
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=os.environ["JUPYTERHUB_SSL_CLIENT_CA"])
    context.load_cert_chain(os.environ["JUPYTERHUB_SSL_CERTFILE"], os.environ["JUPYTERHUB_SSL_KEYFILE"])
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def program(python: str, **options: Any) -> tuple[str, ...]:
    """The argv of a tiny server: ``exit`` (status, at once), ``silent``, ``ignore_term``, ``children``, ``print``,
    ``until`` (does not listen before that file exists). ``print`` and ``until`` may name variables: ``{HOME}``."""
    return (python, "-c", _CODE, json.dumps(options))


def get(url: str, *, within_s: float = 10) -> Any:
    """The JSON that a tiny server answers. Blocks."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=within_s) as answer:
        return json.load(answer)
