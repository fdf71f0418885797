"""A TCP proxy in front of a real server that can be silent, refuse, drip, be slow or reset, and that remembers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import StrEnum

from tests.servers.ports import free_port


class Fault(StrEnum):
    """What happens to connections; a change reaches also those that are open."""

    NONE = "none"
    SILENT = "silent"
    """Accept, read, never answer."""
    DRIP = "drip"
    """Accept, then one byte of a message that never ends, every tenth of a second."""
    SLOW = "slow"
    """The real server's answer, one byte every tenth of a second."""
    CUT = "cut"
    """The first ``cut_after`` bytes of the real server's answers, then a reset in the middle of one."""
    RESET = "reset"
    """Accept, and reset as soon as something is asked."""
    GARBAGE = "garbage"
    """Answer with what is not LDAP."""
    BER = "ber"
    """Answer with a message whose parts say other lengths than the whole has."""
    HALF_OPEN = "half open"
    """Close this side's half as soon as something is asked: the client may go on sending, and hears nothing."""
    LOSE = "lose"
    """Nothing that the real server answers once a connection has carried ``lose_after``: it hears, and is not heard."""


class FaultProxy:
    """Listens on ``host``; forwards to ``target`` on 127.0.0.1 while there is no fault. Without target: a trap."""

    def __init__(self, target: int | None, *, host: str = "127.0.0.1") -> None:
        self.target = target
        self.host = host
        self.port = free_port()
        self.fault = Fault.NONE
        self.connections = 0
        self.cut_after = 7
        self.lose_after = b""
        self.answered: list[int] = []
        """How many bytes each connection that is over had for an answer."""
        self.received = bytearray()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> FaultProxy:
        """Listen (again)."""
        self._server = await asyncio.start_server(self._accepted, self.host, self.port)
        return self

    async def stop(self) -> None:
        """Refuse from now on, and end what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._tasks)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._accept(reader, writer))
        self._tasks.add(task)

        def over(_done: object) -> None:
            # Here, since a task that is cancelled before it began runs nothing of its own.
            writer.close()
            self._tasks.discard(task)

        task.add_done_callback(over)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # ConnectionError: the client was cut, which is what these tests are about.
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self.fault:
            case Fault.SILENT:
                await self._read(reader)
            case Fault.DRIP:
                await self._drip(reader, writer)
            case Fault.RESET | Fault.GARBAGE | Fault.BER | Fault.HALF_OPEN:
                self.received += await reader.read(65536)
                await self._answer_wrongly(reader, writer)
            case _ if self.target is not None:
                await self._forward(reader, writer)

    async def _answer_wrongly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self.fault:
            case Fault.GARBAGE:
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40)
                await writer.drain()
            case Fault.BER:
                # An extended response of 12 bytes whose matchedDN claims 127.
                writer.write(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x7f\x04\x00")
                await writer.drain()
                await self._read(reader)
            case Fault.HALF_OPEN:
                writer.write_eof()
                await self._read(reader)
            case _:
                _reset(writer)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.received += data

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = asyncio.ensure_future(self._read(reader))
        try:
            writer.write(b"\x30\x84\x00\x10\x00\x00")
            while not reading.done():
                writer.write(b"\x02")
                await writer.drain()
                await asyncio.wait([reading], timeout=0.1)
        finally:
            reading.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)

        heard = bytearray()

        async def ask() -> None:
            while data := await reader.read(65536):
                self.received += data
                heard.extend(data)
                if self.fault in _REAL:
                    back.write(data)
                    await back.drain()

        asking = asyncio.ensure_future(ask())
        answering = asyncio.ensure_future(self._answer(there, writer, heard))
        try:
            await asyncio.wait([asking, answering], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First of all: whoever stops the proxy may cancel the waiting below.
            back.close()
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
        """Pass on what the real server says, as the fault wants it, until one of the two ends."""
        passed = 0
        try:
            while data := await there.read(65536):
                if self.fault is Fault.CUT and passed + len(data) > self.cut_after:
                    writer.write(data[: max(0, self.cut_after - passed)])
                    await writer.drain()
                    return _reset(writer)
                if self.fault not in _REAL or (self.fault is Fault.LOSE and self.lose_after in heard):
                    continue
                pieces = [data] if self.fault is not Fault.SLOW else [data[i : i + 1] for i in range(len(data))]
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    passed += len(piece)
                    if self.fault is Fault.SLOW:
                        await asyncio.sleep(0.1)
        finally:
            self.answered.append(passed)


_REAL = {Fault.NONE, Fault.SLOW, Fault.CUT, Fault.LOSE}
"""Faults in which the real server is asked."""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Make the coming close a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
