"""clients/machine.py: what this machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from daas_hub.clients import machine


def test_memory_is_read_by_its_name(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        2000 kB\nMemFree:  1 kB\nMemAvailable:    1000 kB\n")
    assert machine.memory_bytes(meminfo) == 2000 * 1024
    assert machine.available_memory_bytes(meminfo) == 1000 * 1024
    meminfo.write_text("MemFree:  1 kB\n")
    with pytest.raises(ValueError, match="has no MemTotal"):
        machine.memory_bytes(meminfo)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([], 0),
        (["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], 2),
        (["kfd", "dri/renderD128", "dri/renderD129"], 2),
        # A screen's own.
        (["dri/renderD128"], 0),
    ],
)
def test_gpus_are_those_for_computing(tmp_path: Path, devices: list[str], expected: int) -> None:
    for name in devices:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert machine.gpus(tmp_path) == expected
