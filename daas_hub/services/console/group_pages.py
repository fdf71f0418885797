"""The pages of groups: all of them with their source, one with its members, and what changes local ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from daas_hub.core.errors import DaasError, InvalidOptions
from daas_hub.core.groups import GroupSource

from . import group_models as gm
from .access import GROUPS_READ, GROUPS_WRITE
from .handler import SAFE
from .page import Page
from .parsing import parse

EMPTY_GROUP: Mapping[str, str] = {"name": "", "description": "", "note": ""}
"""The fields of the form that makes a group."""
EMPTY_MEMBER: Mapping[str, str] = {"user": "", "note": "", "confirm_name": ""}
"""The fields of the forms on the page of a group."""


class Groups(Page):
    link = "admin/groups"
    needs: ClassVar[Mapping[str, str]] = {"GET": GROUPS_READ, "POST": GROUPS_WRITE}
    for_groups = SAFE

    async def get(self) -> None:
        await self.draw(EMPTY_GROUP)

    async def draw(self, form: Mapping[str, str], *, status: int = 200, field: str = "", **more: Any) -> None:
        """The page with the form as it was sent."""
        found = await self.store.groups.all(self.person)
        more["may_write"] = self.person.may(GROUPS_WRITE)
        self.show("groups.html", status=status, groups=found.groups, form=form, field=field, **more)

    async def post(self) -> None:
        form = self.fields(*EMPTY_GROUP)
        try:
            made = await self.store.groups.create(parse(gm.NewGroup, form), self.person)
        except DaasError as error:
            field = error.field if isinstance(error, InvalidOptions) else ""
            await self.draw(form, status=error.status, field=field, problem=error.message)
            return
        self.back(f"{self.link}/{made.group.name}", "group-made")


class Group(Page):
    link = "admin/groups"
    needs: ClassVar[Mapping[str, str]] = {"GET": GROUPS_READ}
    for_groups = SAFE

    async def get(self, name: str) -> None:
        await self.draw(name)

    async def draw(self, name: str, form: Mapping[str, str] = EMPTY_MEMBER, *, status: int = 200, **more: Any) -> None:
        """The page, also after a refused change, with the form as it was sent."""
        found = await self.store.groups.one(name)
        local = GroupSource.LOCAL in found.group.sources
        rights = {
            "may_write": local and self.person.may(GROUPS_WRITE, name),
            "may_delete": local and self.person.may(GROUPS_WRITE),
        }
        values = {"group": found.group, "members": found.members, "form": {**EMPTY_MEMBER, **form}, "field": ""}
        self.show("group.html", status=status, **{**values, **rights, **more})

    async def refused(self, name: str, form: Mapping[str, str], error: DaasError) -> None:
        """The page that says why, with what was typed."""
        field = error.field if isinstance(error, InvalidOptions) else ""
        await self.draw(name, form, status=error.status, field=field, problem=error.message)


class AddMember(Group):
    needs: ClassVar[Mapping[str, str]] = {"POST": GROUPS_WRITE}
    for_groups = frozenset({"POST"})

    async def post(self, name: str) -> None:
        form = self.fields("user", "note")
        try:
            note = parse(gm.MemberIn, {"note": form["note"]}).note
            await self.store.groups.add_member(name, form["user"].strip(), note, self.person)
        except DaasError as error:
            await self.refused(name, form, error)
            return
        self.back(f"{self.link}/{quote(name, safe='')}", "member-added")


class RemoveMember(Group):
    needs: ClassVar[Mapping[str, str]] = {"POST": GROUPS_WRITE}
    for_groups = frozenset({"POST"})

    async def post(self, name: str, user: str) -> None:
        try:
            await self.store.groups.remove_member(name, user, "", self.person)
        except DaasError as error:
            await self.refused(name, {}, error)
            return
        self.back(f"{self.link}/{quote(name, safe='')}", "member-removed")


class DeleteGroup(Group):
    needs: ClassVar[Mapping[str, str]] = {"POST": GROUPS_WRITE}

    async def post(self, name: str) -> None:
        form = self.fields("confirm_name")
        try:
            await self.store.groups.delete(name, form["confirm_name"].strip(), "", self.person)
        except DaasError as error:
            await self.refused(name, form, error)
            return
        self.back(self.link, "group-deleted")


ROUTES: tuple[tuple[str, type[Page]], ...] = (
    ("admin/groups", Groups),
    ("admin/groups/([^/]+)", Group),
    ("admin/groups/([^/]+)/members", AddMember),
    ("admin/groups/([^/]+)/members/([^/]+)/remove", RemoveMember),
    ("admin/groups/([^/]+)/delete", DeleteGroup),
)
"""Paths below the console's prefix."""
