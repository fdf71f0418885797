"""Faults of who asks a cluster, while its own daemons go on: programs that start meanwhile look elsewhere."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .settings import LOGIN
from .world import World

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""


@contextmanager
def without_settings(world: World) -> Iterator[None]:
    """There is no slurm.conf."""
    path = world.etc / "slurm" / "slurm.conf"
    path.rename(path.with_suffix(".away"))
    try:
        yield
    finally:
        path.with_suffix(".away").rename(path)


@contextmanager
def reset(world: World) -> Iterator[None]:
    """Who asks a controller is reset as soon as he has asked."""
    address = world.addresses[LOGIN]
    with _resetting(address) as port, _controllers(world, f"SlurmctldHost={LOGIN}({address})", port):
        yield


@contextmanager
def unresolved(world: World) -> Iterator[None]:
    """The controllers' names cannot be resolved: the name server is not there."""
    path = world.etc / "resolv.conf"
    before = path.read_text()
    # Written in place: it is bound over the machine's. Nobody listens there.
    path.write_text(f"nameserver {world.addresses[LOGIN]}\n")
    try:
        with _controllers(world, "SlurmctldHost=ctl1.cluster.test\nSlurmctldHost=ctl2.cluster.test"):
            yield
    finally:
        path.write_text(before)


@contextmanager
def _controllers(world: World, lines: str, port: int | None = None) -> Iterator[None]:
    """Other controllers in slurm.conf."""
    path = world.etc / "slurm" / "slurm.conf"
    before = path.read_text()
    others = [f"SlurmctldPort={port}"] if port else []
    away = ("SlurmctldHost=", "SlurmctldPort=") if port else ("SlurmctldHost=",)
    kept = [line for line in before.splitlines() if not line.startswith(away)]
    path.write_text("\n".join([*kept, lines, *others, ""]))
    try:
        yield
    finally:
        path.write_text(before)


@contextmanager
def _resetting(address: str) -> Iterator[int]:
    """Listen there; gives the port."""
    with socket.create_server((address, 0)) as server:
        thread = threading.Thread(target=_serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            # This wakes up who waits for a connection; closing would not.
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection = server.accept()[0]
        except OSError:
            return
        with connection, suppress(OSError):
            connection.settimeout(10)
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
