"""Who came from a provider and has no account here yet: a signed cookie for ten minutes, good for one link or request.

It opens nothing by itself: whoever holds it must prove an account, and then come back from the provider as the same
person in the same browser.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any

from daas_hub.core.linking import MAX_LABEL_CHARS
from daas_hub.core.models import Identity

COOKIE = "daas-link"
LASTS_S = 600
MAX_USED = 100_000
BOOT = secrets.token_urlsafe(9)
"""What was used is known to this process only, so cookies of an earlier one are good no more."""


@dataclass(frozen=True)
class Waiting:
    """Somebody before her link."""

    way: str
    issuer: str
    subject: str
    name: str
    display_name: str
    mail: str
    next_url: str
    boot: str = BOOT
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    begun_at: float = field(default_factory=time.time)

    @property
    def identity(self) -> Identity:
        """Without groups and facts, which only a sign-in has."""
        return Identity(self.issuer, self.subject, self.name, self.display_name, self.mail)


class WaitingPeople:
    """All of one hub process."""

    def __init__(self) -> None:
        self._used: OrderedDict[str, float] = OrderedDict()

    def remember(self, handler: Any, way: str, who: Identity, next_url: str) -> None:
        """Set the cookie; a browser has one, of the provider that it came from last."""
        short = {name: getattr(who, name)[:MAX_LABEL_CHARS] for name in ("name", "display_name", "mail")}
        waiting = Waiting(way, who.issuer, who.subject, **short, next_url=next_url[:1000])
        handler._set_cookie(
            COOKIE, json.dumps(asdict(waiting)), expires_days=None, max_age=LASTS_S, path=_path(handler), samesite="Lax"
        )

    def read(self, handler: Any) -> Waiting | None:
        """Who waits in this browser; None where the cookie is not ours, old, altered, or was used."""
        raw = handler.get_secure_cookie(COOKIE, max_age_days=LASTS_S / 86400)
        try:
            waiting = Waiting(**json.loads(raw)) if raw else None
        except (ValueError, TypeError):
            return None
        if waiting is None or waiting.boot != BOOT or waiting.id in self._used:
            return None
        return waiting if -5 <= time.time() - waiting.begun_at <= LASTS_S else None

    def use_up(self, handler: Any, waiting: Waiting) -> bool:
        """True once."""
        handler.clear_cookie(COOKIE, path=_path(handler))
        now = time.time()
        while self._used and (len(self._used) >= MAX_USED or next(iter(self._used.values())) < now - 2 * LASTS_S):
            self._used.popitem(last=False)
        if waiting.id in self._used:
            return False
        self._used[waiting.id] = now
        return True


def _path(handler: Any) -> str:
    return f"{handler.hub.base_url}daas/"
