"""Which of several servers is asked next. Pure: what failed, what time it is and a draw of lots decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby


class Tier(IntEnum):
    """Where a server comes from; all of a lower one are asked before any of a higher one."""

    PRIMARY = 0
    DISCOVERED = 1
    BACKUP = 2


@dataclass(frozen=True)
class Server:
    """One server. ``priority``: lower ones first; ``weight``: its share among those of one priority (RFC 2782)."""

    uri: str
    tier: Tier = Tier.PRIMARY
    priority: int = 0
    weight: int = 0


@dataclass(frozen=True)
class Failure:
    """That a server failed at ``at`` (seconds of any steady clock), and nothing good was heard of it since.

    ``slow``: it cost somebody time, so that nobody is made to wait for it again while it is held; one that fails at
    once may be asked when there is no better one. ``tried_until``: somebody finds out just now whether it is back.
    """

    at: float
    slow: bool
    tried_until: float = 0.0


def order(
    servers: Iterable[Server],
    failures: Mapping[str, Failure],
    now: float,
    *,
    hold_s: float,
    draw: Callable[[int], int],
) -> list[Server]:
    """The servers to ask, best first; none while all are held down.

    A server is held for ``hold_s`` after it failed and while one question tries it again; after that it has its old
    place, so that people come back to the primary by themselves. ``draw(n)`` gives a number from 0 to n.
    """
    free: list[Server] = []
    cheap: list[Server] = []
    for server in arranged(servers, draw):
        failure = failures.get(server.uri)
        if failure is None or now >= max(failure.at + hold_s, failure.tried_until):
            free.append(server)
        elif not failure.slow:
            cheap.append(server)
    return free + cheap


def arranged(servers: Iterable[Server], draw: Callable[[int], int]) -> list[Server]:
    """By tier and priority; inside one priority by lot, in proportion to the weights (RFC 2782, "Weight")."""
    ranked = sorted(servers, key=_rank)
    return [server for _, equal in groupby(ranked, key=_rank) for server in _by_lot(list(equal), draw)]


def _rank(server: Server) -> tuple[int, int]:
    return server.tier, server.priority


def _by_lot(equal: list[Server], draw: Callable[[int], int]) -> list[Server]:
    # Those of weight 0 stand first, so that a draw of 0 can choose one: the RFC's "very small chance".
    left = sorted(equal, key=lambda server: server.weight > 0)
    chosen: list[Server] = []
    while left:
        number = draw(sum(server.weight for server in left)) if len(left) > 1 else 0
        running = 0
        for server in left:
            running += server.weight
            if running >= number:
                chosen.append(server)
                left.remove(server)
                break
    return chosen


def listed(uris: Sequence[str], tier: Tier) -> list[Server]:
    """Servers of a list: each is asked after the one before it."""
    return [Server(uri, tier, priority) for priority, uri in enumerate(uris)]


def discovered(records: Iterable[tuple[int, int, int, str]], domain: str) -> tuple[list[Server], list[str]]:
    """Servers of SRV records (priority, weight, port, target), and the targets that are left out.

    A target outside ``domain`` is left out: the record came by DNS, which proves nothing, and the certificate is
    checked against the target's name; whoever can forge an answer has a certificate for a name of his own. The target
    "." means that there is no such service (RFC 2782).
    """
    inside, outside = [], []
    for priority, weight, port, target in records:
        name, site = target.rstrip(".").lower(), domain.rstrip(".").lower()
        if name == site or name.endswith(f".{site}"):
            inside.append(Server(f"ldap://{name}:{port}", Tier.DISCOVERED, priority, weight))
        elif name:
            outside.append(name)
    return inside, outside
