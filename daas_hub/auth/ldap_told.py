"""What a person is told whose password was right and whose account is refused all the same."""

from __future__ import annotations

from daas_hub.core.directory import Verdict

_WHO = "The people who administer the site's accounts"
TOLD = {
    Verdict.LOCKED: f"Your site account is locked. {_WHO} can unlock it.",
    Verdict.DISABLED: f"Your site account is disabled. {_WHO} can enable it.",
    Verdict.EXPIRED: f"Your site account has expired. {_WHO} can renew it.",
    Verdict.PASSWORD_EXPIRED: "Your password has expired. Change it where you change your site password, then sign in "
    "here with the new one.",
    Verdict.MUST_CHANGE: "Your password must be changed before you can use it. Change it where you change your site "
    "password, then sign in here with the new one.",
    Verdict.NOT_NOW: f"Your site account may not be used at this time of the day. {_WHO} set its hours.",
    Verdict.NOT_HERE: f"Your site account may not be used for this service. {_WHO} set where it may be used.",
}
"""Verdict → text. A lock-out after failed attempts is not among them: it reads as a wrong password (decision 0010)."""
GUESSED = frozenset({Verdict.WRONG, Verdict.LOCKED_OUT})
"""What counts as a failed attempt."""
