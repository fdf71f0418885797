"""Sizes and durations, there and back."""

from __future__ import annotations

import pytest

from daas_hub.core.units import format_amount, format_bytes, format_duration, parse_bytes


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("512M", 512 * 2**20), ("1.5G", 3 * 2**29), ("1 GiB", 2**30), ("0", 0), (1024, 1024), ("2t", 2 * 2**40)],
)
def test_parse_bytes(text: object, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("bad", ["", "G", "-1", -1, float("nan"), float("inf"), True, None, "1X", "1G\n2", [1], "1e9"])
def test_parse_bytes_refuses(bad: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_bytes(bad)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (120, "2 min"), (3900, "1 h 5 min"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_amounts_have_units() -> None:
    assert format_bytes(1536 * 2**20) == "1.5 GiB"
    assert format_amount("servers", 1) == "1 server"
    assert format_amount("cores", 2) == "2 cores"
    assert format_amount("memory_bytes", 2**30) == "1 GiB"
    assert format_amount("gpus", 2) == "2 gpus"
