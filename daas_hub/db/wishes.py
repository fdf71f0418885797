"""What an owner wishes of a launch while it waits: a mail when it is ready, sent once."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from daas_hub.core.models import Json, LaunchState
from daas_hub.core.turns import MAIL_FIELD

from .schema import launch

TAKEN = "mail_taken"
BEFORE = (LaunchState.RESERVED, LaunchState.QUEUED, LaunchState.SUBMITTED)
"""States in which a server is not ready yet."""


def wish_mail(c: Connection, launch_id: str, wished: bool) -> bool:
    """Remember it; False where that launch is ready, has ended, or is none."""
    states = [state.value for state in BEFORE]
    request = _request(c, launch_id, launch.c.state.in_(states))
    if request is None:
        return False
    _save(c, launch_id, {**request, MAIL_FIELD: wished})
    return True


def take_mail(c: Connection, launch_id: str) -> bool:
    """Whether a mail is to be sent now: True once for a launch, however often and by whomever it is asked."""
    request = _request(c, launch_id)
    if request is None or request.get(MAIL_FIELD) is not True or request.get(TAKEN):
        return False
    _save(c, launch_id, {**request, TAKEN: True})
    return True


def _request(c: Connection, launch_id: str, *where: object) -> Json | None:
    query = select(launch.c.request).where(launch.c.id == launch_id, *where).with_for_update()  # type: ignore[arg-type]
    found: Json | None = c.execute(query).scalar_one_or_none()
    return found


def _save(c: Connection, launch_id: str, request: Json) -> None:
    c.execute(update(launch).where(launch.c.id == launch_id).values(request=request))
