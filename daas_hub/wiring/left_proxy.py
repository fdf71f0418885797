"""The proxy that an earlier hub left running: by its number alone JupyterHub would end whoever has that number now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy

from daas_hub.clients import processes

SLACK_S = 2.0
"""By how much the kernel's word on when a process started may be wrong: it tells its boot in whole seconds."""


def spare_strangers(app: Any) -> None:
    """Remove the file with the number of an earlier hub's proxy where that number is somebody else's by now.

    JupyterHub sends SIGTERM and SIGKILL to whom it names (``ConfigurableHTTPProxy._check_previous_process``): after a
    reboot that can be anybody. A stranger is who started after the file was written and is not called like the proxy.
    """
    proxy = app.proxy
    if not isinstance(proxy, ConfigurableHTTPProxy) or not proxy.should_start or not proxy.pid_file:
        return
    path = Path(proxy.pid_file)
    try:
        pid, written_at = int(path.read_text()), path.stat().st_mtime
        words = (processes.PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
    except (OSError, ValueError):
        return
    process = processes.identify(pid)
    started_at = processes.started_at(process) if process is not None else None
    if started_at is None or started_at.timestamp() <= written_at + SLACK_S:
        return
    if {Path(word).name for word in words if word} & {Path(word).name for word in proxy.command}:
        return
    app.log.warning("%s names process %s, which is no proxy: it is left alone, and the file removed", path, pid)
    path.unlink(missing_ok=True)
