"""Site tokens on this machine: the folder that a launch's are in, and who removes them when the hub is gone."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daas_hub.clients import token_keeper
from daas_hub.core.site_tokens import first_end

from .local_folder import LaunchFolder, write_private

BEGIN = ".site_tokens."


def put(folder: LaunchFolder, files: Mapping[str, str], owner: tuple[int, int] | None) -> None:
    """Replace all of them at once. The account has no right to any folder on the way, so it can lay no trap. Blocks.

    The name of a set says when it is over, for the keeper.
    """
    over = first_end(files)
    new = folder.path / f"{BEGIN}{'none' if over is None else int(over)}.{secrets.token_hex(8)}"
    new.mkdir(mode=0o700)
    try:
        for name, text in files.items():
            # No power cut outlives their use, and a disk that is busy must not keep an old one there.
            write_private(new / name, text, mode=0o400, owner=owner, lasting=False)
        if owner is not None:
            os.chown(new, -1, owner[1])
            new.chmod(0o750)
        link = folder.path / f"{BEGIN}link"
        link.unlink(missing_ok=True)
        link.symlink_to(new.name)
        link.rename(folder.site_tokens)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    for old in folder.path.glob(f"{BEGIN}*"):
        if old != new:
            shutil.rmtree(old)
    folder.save("site_tokens", dict(files), lasting=False)


class Keeper:
    """The one process of this hub that outlives it (``clients/token_keeper.py``)."""

    def __init__(self) -> None:
        self._pid = 0
        self._pipe = -1

    def require(self, root: Path) -> None:
        """It runs from now on; call it before anything is handed over. Blocks, raises OSError."""
        with contextlib.suppress(ChildProcessError):
            if self._pid and os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                return
        self.close()
        read, write = os.pipe()
        # Its other end closes with this process, and nobody else has it.
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, read, 0)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        argv = [sys.executable, "-I", "-S", token_keeper.__file__, str(root)]
        try:
            self._pid = os.posix_spawn(argv[0], argv, {"PATH": os.defpath}, file_actions=actions)
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        self._pipe = write

    def close(self) -> None:
        """Nothing is handed over by this process any more; what is there is removed in time."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pid, self._pipe = 0, -1
