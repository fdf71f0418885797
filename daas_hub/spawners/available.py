"""What a form shows beside its profiles: what there is room for, and what this person may ask of a cluster.

All of it is told by looks that everybody shares, or that are kept for her for a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyterhub.utils import url_path_join

from daas_hub.core.availability import Badge, badge, told

from . import placing
from .choosing import Choosing
from .form import Live, environment
from .runtime import utcnow

if TYPE_CHECKING:
    from .admission import Admission


async def live(admission: Admission) -> Live:
    """All of it, for a form."""
    choosing = Choosing(admission)
    profiles = {profile.slug: profile for profile in await admission.profiles()}
    spawner = admission.spawner
    return Live(
        badges=tuple(await badges(admission)),
        url=url_path_join(spawner.hub.base_url, "daas/availability", spawner.user.escaped_name),
        slurm=await choosing.fields(profiles, await admission.defaults()),
        projects=tuple(await choosing.listed_projects()),
    )


async def places(admission: Admission) -> placing.Offers:
    """The places to choose from, by profile."""
    requests = await admission.defaults()
    within = await Choosing(admission).within_of(await admission.profiles(), requests)
    return await placing.offered(admission.site, admission.spawner.placement_rules(), requests, within)


async def badges(admission: Admission) -> list[Badge]:
    """One for each profile that is open to her and needs no text from her first."""
    site, policy = admission.site, admission.spawner.placement_rules()
    requests = await admission.defaults()
    names = [name for request in requests.values() for name in placing.backends_of(site, request)]
    seen = await placing.looks(site, names)
    within = await Choosing(admission).within_of(await admission.profiles(), requests)
    now = utcnow()
    return [
        badge(
            slug,
            request.profile_display_name,
            placing.decided(site, policy, request, placing.inside(seen, within.get(slug, {}))),
            now,
        )
        for slug, request in requests.items()
    ]


def fragment(shown: list[Badge], url: str, said: str) -> str:
    """What a page takes in: the badges, what is said aloud, and the next question."""
    template = environment().get_template("daas/availability.html")
    return template.render(badges=shown, url=url, told=told(shown), said=said)
