"""Scopes of systemd: a group for each server that systemd makes, limits and removes. Blocks: call it in a thread.

systemd removes a scope, and with it the count of processes that the kernel killed, the moment its last process ends.
So each scope lies in a slice of its own, whose counts are sums, and which stays until ``stop``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ASK_WITHIN_S = 10.0
STOP_WITHIN_S = 10.0
NOT_LOADED = 5
"""What systemctl answers of a unit that systemd does not know."""
SURVIVES = ("--property=OOMPolicy=continue",)
"""A kernel that was killed for its memory must not end the whole server, as systemd does by default.

Scopes know it from systemd 253 on (Debian's 252 has it too); older ones refuse the word.
"""


def runs(folder: Path = Path("/run/systemd/system")) -> bool:
    """Whether systemd has started this machine and we may ask it for scopes."""
    return folder.is_dir() and os.geteuid() == 0 and shutil.which("systemd-run") is not None


def known() -> tuple[tuple[str, ...] | None, str]:
    """The words beyond limits that this systemd takes for a scope; None where it makes no scope, with its reason.

    It is tried: one scope around ``true``, and a second one where the first was refused.
    """
    why = ""
    for words in (SURVIVES, ()):
        argv = ["systemd-run", "--scope", "--quiet", "--collect", *words, "--", "true"]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=ASK_WITHIN_S
            )
        except subprocess.TimeoutExpired:
            # Busy, not absent: other groups would be the hub's own, and servers would end with its service.
            return (), ""
        except OSError as error:
            return None, f"systemd-run: {error}"
        if done.returncode == 0:
            return words, ""
        why = f"systemd-run: {done.stderr.strip()[-300:] or f'exit status {done.returncode}'}"
    return None, why


def slice_name(family: str, launch_id: str) -> str:
    """The slice of one launch, below that of its hub, below ``daas.slice``: a dash is a level. Pure."""
    return f"{family.split('-', 1)[0]}-{family.split('-', 1)[1].replace('-', '_')}-{launch_id}.slice"


def scope(
    unit: str,
    inside: str,
    *,
    cores: float | None,
    memory_bytes: int | None,
    processes: int | None,
    words: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The words before a command that make systemd run it in a scope in this slice with these limits. Pure."""
    argv = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={unit}", f"--slice={inside}"]
    argv += ["--property=KillMode=control-group"]
    if memory_bytes is not None:
        argv += [f"--property=MemoryMax={memory_bytes}", "--property=MemorySwapMax=0"]
    if cores is not None:
        argv += [f"--property=CPUQuota={max(1, round(cores * 100))}%"]
    if processes is not None:
        argv += [f"--property=TasksMax={processes}"]
    return (*argv, *words, "--")


def stop(unit: str) -> bool:
    """End a unit and all that is in it; one that is not there has ended."""
    argv = ["systemctl", "stop", unit]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=STOP_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode in {0, NOT_LOADED}
