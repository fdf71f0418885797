"""Names that cannot collide and never carry user text where it could do harm.

``login_name`` is the one normaliser for names that people type (part C widens it); ``safe_name`` turns any
text into a name that file systems, cgroups, Kubernetes and SLURM all take, injectively.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid

_SAFE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_LOGIN = re.compile(r"[a-z0-9_][a-z0-9._@+-]*", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*", re.ASCII)
MAX_LOGIN = 64
MAX_NAME = 63
"""DNS label (RFC 1123), also the bound of a Kubernetes label's value."""


def login_name(text: str) -> str | None:
    """The canonical form of a name somebody typed, or None where no account can have that name.

    NFKC, case folded, surrounding blanks removed; control characters, path parts and everything outside
    a POSIX-portable set refuse, before any allow or admin check sees the name (GHSA-r764-xgvf-jrfj).
    """
    if len(text) > 4 * MAX_LOGIN:
        return None
    name = unicodedata.normalize("NFKC", text).strip(" ").casefold()
    if len(name) > MAX_LOGIN or _LOGIN.fullmatch(name) is None or name in {".", ".."} or ".." in name:
        return None
    return name


def unusable(given: object) -> str:
    """A name that nobody can have, in a short form for messages and logs that is itself no name, in one line."""
    text = given if isinstance(given, str) else type(given).__name__
    return f"{text[:32]!r}" + (f"… ({len(text)} characters)" if len(text) > 32 else "")


def safe_name(*parts: str, limit: int = MAX_NAME) -> str:
    """A lower-case name of at most ``limit`` characters that differs whenever ``parts`` differ.

    One part that is already safe and cannot be mistaken for a hashed name stays as it is. All else becomes
    ``<readable>---<hash of every part>``; no name of the first kind contains ``---``.
    """
    first = parts[0] if parts else ""
    if len(parts) == 1 and len(first) <= limit and _SAFE.fullmatch(first) and "---" not in first:
        return first
    # The separator cannot come from within: lengths go into the hash with the texts.
    whole = "".join(f"{len(p)}:{p}" for p in parts)
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")[: limit - 19].strip("-")
    return f"{readable or 'x'}---{digest}"


def path_part(text: str) -> str:
    """One part of a path that differs whenever ``text`` differs: itself where that is plain, else a safe name.

    Folders that a site made for ``ada.b`` or ``DATA_2`` are called so; nothing else leads anywhere else.
    """
    if len(text) <= MAX_LOGIN and _PART.fullmatch(text) and "---" not in text:
        return text
    return safe_name(text)


def shared_id(*parts: str) -> str:
    """The id of what is everybody's: the same for the same ``parts``, so that whoever comes first makes it."""
    whole = "".join(f"{len(p)}:{p}" for p in parts)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def new_id() -> str:
    """A fresh id for a launch, an account or a volume: 32 hexadecimal digits, unguessable and sortable by nothing."""
    return uuid.uuid4().hex
