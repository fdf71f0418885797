"""The peers of the bench: pinned in ``requirements/peer-<name>.txt``, each in an environment of its own."""

from __future__ import annotations

from pathlib import Path

from daas_hub.demo.setup import CLONE, ensure


def peers() -> list[str]:
    """The names that ``python_of`` knows."""
    return sorted(path.stem.removeprefix("peer-") for path in (CLONE / "requirements").glob("peer-*.txt"))


def python_of(name: str) -> Path:
    """The Python of a peer's environment; made the first time (from the registry), then kept."""
    if name not in peers():
        raise ValueError(f"No peer {name!r}; there are {', '.join(peers())}.")
    return ensure(f"peer-{name}")
