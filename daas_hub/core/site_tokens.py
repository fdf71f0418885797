"""Tokens of a person for the site's other services: which there are, when each is renewed, when its file must be gone.

Decisions only; times are seconds on whatever clock the caller has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from .errors import ConfigError

SETTING = "DaasOIDCAuthenticator.site_tokens"
VARIABLE = "DAAS_SITE_TOKENS"
"""Of a server: the folder of its site tokens. Never a token."""
ASKABLE = ("audience", "resource", "scope")
"""What of RFC 8693 §2.1 a site may ask for."""
EXPIRES, MISSING = ".expires", ".missing"
MAX_TOKEN_CHARACTERS = 32_768
RETRY_S = 15.0
"""Between two tries while there is no token, and at most where there still is one."""
REFUSED_RETRY_S = 300.0
"""After the provider said no to this very token: that is a setting, of this hub or there."""
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")

AWAY = "The identity provider could not be asked in time. The hub tries again; nothing is to be done."
ELSEWHERE = "You did not sign in by an identity provider that gives it. Sign in again by one that does."
NOT_HERS = "Whoever is signed in as this user now is not the one whose server this is."
SIGN_IN = "Your sign-in at the identity provider has ended. Sign in to the hub again; the server need not be restarted."


def refused(word: str) -> str:
    """Why a token is missing that the provider does not give."""
    return f"The identity provider refuses it ({word}). Whoever administers this service can tell why."


@dataclass(frozen=True)
class Wanted:
    """One token that every server of a person gets; ``form``: what the provider is asked for."""

    name: str
    form: Mapping[str, str]


@dataclass(frozen=True)
class Held:
    """One token, and from when to when it is good."""

    value: str
    got_at: float
    expires_at: float

    @property
    def lasts_s(self) -> float:
        """Its whole lifetime."""
        return self.expires_at - self.got_at

    def due_at(self) -> float:
        """When the next one is asked for: half its life is left for a provider that is away."""
        return self.got_at + self.lasts_s / 2

    def gone_at(self, margin_s: float) -> float:
        """When its file must be gone. ``margin_s``: how long a file takes to change where the server runs."""
        return self.expires_at - margin_s

    def retry_s(self, margin_s: float) -> float:
        """How long to wait after a try that failed: several fit between ``due_at`` and ``gone_at``."""
        return max(0.2, min(RETRY_S, (self.gone_at(margin_s) - self.due_at()) / 4))


def wanted(setting: Mapping[str, object]) -> dict[str, Wanted]:
    """The tokens of a provider's setting. Raises ConfigError, naming what is wrong and what is allowed."""
    return {name: _wanted(name, asked) for name, asked in setting.items()}


def _wanted(name: object, asked: object) -> Wanted:
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{SETTING} has the name {name!r}, which is a file's: allowed are a-z, 0-9, _ and -, a letter first, at "
            "most 40."
        )
    good = isinstance(asked, Mapping) and asked and set(asked) <= set(ASKABLE)
    if not good or not all(isinstance(value, str) and value for value in asked.values()):  # type: ignore[attr-defined]
        raise ConfigError(f"{SETTING}[{name!r}] is {asked!r}; it must be a dict of texts under {', '.join(ASKABLE)}.")
    return Wanted(name, dict(asked))  # type: ignore[call-overload]


def seconds_in(lasts: object) -> float:
    """What an answer says of a token's lifetime; 0: nothing that counts."""
    if isinstance(lasts, bool) or not isinstance(lasts, int | float) or not 0 < lasts < 10**9:
        return 0.0
    return float(lasts)


def unfit(value: str, lasts_s: float) -> str:
    """Why an answer's token cannot be handed over; empty: it can."""
    if not value or not value.isascii() or not value.isprintable():
        return "it is no plain text"
    if len(value) > MAX_TOKEN_CHARACTERS:
        return f"it is longer than {MAX_TOKEN_CHARACTERS} characters"
    if not lasts_s:
        return "the provider does not say how long it is good"
    return ""


def too_short(lasts_s: float, margin_s: float) -> str:
    """Why a token that lasts so long cannot be kept fresh where files take ``margin_s``; empty: it can."""
    if lasts_s > 2 * margin_s:
        return ""
    return (
        f"It is good for {lasts_s:g} s only; where this server runs a token must be good for more than "
        f"{2 * margin_s:g} s. Whoever administers the identity provider can let it last longer."
    )


def files_of(held: Mapping[str, Held], missing: Mapping[str, str]) -> dict[str, str]:
    """The whole set of files: each token with when it is over, or why it is not there."""
    files = {}
    for name, token in held.items():
        files[name] = token.value
        files[name + EXPIRES] = datetime.fromtimestamp(token.expires_at, UTC).isoformat(timespec="seconds") + "\n"
    return files | {name + MISSING: f"{why}\n" for name, why in missing.items()}


def first_end(files: Mapping[str, str]) -> float | None:
    """When the first token of a set is over, in seconds since 1970; None: there is none that says so."""
    ends = [_ends(text) for name, text in files.items() if name.endswith(EXPIRES)]
    return min((at for at in ends if at is not None), default=None)


def _ends(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        return None


def held_in(files: Mapping[str, str], names: Iterable[str], now: float) -> dict[str, Held]:
    """The tokens that an earlier hub handed over and that are still good. ``now`` is seconds since 1970.

    What does not say when it is over is not among them, nor what nobody asks for any more.
    """
    held = {}
    for name in names:
        expires_at = _ends(files.get(name + EXPIRES, ""))
        if name in files and expires_at is not None and expires_at > now:
            held[name] = Held(files[name], now, expires_at)
    return held
