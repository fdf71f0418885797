"""Sign-ins that are on their way: one signed cookie for each tab, good once, for ten minutes, in this browser only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any

PREFIX = "daas-oidc-"
LASTS_S = 600
MAX_TABS = 8
"""Each costs some 500 bytes in every request of the browser; servers refuse headers above 8 KiB."""
MAX_USED = 100_000
"""States that were used and could still be replayed; some 10 MB at the most."""


def _random() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Pending:
    """One sign-in between its redirect and its call-back."""

    next_url: str
    redirect_uri: str
    anew: bool = False
    """She must prove who she is again, also where the provider still knows her (before links are changed)."""
    proof: dict[str, Any] | None = None
    """What was proved before she was sent to her provider (``core.linking.Proof``)."""
    state: str = field(default_factory=_random)
    nonce: str = field(default_factory=_random)
    verifier: str = field(default_factory=_random)
    begun_at: float = field(default_factory=time.time)

    @property
    def challenge(self) -> str:
        """PKCE's S256 (RFC 7636 §4.2)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class States:
    """Those of one way of signing in. ``way`` keeps the cookies of several providers apart."""

    def __init__(self, way: str) -> None:
        self.way = way
        self._used: OrderedDict[str, float] = OrderedDict()

    def cookie(self, handler: Any, state: str) -> str:
        """The name of a state's cookie; no other host can set it where the hub's own cookies are so protected."""
        host = "__Host-" if handler.hub.cookie_name.startswith("__Host-") else ""
        return host + PREFIX + hashlib.sha256(f"{self.way}\0{state}".encode()).hexdigest()[:24]

    def remember(self, handler: Any, pending: Pending) -> None:
        """Set the cookie, and drop the oldest of too many."""
        others = sorted((self._begun_at(handler, name), name) for name in handler.request.cookies if _ours(name))
        for _, name in others[: max(0, len(others) - MAX_TABS + 1)]:
            handler.clear_cookie(name, path=handler.hub.base_url)
        handler._set_cookie(
            self.cookie(handler, pending.state),
            json.dumps(asdict(pending)),
            expires_days=None,
            max_age=LASTS_S,
            path=handler.hub.base_url,
            # Strict would not come along when the provider sends the browser back.
            samesite="Lax",
        )

    def take(self, handler: Any, state: str) -> Pending | None:
        """The sign-in of a state, once; None where this browser did not begin it, it is old, or was used."""
        name = self.cookie(handler, state)
        pending = self._read(handler, name)
        if name in handler.request.cookies:
            handler.clear_cookie(name, path=handler.hub.base_url)
        if pending is None or not hmac.compare_digest(pending.state.encode(), state.encode()):
            return None
        return pending if self._first(pending) else None

    def _first(self, pending: Pending) -> bool:
        """True once. Only what a cookie of ours vouched for is kept, and only while that cookie is good."""
        now = time.time()
        if pending.state in self._used or not 0 <= now - pending.begun_at + 5 <= LASTS_S:
            return False
        while self._used and (len(self._used) >= MAX_USED or next(iter(self._used.values())) < now - 2 * LASTS_S):
            self._used.popitem(last=False)
        self._used[pending.state] = now
        return True

    def _begun_at(self, handler: Any, name: str) -> float:
        pending = self._read(handler, name)
        return pending.begun_at if pending is not None else 0

    def _read(self, handler: Any, name: str) -> Pending | None:
        raw = handler.get_secure_cookie(name, max_age_days=LASTS_S / 86400)
        try:
            return Pending(**json.loads(raw)) if raw else None
        except (ValueError, TypeError):
            return None


def _ours(name: str) -> bool:
    return name.removeprefix("__Host-").startswith(PREFIX)
