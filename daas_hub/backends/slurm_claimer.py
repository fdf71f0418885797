"""Fetches a launch's files from the hub: runs on the compute node as the user, before the launcher.

Its text is in the job's script, followed by a call of ``main``. Nothing of this project is importable there: standard
library only, and syntax and calls that Python 3.6 has. The code that it brings counts once in each run of the job; the
secret that it makes lets it ask again where an answer was lost. A requeued job runs it once more. What it asked with is
left in the folder for ``keeper.py``, which goes on by the secret.
"""

import contextlib
import json
import os
import re
import ssl
import stat
import sys
import time
import urllib.error
import urllib.request
from typing import Any

CLAIM_FOR_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, ANSWER_WITHIN_S = 3600.0, 0.5, 30.0, 30.0
AGAIN = (408, 429, 500, 502, 503, 504, 599)
"""Answers after which asking again may help: the hub restarts, or cannot ask the cluster."""
FILE = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
REFUSED = 78
CLAIMED, KEPT = "claimed.json", ("url", "ca", "launch", "claimer")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Where a redirect leads, the code would follow."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """None: it is an error."""
        return


def stop(text: str) -> None:
    """End with a sentence in the log; no secret is ever in it."""
    sys.stderr.write(f"daas-hub: {text}\n")
    sys.exit(REFUSED)


def opened(folder: str) -> int:
    """The folder, which must be the user's own, and nobody else's to write."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    facts = os.fstat(number)
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o022:
        stop(f"{folder} is not this account's alone to write.")
    return number


def opener(ca: str) -> urllib.request.OpenerDirector:
    """For the hub: no proxy of the environment, and its authorities where the site names them."""
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(cadata=ca)
    https = urllib.request.HTTPSHandler(context=context)
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect(), https)


def fetched(url: str, body: "dict[str, str]", ca: str) -> "dict[str, Any]":
    """What the hub hands out; asked for again with longer pauses while it does not answer."""
    pause, until, why = FIRST_PAUSE_S, time.monotonic() + CLAIM_FOR_S, ""
    while time.monotonic() < until:
        request = urllib.request.Request(  # noqa: S310
            url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
        )
        try:
            with opener(ca).open(request, timeout=ANSWER_WITHIN_S) as answer:
                given = json.loads(answer.read().decode())
                return dict(given["files"])
        except urllib.error.HTTPError as error:
            said, code = f"{error.code} {error.reason}", error.code
            error.close()
            if code not in AGAIN:
                stop(f"the hub does not hand out this launch's files: {said}.")
        except (OSError, ValueError, KeyError) as error:
            said = str(getattr(error, "reason", error))
        if said != why:
            sys.stderr.write(f"daas-hub: the hub did not hand out this launch's files yet: {said}. Trying again.\n")
            sys.stderr.flush()
        why = said
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    stop(f"the hub did not hand out this launch's files within {CLAIM_FOR_S:g} s.")
    raise AssertionError


def write(folder: int, name: str, text: str) -> None:
    """Whole or not at all, the user's alone; what an earlier run left is replaced."""
    if not FILE.fullmatch(name) or name == "log":
        stop(f"the hub names a file {name!r}.")
    draft = f".{name}.new"
    with contextlib.suppress(OSError):
        os.unlink(draft, dir_fd=folder)
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)


def main(values: "dict[str, str]") -> None:
    """Ask, and write."""
    os.umask(0o077)
    try:
        folder = opened(values["folder"])
        body = {"launch": values["launch"], "code": values["code"], "claimer": os.urandom(32).hex()}
        for name, text in fetched(values["url"], body, values["ca"]).items():
            write(folder, name, text)
        # The code is good for nothing from here on.
        write(folder, CLAIMED, json.dumps({key: values.get(key, body.get(key)) for key in KEPT}))
    except OSError as error:
        stop(f"this launch's files cannot be written into {values['folder']}: {error.strerror or error}.")
