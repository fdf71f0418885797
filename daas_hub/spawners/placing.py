"""Where one start goes: each backend is asked what it has free, ``core/placement.py`` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from daas_hub.core.capacity import Capacity
from daas_hub.core.errors import DaasError, InvalidOptions, NotAllowed
from daas_hub.core.models import LaunchRequest
from daas_hub.core.placement import Looks, Placement, choices, decide
from daas_hub.core.places import Policy, place

from .runtime import DaasHub, utcnow

Within = Mapping[str, frozenset[str]]
"""Backend → the partitions in which a start can be, where that is known."""
LOOK_WITHIN_S = 5.0
"""A place that has not said by then what is free counts as unknown: nobody waits longer for a page."""

Offers = dict[str, list[tuple[str, str]]]
"""Slug → the places of a profile as (what is sent, what is shown); only of those that have several."""


async def looks(site: DaasHub, backends: Iterable[str]) -> Looks:
    """What each of them has free, by the site's word for it."""
    names = list(dict.fromkeys(backends))
    return dict(zip(names, await asyncio.gather(*(_look(site, name) for name in names)), strict=True))


async def _look(site: DaasHub, name: str) -> Sequence[Capacity]:
    try:
        async with asyncio.timeout(LOOK_WITHIN_S):
            return await site.turns.line(name).told(await site.backend(name).capacity())
    except TimeoutError:
        return ()
    except DaasError as error:
        site.log.error("What is free on %s is not known: %s", name, error.log_message)
        return ()


async def looks_for(site: DaasHub, wanted: Iterable[Sequence[str]]) -> Looks:
    """The same for all backends that these profiles may run on; nothing where there is but one place anyway."""
    if len(site.backends) == 1:
        only = site.backend(site.default_backend)
        if not only.has_partitions and not only.bounds.has_room:
            return {}
    return await looks(site, [name for backends in wanted for name in _named(site, backends)])


def _named(site: DaasHub, backends: Sequence[str]) -> list[str]:
    """Of a profile whose backends are all unknown here the decision says so."""
    here = tuple(site.backends)
    return [place(text).backend for text in backends or here if place(text).backend in here]


def backends_of(site: DaasHub, request: LaunchRequest) -> list[str]:
    """The backends to which it may go."""
    return _named(site, request.backends)


def inside(seen: Looks, within: Within) -> Looks:
    """What was seen of the partitions that are open to somebody."""
    return {
        name: [each for each in rows if not each.partition or name not in within or each.partition in within[name]]
        for name, rows in seen.items()
    }


async def placed(site: DaasHub, policy: Policy, request: LaunchRequest, within: Within) -> Placement:
    """Where this goes, of what is open to her. Raises NotAllowed, InvalidOptions (``core.placement.decide``)."""
    seen = inside(await looks_for(site, [request.backends]), within)
    return decide(request, tuple(site.backends), seen, policy=policy, now=utcnow())


async def would_run(site: DaasHub, policy: Policy, requests: Sequence[LaunchRequest]) -> list[str]:
    """Display names of the profiles that can ever run somewhere."""
    seen = await looks_for(site, [request.backends for request in requests])
    return [r.profile_display_name for r in requests if decided(site, policy, r, seen) is not None]


async def offered(
    site: DaasHub, policy: Policy, requests: Mapping[str, LaunchRequest], within: Mapping[str, Within]
) -> Offers:
    """What a form offers; ``within``: slug → what is open to her, of profiles for which that is known."""
    seen = await looks_for(site, [request.backends for request in requests.values()])
    found = {
        slug: decided(site, policy, request, inside(seen, within.get(slug, {}))) for slug, request in requests.items()
    }
    return {slug: choices(each) for slug, each in found.items() if each is not None and len(each.candidates) > 1}


def decided(site: DaasHub, policy: Policy, request: LaunchRequest, seen: Looks) -> Placement | None:
    """Where it would go; None where it cannot."""
    try:
        return decide(request, tuple(site.backends), seen, policy=policy, now=utcnow())
    except (InvalidOptions, NotAllowed):
        return None
