"""A DNS server on loopback that answers SRV questions from a table, or not at all."""

from __future__ import annotations

import asyncio

import dns.message
import dns.rcode
import dns.resolver
import dns.rrset


class DnsServer(asyncio.DatagramProtocol):
    """``records``: (priority, weight, port, target) of each name; ``silent``: hear, and never answer."""

    def __init__(self) -> None:
        self.records: dict[str, list[tuple[int, int, int, str]]] = {}
        self.ttl_s = 300
        self.silent = False
        self.asked = 0
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> DnsServer:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    def stop(self) -> None:
        """Answer no more."""
        if self._transport is not None:
            self._transport.close()

    def resolver(self) -> dns.resolver.Resolver:
        """One that asks this server only."""
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], self.port
        return resolver

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One question."""
        self.asked += 1
        if self.silent or self._transport is None:
            return
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        name = question.question[0].name.to_text()
        lines = [
            f"{priority} {weight} {port} {target}" for priority, weight, port, target in self.records.get(name, [])
        ]
        if lines:
            answer.answer.append(dns.rrset.from_text(name, self.ttl_s, "IN", "SRV", *lines))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)
