"""An administrator of this machine's own, for the day when every directory and provider is away.

One file, readable by the hub only, with one line ``name:scrypt$…``. A name that stands there is nobody else's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from daas_hub.core.errors import ConfigError
from daas_hub.core.naming import login_name

ISSUER = "local:break-glass"
LOG2_N, R, P = 15, 8, 1
"""32 MiB and some 0.1 s for each try."""
MIN_PASSWORD_CHARS = 12


@dataclass(frozen=True)
class Entry:
    """What the file says."""

    name: str
    salt: bytes
    digest: bytes

    def proves(self, password: str) -> bool:
        """Whether this is the password. Slow on purpose: for a thread."""
        return hmac.compare_digest(_digest(password, self.salt), self.digest)


def line_of(name: str, password: str) -> str:
    """The line for the file. Raises ConfigError for a name or password that will not do."""
    if login_name(name) != name:
        raise ConfigError(f"{name!r} cannot be a name here: lower-case letters, digits and . _ @ + - are allowed.")
    if len(password) < MIN_PASSWORD_CHARS:
        raise ConfigError(f"The password has {len(password)} characters; at least {MIN_PASSWORD_CHARS} are needed.")
    salt = secrets.token_bytes(16)
    return f"{name}:scrypt${_text(salt)}${_text(_digest(password, salt))}"


def read(path: str) -> Entry:
    """The entry of a file. Raises ConfigError where it is not what it must be, or others may read it."""
    setting = f"DaasAuthenticator.break_glass_file {path!r}"
    try:
        # The file that is judged is the one that is read.
        with Path(path).open(encoding="ascii") as file:
            found = os.fstat(file.fileno())
            text = file.read(4096)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{setting} cannot be read: {error}.") from error
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{setting} has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}; it must be the hub's own "
            "and readable by nobody else: chmod 0600."
        )
    name, _, rest = text.strip().partition(":")
    try:
        kind, salt, digest = rest.split("$")
        entry = Entry(name, base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True))
    except ValueError:
        kind, entry = "", Entry("", b"", b"")
    if kind != "scrypt" or login_name(name) != name or len(entry.salt) < 16 or len(entry.digest) != 32:
        raise ConfigError(f"{setting} must have exactly one line as `daas-hub break-glass` prints it.")
    return entry


def _digest(password: str, salt: bytes) -> bytes:
    given = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(given, salt=salt, n=1 << LOG2_N, r=R, p=P, maxmem=128 << 20, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
