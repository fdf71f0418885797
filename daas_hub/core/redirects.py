"""Where a sign-in may lead afterwards: a path of this very site, and nothing that a browser could read otherwise."""

from __future__ import annotations

import re

_PATH = re.compile(r"/(?:[!#-\[\]-~]{0,2046})", re.ASCII)
"""Printable ASCII without blank, quote and backslash: everything else is percent-encoded in an honest address."""


def local_path(text: str) -> str:
    """The path, query and fragment as given; empty for everything that leads, or could lead, elsewhere.

    Browsers read ``//host``, ``/\\host`` and ``/<tab>/host`` as other hosts, and drop control characters first.
    """
    if _PATH.fullmatch(text) is None or text.startswith("//"):
        return ""
    path = re.split(r"[?#]", text, maxsplit=1)[0]
    # A server before us may resolve "." and "..", and then two slashes stand first; encoded ones as well.
    parts = re.sub(r"%2e", ".", path, flags=re.IGNORECASE).split("/")
    if {".", ".."} & set(parts) or re.match(r"/(?:%2f|%5c)", path, re.IGNORECASE):
        return ""
    return text
