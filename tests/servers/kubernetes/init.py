"""The first process of a cluster's own world: run as a file inside new mount, network and process namespaces.

It lives as long as its standard input stays open. When it ends, for whatever reason, the kernel kills every process
of the world and with the last one go mounts, interfaces and packet filter rules: nothing has to be tidied up by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

PRIVATE = ("/run", "/var/log", "/var/lib/cni")
"""Folders that container programs write to whatever they are told: here they are empty and in memory."""


def run(*argv: str) -> None:
    """Run a program; its own words go to our log."""
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def prepare(node: str, prefix: int) -> None:
    """Private folders, a bridge that has the node's address, forwarding."""
    run("mount", "--make-rshared", "/")
    for folder in PRIVATE:
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    for argv in (
        "link set lo up",
        # Without an address of its own a bridge takes one of its members': it would change with every pod.
        "link add cni0 address 0a:58:0a:00:00:01 type bridge",
        f"address add {node}/{prefix} dev cni0",
        "link set cni0 up",
    ):
        run("ip", *argv.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def end_with_owner() -> None:
    """Wait until nobody holds the other end of standard input, then end, and with us everything."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    """Prepare, say so, then bury whatever loses its parent."""
    prepare(sys.argv[1], int(sys.argv[2]))
    threading.Thread(target=end_with_owner, daemon=True).start()
    print("ready", flush=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            # No child yet: sleep until one is given to us.
            signal.sigtimedwait([signal.SIGCHLD], 1)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    main()
