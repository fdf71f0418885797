"""Sizes and times as people write them, and back. No unit is ever guessed from a bare float's size."""

from __future__ import annotations

import re

_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def parse_bytes(value: object) -> int:
    """Bytes from an int, or from text like ``512M`` and ``1.5G`` (powers of 1024, as JupyterHub's mem_limit).

    Raises ValueError with what was given and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not a size: give bytes as a number, or text such as 512M or 1.5G.")
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is not a size: give bytes as a number, or text such as 512M or 1.5G.")
        value = float(match[1]) * _BYTES[match[2].upper()]
    # `not >=` also refuses NaN; very many digits become infinity.
    if not value >= 0 or value == float("inf"):
        raise ValueError(f"{value!r} is not a size: it must be 0 or more.")
    return int(value)


_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)([KMGTPE]i|[kMGTPE]|)", re.ASCII)
_POWERS = "kMGTPE"


def quantity_bytes(text: str) -> int:
    """Bytes of a size as Kubernetes writes it: ``10Gi`` (powers of 1024), ``10G`` (powers of 1000), ``1048576``.

    Raises ValueError with what was given and what is allowed.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size as Kubernetes writes it: 500Mi, 10Gi and 1Ti are.")
    unit = match[2]
    power = _POWERS.index(unit[0].replace("K", "k")) + 1 if unit else 0
    return int(float(match[1]) * (1024 if unit.endswith("i") else 1000) ** power)


def format_bytes(n_bytes: float) -> str:
    """Bytes for a person, in powers of 1024: ``1.5 GiB``, ``512 MiB``, ``0 B``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.3g} {unit}" if n_bytes != int(n_bytes) else f"{int(n_bytes)} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.4g} TiB"


def format_cores(cores: float) -> str:
    """Cores for a person: ``1 core``, ``0.5 cores``."""
    return f"{cores:g} core" if cores == 1 else f"{cores:g} cores"


def format_duration(seconds: float) -> str:
    """A duration for a person: ``45 s``, ``2 min``, ``1 h 5 min``, ``3 d 4 h``; rounded down, at most two parts."""
    total = max(0, int(seconds))
    if total < 60:
        return f"{total} s"
    parts = [(total // 86400, "d"), (total // 3600 % 24, "h"), (total // 60 % 60, "min")]
    shown = [f"{n} {unit}" for n, unit in parts if n]
    return " ".join(shown[:2])


def format_amount(resource: str, amount: float) -> str:
    """An amount of a limited resource, with its unit: ``3 servers``, ``1.5 GiB``, ``2 cores``."""
    match resource:
        case "memory_bytes":
            return format_bytes(amount)
        case "cores":
            return format_cores(amount)
        case "servers":
            return "1 server" if amount == 1 else f"{amount:g} servers"
        case _:
            return f"{amount:g} {resource}"
