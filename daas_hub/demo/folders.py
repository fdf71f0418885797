"""Where one demo keeps its things, and what it remembers between two starts with the same ``--dir``.

<dir>/            0755: every account can reach it
    homes/        0755: one home per person, made by the local backend with the right owner
    run/          0711: what launches need while they run (LocalBackend.runtime_dir)
    state/        0700: ledger, hub database, passwords, keys, logs
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from daas_hub.core.errors import ConfigError
from daas_hub.core.naming import new_id
from daas_hub.db.engine import file_url


def reachable(folder: Path) -> bool:
    """Whether every account may enter this folder and all above it."""
    real = folder.resolve()
    return all(f.stat().st_mode & stat.S_IXOTH for f in (real, *real.parents))


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(fd, "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    Path(draft).rename(path)


class Folders:
    """The folder of one demo, held by one process at a time."""

    def __init__(self, path: Path | None, *, keep: bool) -> None:
        """Make or reopen it. ``path`` None: a fresh temporary one. Raises ConfigError where it cannot serve."""
        self.keep = keep or path is not None
        self.path = self._fresh() if path is None else self._given(path)
        self.homes, self.run, self.state = (self.path / name for name in ("homes", "run", "state"))
        for folder, mode in ((self.homes, 0o755), (self.state, 0o700)):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
        self._lock = (self.state / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"Another demo is running in {self.path}: stop it, or name another --dir.") from error

    @staticmethod
    def _fresh() -> Path:
        places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108  a fresh folder inside
        place = next((p for p in places if p.is_dir() and (os.geteuid() != 0 or reachable(p))), places[0])
        path = Path(tempfile.mkdtemp(prefix="daas-demo-", dir=place))
        path.chmod(0o755)
        return path

    @staticmethod
    def _given(path: Path) -> Path:
        path = path.resolve()
        file_url(path)  # refuses what no URL of SQLite can say, before anything is made
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        if path.stat().st_uid != os.geteuid():
            raise ConfigError(f"--dir {path} belongs to uid {path.stat().st_uid}, not to you.")
        others = [p.name for p in path.iterdir() if p.name not in ("homes", "run", "state")]
        if others and not (path / "state").is_dir():
            raise ConfigError(f"--dir {path} is not empty and not of a demo ({others[0]}): name another folder.")
        path.chmod(0o755)
        if os.geteuid() == 0 and not reachable(path):
            raise ConfigError(
                f"--dir {path}: other accounts cannot reach it, so servers could not run there. "
                "Name a folder below one that everybody may enter, for example /var/tmp/daas-demo."
            )
        return path

    def secret(self, name: str, n_bytes: int = 32) -> str:
        """A random hexadecimal secret of this demo, the same at every start."""
        file = self.state / name
        if not file.exists():
            write_whole(file, secrets.token_hex(n_bytes))
        return file.read_text()

    def load(self, name: str) -> Any:
        """What ``save`` wrote under this name, or None."""
        file = self.state / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else None

    def save(self, name: str, value: Any) -> None:
        """Remember a JSON value for the next start."""
        write_whole(self.state / f"{name}.json", json.dumps(value, indent=1))

    def forget(self, name: str) -> None:
        """Forget what ``save`` wrote."""
        (self.state / f"{name}.json").unlink(missing_ok=True)

    @cached_property
    def hub_id(self) -> str:
        """Names this demo's hub in the ledger, in handles and in its processes' environment."""
        known = self.load("hub_id") or f"demo-{new_id()[:8]}"
        self.save("hub_id", known)
        return str(known)

    @property
    def ledger_url(self) -> str:
        """The demo's ledger: SQLite in the state folder."""
        return file_url(self.state / "ledger.sqlite")

    def close(self) -> None:
        """Let go of the folder; remove it unless it is to be kept."""
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()
