"""How many failed attempts are too many: a bounded memory of keys and times. Pure; the clock is the caller's."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

MAX_KEYS = 20_000
"""Names and addresses remembered; the one that was tried longest ago is forgotten first."""
MAX_KEY = 300
"""Characters of a key that count: nobody fills the memory with long names."""


class Failures:
    """At most ``limit`` failures of one key within ``within_s`` seconds. A limit of 0: any number.

    An attempt counts when it begins, so that a thousand at once are not a thousand tries.
    """

    def __init__(self, limit: int, within_s: float, *, max_keys: int = MAX_KEYS) -> None:
        self._limit, self._within_s, self._max_keys = limit, within_s, max_keys
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, key: str, now: float) -> float:
        """0, and the attempt counts; or the seconds to wait, and it does not."""
        if not self._limit:
            return 0.0
        key = key[:MAX_KEY]
        times = self._times.setdefault(key, deque())
        self._times.move_to_end(key)
        while times and times[0] <= now - self._within_s:
            times.popleft()
        if len(times) >= self._limit:
            return times[0] + self._within_s - now
        times.append(now)
        while len(self._times) > self._max_keys:
            self._times.popitem(last=False)
        return 0.0

    def take_back(self, key: str, *, clear: bool = False) -> None:
        """The attempt that began last was no failure; ``clear``: it proved the password, and forgives earlier ones."""
        times = self._times.get(key[:MAX_KEY])
        if times is None:
            return
        if times:
            times.pop()
        if clear or not times:
            del self._times[key[:MAX_KEY]]

    def __len__(self) -> int:
        return len(self._times)


def network_of(address: str) -> str:
    """Who is one sender: an IPv4 address, or the /64 that one household has of IPv6. Other text is itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
