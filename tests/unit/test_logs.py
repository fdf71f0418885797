"""The end of a log as people may read it."""

from __future__ import annotations

from daas_hub.core import logs


def test_secrets_are_taken_out_of_what_is_shown() -> None:
    text = "GET /?token=abc123 Authorization: token xyz\nkey 0123456789abcdef0123456789abcdef password='p'\nhello"
    shown = logs.without_secrets(text, ("hello-not", "xyz"))
    assert not [word for word in ("abc123", "xyz", "0123456789abcdef", "'p'") if word in shown]
    assert "hello" in shown


def test_a_secret_does_not_hide_behind_colours() -> None:
    secret = "0123456789abcdef0123456789abcdef"
    coloured = f"\x1b[32m{secret[:9]}\x1b[0m{secret[9:]}\x1b]0;title\x07 \x00\x08end\r\n"
    assert logs.readable(coloured) == "… end"


def test_the_last_lines_and_no_more_than_is_kept() -> None:
    lines = [f"line {number}" for number in range(500)]
    assert logs.readable("\n".join(lines) + "\n") == "\n".join(lines[-200:])
    assert logs.readable("\n".join(lines), lines=2) == "line 498\nline 499"
    wide = [f"{number} " + "é " * 5000 for number in range(20)]
    shown = logs.readable("\n".join(wide))
    assert len(shown.encode()) <= logs.MAX_BYTES
    assert shown.split("\n") == [
        line.rstrip() if line is wide[-1] else line for line in wide[-len(shown.split("\n")) :]
    ]
    endless = logs.readable("a " * logs.MAX_BYTES)
    assert logs.MAX_BYTES - 2 <= len(endless) <= logs.MAX_BYTES
