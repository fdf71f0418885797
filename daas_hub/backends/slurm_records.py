"""The hub's own record of each launch that it submitted: nobody else can write there, so a comment is not believed.

    <runtime_dir>/<hub_id>/<launch_id>/record.json      the handle, 0600
                                      /site_tokens.json the set that was handed over last, 0600
                                      /claim.json       the digest of its claim code, and its last use, 0600
                                      /files.json       what the code is good for, 0600
                                      /log.json         the end of its log, which the job has sent, 0600

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from daas_hub.core.models import Json
from daas_hub.core.slurm_claims import Claim, claim_of, digest
from daas_hub.core.slurm_launches import Ref, ref_of

from .local_folder import LaunchFolder, all_of, make_root


class Records:
    """The records of one hub."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def save(self, ref: Ref) -> None:
        """Write what is known of a launch. Raises OSError."""
        folder = LaunchFolder(self.root, ref.launch_id)
        if not folder.path.is_dir():
            make_root(self.root)
            folder.path.mkdir(mode=0o700, exist_ok=True)
        folder.save("record", ref.handle())

    def of(self, launch_id: str) -> Ref | None:
        """What is recorded of a launch; None where nothing is, or in a form that is not known."""
        handle = LaunchFolder(self.root, launch_id).handle()
        try:
            return None if handle is None else ref_of(handle)
        except ValueError:
            return None

    def keep_claim(self, launch_id: str, code: str, files: Mapping[str, str]) -> None:
        """A new code for these files; an earlier one is good no more. Raises OSError."""
        folder = LaunchFolder(self.root, launch_id)
        folder.save("files", dict(files))
        self.save_claim(launch_id, Claim(digest(code)))

    def save_claim(self, launch_id: str, claim: Claim) -> None:
        """What is known of a code. Raises OSError."""
        LaunchFolder(self.root, launch_id).save("claim", claim.saved())

    def claim(self, launch_id: str) -> Claim | None:
        """The launch's code; None where it has none."""
        return claim_of(LaunchFolder(self.root, launch_id).saved("claim"))

    def files(self, launch_id: str) -> Mapping[str, str]:
        """What is handed out for it. Raises OSError where nothing is."""
        found = LaunchFolder(self.root, launch_id).saved("files")
        if found is None:
            raise FileNotFoundError(f"{self.root / launch_id}/files.json is not there")
        return {name: str(text) for name, text in found.items()}

    def all(self) -> Sequence[Ref]:
        """Every launch that has a record."""
        known = (self.of(folder.launch_id) for folder in all_of(self.root))
        return [ref for ref in known if ref is not None]

    def save_tokens(self, launch_id: str, value: Json) -> None:
        """Write what is known of a launch's site tokens. Raises OSError, also where it has no record any more."""
        LaunchFolder(self.root, launch_id).save("site_tokens", value, lasting=False)

    def tokens_of(self, launch_id: str) -> Json | None:
        """What was saved; None where nothing was. Raises OSError."""
        return LaunchFolder(self.root, launch_id).saved("site_tokens")

    def save_log(self, launch_id: str, text: str) -> None:
        """Keep what a job has sent of its log. Raises OSError."""
        LaunchFolder(self.root, launch_id).save("log", {"text": text}, lasting=False)

    def log(self, launch_id: str) -> str | None:
        """What was sent; None where nothing was. Raises OSError."""
        found = LaunchFolder(self.root, launch_id).saved("log")
        return None if found is None else str(found.get("text", ""))

    def remove(self, launch_id: str) -> None:
        """Forget a launch; one that has no record is fine. Raises OSError."""
        folder = LaunchFolder(self.root, launch_id)
        if folder.path.exists():
            shutil.rmtree(folder.path)
