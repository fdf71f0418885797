"""Groups of every source, as synchronous functions over the ledger (see queries); what the hub knows is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from daas_hub.core.errors import InvalidOptions, NotFound
from daas_hub.core.groups import GroupSource
from daas_hub.db.ledger import Ledger

from . import group_models as m
from .access import GROUPS_READ, Person

HUB = "hub"
"""The source of groups that neither directory nor ledger knows: `load_groups`, or another authenticator's."""


def groups(ledger: Ledger, person: Person, in_hub: Mapping[str, int]) -> m.GroupList:
    """All groups that ``person`` may see. ``in_hub``: group → members, as the hub has them."""
    return m.GroupList(groups=[g for g in _all(ledger, in_hub).values() if person.may(GROUPS_READ, g.name)])


def group(ledger: Ledger, name: str, in_hub: list[str]) -> m.GroupDetail:
    """One group; ``in_hub`` are the users whom the hub has in it. Raises NotFound."""
    found = _all(ledger, {name: len(in_hub)}).get(name)
    if found is None:
        raise NotFound("There is no such group.")
    members: set[str] = set()
    if not {*found.sources} <= {GroupSource.LOCAL, GroupSource.PROJECT}:
        members |= {*in_hub}
    names = {account.id: account.user_name or account.id for account in ledger.accounts.list()}
    local, project = ledger.local_groups.get(name), ledger.projects.get(name)
    for ids in (local.members if local else (), project.members if project else ()):
        members |= {names.get(account_id, account_id) for account_id in ids}
    return m.GroupDetail(group=found.model_copy(update={"members": len(members)}), members=sorted(members))


def create(ledger: Ledger, wanted: m.NewGroup, person: Person, now: datetime) -> None:
    """Make a local group; raises InvalidOptions."""
    ledger.local_groups.create(wanted.name, wanted.description, by=person.by, now=now, why=wanted.note)


def require_local(ledger: Ledger, name: str) -> None:
    """Raise InvalidOptions where the group is somebody else's to change, NotFound where there is none."""
    if ledger.local_groups.get(name) is not None:
        return
    if ledger.projects.get(name) is not None:
        raise InvalidOptions(f"{name!r} is a project: its members are changed there.", field="name")
    if name in {known.name for known in ledger.local_groups.directory()}:
        raise InvalidOptions(f"{name!r} is a group of the directory: its members are changed there.", field="name")
    raise NotFound("There is no such local group.")


def delete(ledger: Ledger, name: str, typed: str, note: str, person: Person, now: datetime) -> None:
    """Delete a local group whose name was typed; raises InvalidOptions, NotFound."""
    require_local(ledger, name)
    if typed != name:
        message = f"confirm_name: {typed[:80]!r} is not the name of this group; type it to delete the group."
        raise InvalidOptions(message, field="confirm_name")
    ledger.local_groups.delete(name, by=person.by, now=now, why=note)


def add_member(ledger: Ledger, name: str, account_id: str, note: str, person: Person, now: datetime) -> None:
    """Make an account a member; raises NotFound."""
    ledger.local_groups.add_member(name, account_id, by=person.by, now=now, why=note)


def remove_member(ledger: Ledger, name: str, user: str, note: str, person: Person, now: datetime) -> None:
    """End a membership, also of an account that has no user any more, by its id. Raises NotFound, InvalidOptions."""
    require_local(ledger, name)
    account = ledger.accounts.by_user_name(user) or ledger.accounts.by_id(user)
    found = ledger.local_groups.get(name)
    if account is None or found is None or account.id not in found.members:
        raise NotFound(f"{user[:80]!r} is no member of {name!r}.")
    ledger.local_groups.remove_member(name, account.id, by=person.by, now=now, why=note)


def _all(ledger: Ledger, in_hub: Mapping[str, int]) -> dict[str, m.GroupModel]:
    local = {group.name: group for group in ledger.local_groups.list()}
    projects = {project.slug: project for project in ledger.projects.list()}
    directory = {group.name for group in ledger.local_groups.directory()}
    # A group of the hub without members may be what is left of a local one, or be named by a role.
    others = {name for name, members in in_hub.items() if members} - {*local, *projects, *directory}
    found = {}
    for name in sorted({*local, *projects, *directory, *others}):
        mine, project = local.get(name), projects.get(name)
        left_out = mine is not None and name in directory
        by_source = {
            GroupSource.LOCAL.value: mine is not None,
            GroupSource.PROJECT.value: project is not None,
            GroupSource.DIRECTORY.value: name in directory and not left_out,
            HUB: name in others,
        }
        sources = [source for source, there in by_source.items() if there]
        ledgers = len(mine.members if mine is not None else project.members if project is not None else ())
        hubs = in_hub.get(name, 0) if {GroupSource.DIRECTORY.value, HUB} & {*sources} else 0
        description = mine.description if mine is not None else project.title if project is not None else ""
        found[name] = m.GroupModel(
            name=name, sources=sources, description=description, members=max(ledgers, hubs), left_out=left_out
        )
    return found
