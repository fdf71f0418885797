"""The tokens of whoever is signed in: renewed by one request at a time, stored before anything else is done.

A provider that rotates refresh tokens takes a second use of one for theft and ends the session. So the tokens are read
inside the one renewal, written the moment they come, and the newer of what the database and this process know counts:
a request that was slow may still write what it got before.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

MAX_KNOWN = 20_000
"""People whose latest tokens are kept in memory; some 5 KB each at the most."""

Json = dict[str, Any]


def tokens_of(auth_state: Mapping[str, Any] | None) -> Json | None:
    """The tokens that a sign-in left."""
    found = ((auth_state or {}).get("daas") or {}).get("tokens")
    return dict(found) if isinstance(found, Mapping) else None


def first(answer: Mapping[str, Any], claims: Mapping[str, Any]) -> Json:
    """What is kept of a sign-in's answer. No id_token: it is used up."""
    return {
        "session": secrets.token_hex(8),
        "rotation": 0,
        "access_token": answer["access_token"],
        "refresh_token": answer.get("refresh_token"),
        "expires_at": _expires_at(answer),
        "nonce": claims.get("nonce"),
        "sid": claims.get("sid"),
        "confirmed_at": int(time.time()),
    }


def rotated(old: Mapping[str, Any], answer: Mapping[str, Any]) -> Json:
    """The next ones of the same sign-in; a provider that gives no new refresh token means the old one to stay."""
    return {
        **old,
        "rotation": old["rotation"] + 1,
        "access_token": answer["access_token"],
        "refresh_token": answer.get("refresh_token") or old["refresh_token"],
        "expires_at": _expires_at(answer),
    }


def _expires_at(answer: Mapping[str, Any]) -> int | None:
    lasts = answer.get("expires_in")
    if isinstance(lasts, bool) or not isinstance(lasts, int | float) or not 0 <= lasts < 10**9:
        return None
    return int(time.time() + lasts)


class Latest:
    """The newest tokens of each person that this process has seen."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Json] = OrderedDict()

    def of(self, user_name: str, stored: Json) -> Json:
        """The newer ones of the same sign-in; those of another sign-in are the database's to know."""
        known = self._known.get(user_name)
        if known and known["session"] == stored["session"] and known["rotation"] > stored["rotation"]:
            return dict(known)
        return stored

    def remember(self, user_name: str, tokens: Json) -> None:
        """These are the newest."""
        self._known[user_name] = tokens
        self._known.move_to_end(user_name)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


class Sessions:
    """Whose each sign-in was, by the session's id (``sid``) that the provider gave it.

    Kept in memory: what is stored of a person is her last sign-in only, and she may have others in other browsers.
    """

    def __init__(self) -> None:
        self._subjects: OrderedDict[str, str] = OrderedDict()

    def remember(self, tokens: Json, subject: str) -> None:
        """This sign-in was hers."""
        if isinstance(tokens.get("sid"), str):
            self._subjects[tokens["sid"]] = subject
            self._subjects.move_to_end(tokens["sid"])
        while len(self._subjects) > MAX_KNOWN:
            self._subjects.popitem(last=False)

    def subject(self, sid: str) -> str | None:
        """Whose it was; None: it was before this process began, or is nobody's."""
        return self._subjects.get(sid)
