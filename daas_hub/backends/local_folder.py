"""The folder of one launch, outside the home: record, log, secrets, files in the place of /etc/passwd.

    <runtime_dir>/<hub_id>/             the hub's, 0711: nobody can list it or write there
        ledger                          the hub's, 0600: the id of the ledger that knows the launches
        <launch_id>/                    the hub's, 0711
            record.json                 the hub's, 0600: the handle, by which the server is found again
            account.json                the hub's, 0600: whose settings are carried back at the end
            end.json                    the hub's, 0600: how it ended, for other processes of the hub
            log                         the hub's, 0600: what the server prints
            passwd, group               the hub's, 0644, where NSS does not know the account
            own/                        the account's, 0700
                secrets                 the account's, 0600; the helper reads and removes it
            site_tokens                 a link to the folder with today's site tokens
            .site_tokens.<end>.…/       the hub's and the account's group's, 0750; in it files of the account, 0400
            site_tokens.json            the hub's, 0600: the same set, for the next hub
                runtime, data, …        Jupyter's own folders (design.md, rule 8.13)

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from daas_hub.core.errors import ConfigError
from daas_hub.core.models import Handle, Json

REMOVE_WITHIN_S = 120
REMOVE_ATTEMPTS = 3
LEDGER = "ledger"


def write_private(
    path: Path, text: str, *, mode: int = 0o600, owner: tuple[int, int] | None = None, lasting: bool = True
) -> None:
    """Write a file whole or not at all, never readable by more than ``mode`` allows at any moment.

    ``lasting``: it is there after a power cut, too; a busy disk may take many seconds for that.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
        if lasting:
            os.fsync(fd)
    draft.rename(path)


class LaunchFolder:
    """The folder of one launch."""

    def __init__(self, root: Path, launch_id: str) -> None:
        if not launch_id.isalnum():
            raise ValueError(f"{launch_id!r} is not a launch id")
        self.path = root / launch_id
        self.launch_id = launch_id
        self.log = self.path / "log"
        self.own = self.path / "own"
        self.secrets = self.own / "secrets"
        self.site_tokens = self.path / "site_tokens"

    @classmethod
    def of(cls, handle: Handle) -> LaunchFolder:
        """Where a handle says that it is: ``runtime_dir`` may have been changed since."""
        return cls(Path(handle["dir"]).parent, handle["launch_id"])

    def make(self, uid: int, gid: int, secrets: Mapping[str, str]) -> None:
        """Make it afresh; what a crash left of an attempt that never ran is removed first."""
        self.remove()
        self.path.mkdir(mode=0o711)
        self.path.chmod(0o711)
        self.own.mkdir(mode=0o700)
        owner = (uid, gid) if os.geteuid() == 0 else None
        # A server that a power cut ended needs none of these again.
        write_private(self.secrets, json.dumps(dict(secrets)), owner=owner, lasting=False)
        if owner is not None:
            os.chown(self.own, *owner)

    def save(self, name: str, value: Json, *, lasting: bool = True) -> None:
        """Write one of the hub's own files where users cannot write."""
        write_private(self.path / f"{name}.json", json.dumps(value), lasting=lasting)

    def saved(self, name: str) -> Json | None:
        """What was saved; None where nothing was, or where anybody else could have written it."""
        try:
            fd = os.open(self.path / f"{name}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with os.fdopen(fd) as file:
            facts = os.fstat(fd)
            if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
                return None
            try:
                value = json.load(file)
            except ValueError:
                return None
        return value if isinstance(value, dict) else None

    def handle(self) -> Handle | None:
        """The recorded handle, if it is this launch's."""
        handle = self.saved("record")
        return handle if handle is not None and handle.get("launch_id") == self.launch_id else None

    def put_passwd(self, passwd: str, group: str) -> list[tuple[str, str]]:
        """Files that the helper puts over /etc/passwd and /etc/group, for this server only."""
        binds = []
        for name, text in (("passwd", passwd), ("group", group)):
            write_private(self.path / name, text, mode=0o644, lasting=False)
            binds.append((str(self.path / name), f"/etc/{name}"))
        return binds

    def put_certificates(self, certificates: Mapping[str, str], uid: int, gid: int) -> dict[str, str]:
        """Copies of internal_ssl's files that the account can read; the variables that say where they are."""
        names = {"keyfile": "JUPYTERHUB_SSL_KEYFILE", "certfile": "JUPYTERHUB_SSL_CERTFILE"}
        names["cafile"] = "JUPYTERHUB_SSL_CLIENT_CA"
        variables = {}
        for kind, variable in names.items():
            if kind in certificates:
                copy = self.own / kind
                owner = (uid, gid) if os.geteuid() == 0 else None
                write_private(copy, Path(certificates[kind]).read_text(), owner=owner, lasting=False)
                variables[variable] = str(copy)
        return variables

    def tail(self, *, limit_bytes: int = 4096) -> str:
        """The end of the log; empty where there is none."""
        try:
            with self.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - limit_bytes))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def remove(self) -> None:
        """Remove all of it; a folder that is not there is fine. Raises OSError where something stays."""
        # rm, not shutil: it works on directory descriptors too (a link that the account left leads nowhere), and
        # however deep a tree the account has left, it ends.
        argv = ["rm", "-rf", "--", str(self.path)]
        for _ in range(REMOVE_ATTEMPTS):
            if not self.path.exists():
                return
            # Another process of the hub may write its last word meanwhile: rm then says so, and is asked again.
            done = subprocess.run(argv, capture_output=True, text=True, timeout=REMOVE_WITHIN_S, check=False)
        if self.path.exists():
            raise OSError(errno.EIO, done.stderr.strip()[:500], str(self.path))


def make_root(path: Path) -> None:
    """Make the folder of all launches of a hub; raises PermissionError where others could change it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o711)
    own = os.geteuid()
    for folder in (path, *path.parents):
        facts = folder.stat()
        if facts.st_uid not in {own, 0}:
            raise PermissionError(f"{folder} belongs to uid {facts.st_uid}, neither to root nor to the hub's uid {own}")
        if facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
            raise PermissionError(f"{folder} can be changed by everybody")
    if path.stat().st_uid != own:
        raise PermissionError(f"{path} belongs to root, not to the hub's uid {own}")
    path.chmod(0o711)


def claim(root: Path, ledger_id: str, *, setting: str) -> None:
    """Remember whose ledger knows the launches in here. ``setting``: the trait that says where this is.

    Raises ConfigError where that is another ledger, or where the folder cannot be used.
    """
    path = root / LEDGER
    try:
        make_root(root)
        if not path.exists():
            write_private(path, ledger_id)
        known = path.read_text(errors="replace").strip()
    except OSError as error:
        raise ConfigError(f"{setting} cannot be used: {error}") from error
    if known != ledger_id:
        raise ConfigError(
            f"{root} belongs to a hub with another ledger: give this hub another DaasHub.hub_id or {setting}. Where "
            f"that ledger is gone for good and none of its servers runs any more, remove {path}."
        )


def all_of(root: Path) -> Iterator[LaunchFolder]:
    """The folders of all launches that left one."""
    if root.is_dir():
        for entry in sorted(root.iterdir()):
            if entry.name.isalnum() and entry.is_dir():
                yield LaunchFolder(root, entry.name)
