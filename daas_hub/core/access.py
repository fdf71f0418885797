"""What the last answer about a person means for what she has here: one table (docs/reference/access.md).

"Revoked" and "unreachable" are different answers: the first ends everything, the second harms nobody who is signed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .units import format_duration


class Answer(StrEnum):
    """What the directory or the identity provider says about somebody who has signed in."""

    VALID = "valid"
    REVOKED = "revoked"
    """Disabled, expired, gone, unlinked, in no allowed group any more, or with another uid."""
    SIGN_IN_AGAIN = "sign_in_again"
    """Her sign-in at the provider is over, and nothing is known against her account."""
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"
    """Something was answered that cannot be right: two entries of one lasting id, groups that are cut short."""


class Browser(StrEnum):
    """Her session on the hub's pages."""

    KEEP = "keep"
    SIGN_IN = "sign_in"
    READ_ONLY = "read_only"
    END = "end"


class Tokens(StrEnum):
    """Her API tokens and those of her servers."""

    KEEP = "keep"
    SHRINK = "shrink"
    """They can do what she can, which is less now: a token has never more than its owner."""
    REVOKE = "revoke"


class Servers(StrEnum):
    """What runs as her."""

    KEEP = "keep"
    WARN = "warn"
    """One whose profile is closed to her now is stopped, after a warning and a grace."""
    STOP = "stop"
    """At once, homes kept."""


class Starts(StrEnum):
    """New servers."""

    YES = "yes"
    FILTERED = "filtered"
    """Those of the profiles that are still open to her."""
    CACHED = "cached"
    """By what was known last; the machine is asked for her uid all the same."""
    NO = "no"


@dataclass(frozen=True)
class Limits:
    """How long the last good answer counts while there is no new one, in seconds."""

    people_s: float = 24 * 3600.0
    admins_s: float = 3600.0

    def of(self, *, admin: bool) -> float:
        """The one that is for her."""
        return self.admins_s if admin else self.people_s


@dataclass(frozen=True)
class Access:
    """One row of the table."""

    browser: Browser
    tokens: Tokens
    servers: Servers
    starts: Starts
    banner: bool = False
    """Pages say that the last answer is old."""
    alert: bool = False
    """Whoever administers the site must look."""

    @property
    def ends(self) -> bool:
        """Whether all that she has here ends."""
        return self.browser is Browser.END


VALID = Access(Browser.KEEP, Tokens.KEEP, Servers.KEEP, Starts.YES)
FEWER = Access(Browser.KEEP, Tokens.SHRINK, Servers.WARN, Starts.FILTERED)
ENDED = Access(Browser.END, Tokens.REVOKE, Servers.STOP, Starts.NO)
ANEW = Access(Browser.SIGN_IN, Tokens.KEEP, Servers.KEEP, Starts.YES)
AWAY = Access(Browser.KEEP, Tokens.KEEP, Servers.KEEP, Starts.CACHED, banner=True)
AWAY_LONG = Access(Browser.READ_ONLY, Tokens.KEEP, Servers.KEEP, Starts.NO, banner=True)
UNCLEAR = Access(Browser.KEEP, Tokens.KEEP, Servers.KEEP, Starts.NO, banner=True, alert=True)
UNCLEAR_LONG = Access(Browser.READ_ONLY, Tokens.KEEP, Servers.KEEP, Starts.NO, banner=True, alert=True)


def decide(answer: Answer, *, age_s: float, limits: Limits, admin: bool, fewer_groups: bool = False) -> Access:
    """What she may from now on. ``age_s``: how old the last good answer is; ``fewer_groups``: a valid one took some."""
    recent = age_s <= limits.of(admin=admin)
    match answer:
        case Answer.VALID:
            return FEWER if fewer_groups else VALID
        case Answer.REVOKED:
            return ENDED
        case Answer.SIGN_IN_AGAIN:
            return ANEW
        case Answer.UNREACHABLE:
            return AWAY if recent else AWAY_LONG
        case Answer.UNCLEAR:
            return UNCLEAR if recent else UNCLEAR_LONG


FEW = 10
"""So many people may leave between two sweeps at any site."""


def believable(ends: int, looked_at: int, share: float, *, over: bool) -> bool:
    """Whether a directory is believed that so many of all people are gone since the last sweep.

    A directory that was restored empty, or a filter that finds nobody, answers as clearly as a true one. ``over``:
    everybody was looked at. Before that a share says nothing: those who were looked at first may be other people.
    """
    return ends <= FEW or (over and ends <= share * looked_at)


READ_ONLY = (
    "The site's directory has told nothing about you for longer than this service waits, so these pages only show what "
    "is there. Nothing was changed. What runs goes on. Try again when the directory answers."
)


def too_old(age_s: float, limit_s: float) -> str:
    """Why nothing is started: for the person."""
    return (
        f"The site's directory cannot be asked, and what it said of you last is {format_duration(age_s)} old; a server "
        f"is started for {format_duration(limit_s)} after it. What runs goes on. Try again when the directory answers."
    )
