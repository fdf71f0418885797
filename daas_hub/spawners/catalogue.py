"""Where profiles come from: ``c.DaasSpawner.profile_list``, a list or a function, read and kept."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Sequence
from typing import Any

from daas_hub.core.errors import ConfigError
from daas_hub.core.profile_config import read_profiles
from daas_hub.core.profiles import Profiles

LOAD_WITHIN_S = 10.0
"""How long a function may take to make the list; it stands between a person and her spawn page."""


class Catalogue:
    """The profiles of one ``profile_list``; reads a list that has not changed only once. One per hub."""

    def __init__(self, backends: Sequence[str]) -> None:
        self._backends = tuple(backends)
        self._raw: object = None
        self._profiles: Profiles = ()

    def read(self, raw: object) -> Profiles:
        """The profiles in a list. Raises ConfigError that names the place."""
        if not self._profiles or raw != self._raw:
            self._profiles = read_profiles(raw, backends=self._backends)
            # A copy: a function may change and return the same list.
            self._raw = copy.deepcopy(raw)
        return self._profiles

    async def load(self, profile_list: Any, spawner: Any) -> Profiles:
        """The profiles of ``spawner``; ``profile_list`` is a list or a function of the spawner, also an async one.

        Raises ConfigError, with a sentence for the person and the place for the log.
        """
        if not callable(profile_list):
            return self.read(profile_list)
        try:
            raw = profile_list(spawner)
            if inspect.isawaitable(raw):
                raw = await asyncio.wait_for(raw, LOAD_WITHIN_S)
            return self.read(raw)
        except Exception as error:
            # Site code may raise anything; whoever waits for a page must be told something she can pass on.
            raise ConfigError(
                "The profiles of this hub cannot be read just now. Tell an administrator.",
                log_message=f"DaasSpawner.profile_list failed: {type(error).__name__}: {error}",
            ) from error
