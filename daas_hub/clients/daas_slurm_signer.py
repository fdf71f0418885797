#!/usr/bin/python3 -IS
"""daas-slurm-signer: makes the JWT by which slurmrestd takes its bearer for somebody. Read it as a whole.

``daas-slurm-signer NAME UID``, run as the account that alone may read the cluster's key, never as root and never as the
hub. One JSON object comes back: ``token``, for ``name`` and ``life_s``, or ``kind`` and ``error`` with status 1.
Nothing is believed of the caller; root sets the bounds in ``SETTINGS``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import pwd
import re
import signal
import stat
import sys
import time
from typing import Any

SETTINGS = "/etc/daas-hub/signer.json"
MAX_FILE, MAX_RUN_S, LONGEST_LIFE_S, SHORTEST_KEY = 1 << 16, 30, 300, 32
ARGV = "[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}\0(0|[1-9][0-9]{0,9})"


class Refused(Exception):
    """Raised when the account is not the one that was meant, or may not have jobs."""


def must(be_true: object, error: Exception) -> None:
    """Or else raise."""
    if not be_true:
        raise error


def read(path: str, owners: set[int], others: int) -> bytes:
    """A file of one of the owners', with none of these rights for others; no link is followed."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        about = os.fstat(file.fileno())
        proper = stat.S_ISREG(about.st_mode) and about.st_uid in owners and not about.st_mode & others
        mode = f"is uid {about.st_uid}'s with mode {stat.S_IMODE(about.st_mode):o}"
        must(proper, OSError(f"{path} {mode}; it must be a file of uid {sorted(owners)} without {others:o}"))
        return file.read(MAX_FILE)


def account(name: str, uid: int, min_uid: int, denied: set[str]) -> str:
    """The name by which this host knows the account, where it may have jobs."""
    try:
        known_as, _, known_uid, gid, *_ = pwd.getpwnam(name)
    except KeyError:
        raise Refused(f"{name} is unknown on this host") from None
    groups = sorted({gid, *os.getgrouplist(known_as, gid)})
    must(known_uid == uid, Refused(f"{name} is uid {known_uid} on this host, not uid {uid}"))
    must(0 not in (uid, *groups), Refused(f"{name} has uid {uid} and the groups {groups}; 0 is root's"))
    must(uid >= min_uid, Refused(f"{name} has uid {uid}; {SETTINGS} allows none below {min_uid}"))
    canonical = pwd.getpwuid(uid).pw_name
    must(not {name, known_as, canonical} & denied, Refused(f"{name} is denied by {SETTINGS}"))
    # The controller takes the name for a uid itself: a name that another account has, too, must not be signed.
    must(pwd.getpwnam(canonical).pw_uid == uid, Refused(f"{canonical} is not uid {uid} alone on this host"))
    return canonical


def signed(sun: str, key: bytes, life_s: int) -> str:
    """HS256 (RFC 7515, 7519); ``sun`` is SLURM's claim for the user's name (slurm.schedmd.com/jwt.html)."""
    now = int(time.time())
    parts = {"alg": "HS256", "typ": "JWT"}, {"iat": now, "exp": now + life_s, "sun": sun}
    text = b".".join(encoded(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return (text + b"." + encoded(hmac.new(key, text, hashlib.sha256).digest())).decode()


def encoded(raw: bytes) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def main(argv: list[str]) -> dict[str, Any]:
    """Judge the account, then read the key."""
    os.environ.clear()
    os.chdir("/")
    signal.alarm(MAX_RUN_S)
    me = os.getuid()
    must(me and os.geteuid() == me, RuntimeError("as an account of its own, not as root"))
    must(re.fullmatch(ARGV, "\0".join(argv)), RuntimeError("the words must be NAME UID"))
    parent = os.stat(os.path.dirname(SETTINGS))
    must(parent.st_uid == 0 and not parent.st_mode & 0o022, OSError("the folder of the settings must be root's alone"))
    bounds = json.loads(read(SETTINGS, {0}, 0o022))
    denied, life_s = bounds["denied"], int(bounds.get("life_s", 60))
    must(type(denied) is list and 1 <= life_s <= LONGEST_LIFE_S, ValueError("denied: names; life_s: 1 to 300"))
    sun = account(argv[0], int(argv[1]), int(bounds["min_uid"]), {*denied})
    key = read(bounds["key"], {0, me}, 0o037)
    must(len(key) >= SHORTEST_KEY, ValueError(f"the key has {len(key)} bytes; {SHORTEST_KEY} are the least"))
    return {"name": sun, "token": signed(sun, key, life_s), "life_s": life_s}


if __name__ == "__main__":
    try:
        answer = main(sys.argv[1:])
    except Exception as error:
        answer = {"kind": "account" if isinstance(error, Refused) else "helper", "error": str(error)}
    print(json.dumps(answer))
    sys.exit("kind" in answer)
