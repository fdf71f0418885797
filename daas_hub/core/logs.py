"""The end of a server's log as people may read it: bounded, plain text, without secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

LINES = 200
"""How many lines of a log are shown and kept."""
MAX_BYTES = 64 * 1024
"""How much of it: 200 lines may be of any length."""

_SECRET = re.compile(
    r"(?i)(authorization['\"]?\s*[=:]\s*['\"]?(?:\w+\s+)?|(?:token|secret|password)['\"]?(?:\s*[=:]\s*|\s+))\S+"
)
_LONG = re.compile(r"\b[0-9A-Za-z_-]{32,}\b")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def without_secrets(text: str, secrets: Sequence[str] = ()) -> str:
    """Text of a log for other eyes: known secrets, and whatever looks like one, replaced."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "…")
    return _LONG.sub("…", _SECRET.sub(r"\1…", text))


def readable(text: str, secrets: Sequence[str] = (), *, lines: int = LINES) -> str:
    """The last lines, without secrets, colours and what else terminals obey; at most ``MAX_BYTES`` of UTF-8."""
    text = _CONTROLS.sub("", _COLOURS.sub("", text.replace("\r\n", "\n")))
    text = "\n".join(without_secrets(text, secrets).rstrip().split("\n")[-lines:])
    kept = text.encode("utf-8", "replace")
    if len(kept) <= MAX_BYTES:
        return text
    # From the next whole line on; of one endless line, its end.
    end = kept[-MAX_BYTES:].decode("utf-8", "ignore")
    return end.partition("\n")[2] or end
