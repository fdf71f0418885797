"""Every secret of a site, and every place where somebody could see one who must not."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from tests.flow.site import Site, parent_of
from tests.servers.reachable_python import reachable_python
from tests.servers.slapd import GROUPS, PEOPLE, SERVICE_PASSWORD

TOKEN_BOOK = """
import os as _os
def _keep_token(spawner):
    with open(_os.open("launch_tokens", _os.O_CREAT | _os.O_APPEND | _os.O_WRONLY, 0o600), "a") as book:
        book.write(f"{spawner.user.name} {spawner.api_token}\\n")
c.Spawner.pre_spawn_hook = _keep_token
"""
"""For a hub's configuration: keeps the token of every launch, also of those that have ended, for the search."""

NOBODY = 64999
LOOKS = 100
"""How often a process is looked at, from its begin on."""
RANDOM_BYTES = 32
"""From this length on a secret is this site's alone, and may be looked for in processes of the whole machine."""
SERVICES = ("console", "culler", "reconciler")


def launch_token(site: Site, name: str) -> str:
    """The token of a person's newest launch; needs TOKEN_BOOK in the configuration."""
    book = (site.hub.root / "launch_tokens").read_text().splitlines()
    return next(token for who, token in reversed([line.split() for line in book]) if who == name)


class ArgvWatch:
    """Sees the argv of young processes of the whole machine, also of those that soon end, until the site is removed.

    Many times a second, so a process of a few milliseconds may be missed; one that waits for anything is not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[bytes, int] = {}
        """argv → pid."""
        self._left: dict[int, int] = {}
        threading.Thread(target=self._watch, name="argv watch", daemon=True).start()

    def _watch(self) -> None:
        pause = threading.Event()
        while self.root.exists():
            pids = set(_pids())
            # A process may become another program a while after it began.
            self._left = {pid: self._left.get(pid, LOOKS) - 1 for pid in pids}
            for pid, left in self._left.items():
                if left >= 0 and (argv := _read(f"/proc/{pid}/cmdline")):
                    self.seen.setdefault(argv, pid)
            pause.wait(0.03)


_watches: WeakKeyDictionary[Site, ArgvWatch] = WeakKeyDictionary()


def watch(site: Site) -> None:
    """See the argv of all that is started from now on; ``leaks`` looks into them."""
    _watches[site] = ArgvWatch(site.root)


def watched_argv(site: Site) -> dict[bytes, int]:
    """Each argv that was seen since ``watch``, with its pid; nothing where nobody watches."""
    return dict(_watches[site].seen) if site in _watches else {}


def forget_argv(site: Site) -> None:
    """Forget what was seen: for tests that plant something."""
    _watches[site].seen.clear()


@dataclass(frozen=True)
class Secret:
    """Something that only ``of`` may see; nobody but the hub where that is empty."""

    what: str
    value: bytes
    of: str = ""


def secrets_of(site: Site) -> list[Secret]:
    """All that must not be seen. Fails where a kind of secret that must exist was not found."""
    hub = site.hub
    found = [Secret(f"{p.name}'s password", p.password.encode(), p.name) for p in PEOPLE.values()]
    found += [Secret(f"a cookie of {name}", value.encode(), name) for name, value in site.cookies]
    cookie_secret = (hub.root / "cookie_secret").read_text().strip()
    found += [
        Secret("the service password", SERVICE_PASSWORD.encode()),
        Secret("the token of the tests and the proxy", hub.token.encode()),
        Secret("the crypt key", hub.crypt_key.encode()),
        Secret("the cookie secret", cookie_secret.encode()),
        Secret("the cookie secret's bytes", bytes.fromhex(cookie_secret)),
    ]
    book = [line.split() for line in (hub.root / "launch_tokens").read_text().splitlines()]
    assert book, "no server was ever started here: its token is the secret that counts"
    found += [Secret(f"a launch's token of {name}", token.encode(), name) for name, token in book]
    tokens = [_variable(pid, b"JUPYTERHUB_API_TOKEN") for word in SERVICES for pid in services(site, word)]
    assert tokens, "none of the hub's services runs: their tokens are secrets, too"
    found += [Secret("a service's token", token) for token in tokens if token]
    return list(dict.fromkeys(found))


def leaks(site: Site) -> list[str]:
    """Where secrets can be seen: any in a log or an argv, and what each of several other uids can read. Blocks."""
    secrets = secrets_of(site)
    pids = site_processes(site)
    files = [path for path in site.root.rglob("*") if path.is_file() and not path.is_symlink()]
    found = []
    for path in files:
        if path.suffix == ".log" or path.name == "log":
            found += [f"{s.what} in the log {path}" for s in secrets if s.value in _read(path)]
    for pid in pids:
        found += [f"{s.what} in the argv of {pid}" for s in secrets if s.value in _read(f"/proc/{pid}/cmdline")]
    for argv, pid in watched_argv(site).items():
        found += [f"{s.what} in the argv of {pid}" for s in secrets if len(s.value) >= RANDOM_BYTES and s.value in argv]
    places = [*map(str, files), *(f"/proc/{pid}/environ" for pid in pids)]
    for name, uid, gid, groups in _viewers():
        others = [(s.what, s.value.hex()) for s in secrets if s.of != name]
        for what, place in _seen_as(uid, gid, groups, others, places):
            found.append(f"{what} for {name or 'anybody'} in {place}")
    return sorted(set(found))


def site_processes(site: Site) -> list[int]:
    """All processes of the site: they name its folder, or descend from its hub."""
    parents = {pid: parent_of(pid) for pid in _pids()}
    hub = site.hub.process.pid if site.hub.process is not None else 0
    mark = str(site.root).encode()
    return sorted(
        pid
        for pid in parents
        if pid != os.getpid()
        and (hub in _line(pid, parents) or mark in _read(f"/proc/{pid}/cmdline") + _read(f"/proc/{pid}/environ"))
    )


def services(site: Site, word: str) -> list[int]:
    """The processes of one of the hub's services, also those of a hub that was killed."""
    mark = f"daas_hub.services.{word}".encode()
    return [pid for pid in site_processes(site) if mark in _read(f"/proc/{pid}/cmdline")]


def _viewers() -> Iterable[tuple[str, int, int, list[int]]]:
    """Somebody whom nobody knows, and people who share their groups with each other."""
    yield "", NOBODY, NOBODY, []
    for name in ("ada", "bob", "boss", "carl"):
        person = PEOPLE[name]
        yield name, person.uid, person.gid, [GROUPS[group] for group in person.groups]


_LOOK = """
import json, sys
asked = json.load(sys.stdin)
secrets = [(what, bytes.fromhex(value)) for what, value in asked["secrets"]]
seen = []
for place in asked["places"]:
    try:
        with open(place, "rb") as file:
            text = file.read()
    except OSError:
        continue
    seen += [(what, place) for what, value in secrets if value in text]
json.dump(seen, sys.stdout)
"""


def _seen_as(uid: int, gid: int, groups: list[int], secrets: list[tuple[str, str]], places: list[str]) -> Any:
    """(secret, place) for what a process of this uid really reads. The secrets go to it by a pipe."""
    done = subprocess.run(
        [reachable_python(), "-I", "-c", _LOOK],
        input=json.dumps({"secrets": secrets, "places": places}).encode(),
        stdout=subprocess.PIPE,
        check=True,
        cwd="/",
        env={},
        user=uid,
        group=gid,
        extra_groups=groups,
    )
    return json.loads(done.stdout)


def _variable(pid: int, name: bytes) -> bytes:
    pairs = (entry.partition(b"=") for entry in _read(f"/proc/{pid}/environ").split(b"\0"))
    return next((value for key, _, value in pairs if key == name), b"")


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    """A process and those above it."""
    line = []
    while pid in parents and pid not in line:
        line.append(pid)
        pid = parents[pid]
    return line


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(path: str | Path) -> bytes:
    """A file's bytes; nothing where it is gone meanwhile."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
