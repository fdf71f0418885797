"""Whoever has the number of an earlier hub's proxy by now is not ended for it."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyterhub.proxy import ConfigurableHTTPProxy

from daas_hub.wiring.left_proxy import spare_strangers

AN_HOUR_S = 3600


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    while not Path(f"/proc/{process.pid}/cmdline").read_text():
        assert process.poll() is None
    yield process
    process.kill()
    process.wait()


def app_of(pid_file: Path, command: list[str]) -> SimpleNamespace:
    proxy = ConfigurableHTTPProxy(pid_file=str(pid_file), command=command)
    return SimpleNamespace(proxy=proxy, log=logging.getLogger("test"))


@pytest.mark.parametrize(
    ("age_s", "command", "kept"),
    [
        (AN_HOUR_S, ["node", "/opt/proxy/configurable-http-proxy"], False),
        # Written when it had started: it is who is meant.
        (0, ["node", "/opt/proxy/configurable-http-proxy"], True),
        # Somebody has set the clock.
        (AN_HOUR_S, ["/usr/bin/sleep"], True),
    ],
)
def test_a_stranger_is_left_alone(
    tmp_path: Path, other: subprocess.Popen[bytes], age_s: int, command: list[str], kept: bool
) -> None:
    path = tmp_path / "proxy.pid"
    path.write_text(str(other.pid))
    os.utime(path, (time.time() - age_s,) * 2)
    app = app_of(path, command)
    spare_strangers(app)
    assert path.exists() is kept
    if not kept:
        app.proxy._check_previous_process()
        assert other.poll() is None


@pytest.mark.parametrize("text", ["", "x", "0", "4194304", "-1"])
def test_a_number_of_nobody_is_jupyterhubs_business(tmp_path: Path, text: str) -> None:
    path = tmp_path / "proxy.pid"
    path.write_text(text)
    spare_strangers(app_of(path, ["configurable-http-proxy"]))
    spare_strangers(app_of(tmp_path / "none", ["configurable-http-proxy"]))
    assert path.exists()
