"""What is mailed about links and requests: who gets it and what it says. Pure.

Whatever a provider calls somebody stands in the text only, on one line: subjects and headers have nothing of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .linking import MAX_TEXT_CHARS

MAX_ADDRESS_CHARS = 254
"""RFC 5321 §4.5.3.1.3, without the angle brackets."""
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", re.ASCII)
NOT_RIGHT = "If this is not right, tell an administrator of the service at once."


@dataclass(frozen=True)
class Letter:
    """One mail: plain text, one recipient."""

    to: str
    subject: str
    text: str


def address(given: object) -> str:
    """One plain mail address; empty for everything else, such as two of them or one with a line end."""
    if not isinstance(given, str) or len(given) > MAX_ADDRESS_CHARS:
        return ""
    return given if _ADDRESS.fullmatch(given) else ""


def one_line(text: str) -> str:
    """Somebody else's words, fit for a line of a text: nothing in them begins another one."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_TEXT_CHARS].strip()


def link_made(to: str, label: str, issuer: str) -> Letter:
    """To the owner of an account."""
    text = (
        f"This sign-in opens your account from now on:\n\n  {one_line(label)}\n  of {one_line(issuer)}\n\n{NOT_RIGHT}\n"
    )
    return Letter(to, "Another way to sign in to your account", text)


def link_ended(to: str, label: str, issuer: str) -> Letter:
    """To the owner of an account."""
    text = f"This sign-in opens your account no longer:\n\n  {one_line(label)}\n  of {one_line(issuer)}\n\n"
    more = "You were signed out everywhere; servers that run go on. "
    return Letter(to, "A way to sign in to your account was removed", text + more + NOT_RIGHT + "\n")


def decided(to: str, *, accepted: bool, why: str) -> Letter:
    """To whoever asked for access."""
    if accepted:
        what = "Your request for access was accepted. Sign in the way you did when you asked."
    else:
        what = "Your request for access was refused."
    reason = f"\n\nThe administrator says: {one_line(why)}" if why.strip() else ""
    return Letter(to, "Your request for access", what + reason + "\n")


def server_ready(to: str, server: str, profile: str, waited: str, url: str) -> Letter:
    """To whoever wished it while her start waited. ``url`` empty: the hub does not know its public address."""
    which = f"Your server {one_line(server)}" if server else "Your server"
    where = f"\n\n  {one_line(url)}" if url else " Open it from the service's home page."
    text = f"{which} ({one_line(profile)}) is ready. It waited for {waited}.{where}\n\n"
    return Letter(to, "Your server is ready", text + "You asked for this mail while it was starting.\n")
