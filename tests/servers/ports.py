"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Below those that the kernel gives to connections (ip_local_port_range begins with 32768): between this look and the
# program's own bind, somebody's outgoing connection would take one of those.
OURS = range(15_000, 32_000)


def free_port() -> int:
    """A port that was free a moment ago, and that nobody is given who asks for any."""
    while True:
        port = random.choice(OURS)
        with suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
