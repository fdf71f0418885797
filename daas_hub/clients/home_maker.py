"""Asks the service that makes homes (``home_service.py``) for one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from daas_hub.core.errors import BackendUnavailable, HomeRefused, StartFailed

WITHIN_S = 15.0
"""A storage that needs longer for a folder is treated as away."""


class HomeMaker:
    """The hub's side: one verb, one token."""

    def __init__(self, url: str, token_file: str) -> None:
        self._url, self._token_file = url.rstrip("/"), Path(token_file)

    async def make(self, name: str, uid: int, gid: int) -> None:
        """The home of that name exists afterwards, of that uid.

        Raises HomeRefused where it is somebody else's, StartFailed(permanent=True) where such a one may not be had,
        BackendUnavailable where that cannot be told.
        """
        try:
            token = (await asyncio.to_thread(self._token_file.read_text)).strip()
            timeout = aiohttp.ClientTimeout(total=WITHIN_S)
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.post(
                    f"{self._url}/make_home",
                    json={"name": name, "uid": uid, "gid": gid},
                    headers={"Authorization": f"Bearer {token}"},
                    allow_redirects=False,
                ) as reply,
            ):
                status, said = reply.status, await reply.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _away(f"{type(error).__name__}: {error}") from error
        why = str(said.get("error") or "") if isinstance(said, dict) else ""
        if status == 200:
            return
        if status == 403:
            raise HomeRefused(why)
        if status == 400:
            raise StartFailed(
                "Your home may not be made by the site's rules. Ask the administrator.",
                permanent=True,
                reason="home",
                log_message=f"The service for homes refuses {name!r} for uid {uid} and gid {gid}: {why}",
            )
        raise _away(f"it answers {status}: {why}")


def _away(why: str) -> BackendUnavailable:
    return BackendUnavailable(
        "Your home cannot be made just now. Try again in a moment.",
        log_message=f"The service that makes homes cannot be asked: {why}",
        reason="home_service",
        retry_after_s=10,
    )
