"""Site tokens of jobs: files in the account's home, put there by the helper, a whole set at once.

    ~/.daas/<launch>/site_tokens        a link to today's set, the variable of the server names it
    ~/.daas/<launch>-a/, <launch>-b/    the set in use, and where the next one is made (0700, files 0600)

Where jobs claim their files, they fetch each new set, too, and have it on their node (``slurm_claims.py``,
``slurm_keeper.py``): then only what is kept for them here is replaced.

The account can write there, and harms only itself. What was handed over is kept with the hub's own records, because
the files could have been changed. While the hub is away, the process beside the server removes what is over
(``clients/home_tasks.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from weakref import WeakValueDictionary

from daas_hub.core.errors import BackendUnavailable, DaasError
from daas_hub.core.models import Handle, Json
from daas_hub.core.slurm_launches import Ref, ref_of

from .local_watch import in_thread
from .slurm_records import Records
from .slurm_submit import Submitter

PARTS = ("a", "b")
WITHIN_S = 30.0
"""An automounted home may take its time."""


class Tokens:
    """Hands sets over for one backend."""

    def __init__(self, submitter: Submitter, records: Records) -> None:
        self._submitter, self._records = submitter, records
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def put(self, handle: Handle, files: Mapping[str, str]) -> None:
        """Replace the set of a launch. Raises BackendUnavailable."""
        ref = _of(handle)
        lock = self._locks.setdefault(ref.launch_id, asyncio.Lock())
        async with lock:
            try:
                await self._put(ref, files)
            except (DaasError, OSError) as error:
                why = error.log_message if isinstance(error, DaasError) else str(error)
                raise BackendUnavailable(
                    "The site tokens cannot be handed over now.", reason="site_tokens", log_message=why
                ) from error

    async def _put(self, ref: Ref, files: Mapping[str, str]) -> None:
        before = await in_thread(self._records.tokens_of, ref.launch_id)
        if await in_thread(self._records.of, ref.launch_id) is None:
            raise BackendUnavailable(f"Launch {ref.launch_id} is over, and its folder is gone.")
        part = next_part(before)
        # Until it is done nobody knows which of the two is in use: the next one writes this part again.
        await in_thread(self._records.save_tokens, ref.launch_id, {"part": part, "done": False, "files": {}})
        await self._submitter.hand(ref, part, files, within_s=WITHIN_S)
        await self._remove(ref, PARTS[1 - PARTS.index(part)])
        done = {"part": part, "done": True, "files": dict(files)}
        await in_thread(self._records.save_tokens, ref.launch_id, done)

    async def there(self, handle: Handle) -> Mapping[str, str]:
        """The set that was handed over last. Raises BackendUnavailable."""
        try:
            saved = await in_thread(self._records.tokens_of, _of(handle).launch_id)
        except OSError as error:
            raise BackendUnavailable(f"The site tokens cannot be read now: {error}", reason="site_tokens") from error
        files: Mapping[str, str] = (saved or {}).get("files") or {}
        return files

    async def remove(self, ref: Ref) -> None:
        """Remove all sets of a launch that is over. Raises BackendUnavailable."""
        for part in PARTS if ref.site_tokens else ():
            await self._remove(ref, part)

    async def _remove(self, ref: Ref, part: str) -> None:
        await self._submitter.clean(ref, part=part, within_s=WITHIN_S)


def next_part(saved: Json | None) -> str:
    """Where the next set is made: not where one is in use."""
    if saved is None or saved.get("part") not in PARTS:
        return PARTS[0]
    index = PARTS.index(saved["part"])
    return PARTS[1 - index] if saved.get("done") else PARTS[index]


def _of(handle: Handle) -> Ref:
    try:
        return ref_of(handle)
    except ValueError as error:
        raise BackendUnavailable(
            f"Whose site tokens these are cannot be told: {error}", reason="site_tokens"
        ) from error
