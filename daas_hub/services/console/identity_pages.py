"""Pages about ways in: my own, anybody's, and what people without an account ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from tornado.web import RequestHandler

from daas_hub.core.errors import DaasError, InvalidOptions

from . import models as m
from .access import ACCOUNTS_WRITE, ANYBODY
from .page import Page


class MyIdentities(Page):
    """By which ways I come in, and when each was used last."""

    link = "identities"
    needs: ClassVar[Mapping[str, str]] = {"GET": ANYBODY}

    async def get(self) -> None:
        ways = await self.store.identities(self.person.name)
        self.show("identities.html", ways=ways, user="", asked="", field="", form={"why": ""}, may_unlink=False)


class Identities(Page):
    """Those of one person, for administrators."""

    link = "admin/identities"
    needs: ClassVar[Mapping[str, str]] = {"GET": ACCOUNTS_WRITE}

    async def get(self) -> None:
        await self.draw(self.get_query_argument("user", "")[: m.MAX_TEXT])

    async def draw(
        self, user: str, *, status: int = 200, problem: str = "", why: str = "", field: str = "", code: str = ""
    ) -> None:
        """The page, also after a refused change."""
        ways = await self.store.identities(user) if user else []
        more = {"user": user, "asked": user, "form": {"why": why}, "field": field, "problem": problem, "code": code}
        self.show("identities.html", status=status, ways=ways, may_unlink=True, **more)


class Unlink(Identities):
    needs: ClassVar[Mapping[str, str]] = {"POST": ACCOUNTS_WRITE}

    async def post(self, user: str, link: str) -> None:
        why = self.fields("why")["why"]
        try:
            await self.store.unlink(user, link, why, self.person)
        except DaasError as error:
            field = error.field if isinstance(error, InvalidOptions) else ""
            await self.draw(user, status=error.status, problem=error.message, why=why, field=field)
            return
        self.back(self.link, "unlinked")


class Invite(Identities):
    needs: ClassVar[Mapping[str, str]] = {"POST": ACCOUNTS_WRITE}

    async def post(self, user: str) -> None:
        """The code is in this answer and nowhere else: a reload asks for another one."""
        why = self.fields("why")["why"]
        try:
            code = await self.store.invite(user, why, self.person)
        except DaasError as error:
            await self.draw(user, status=error.status, problem=error.message)
            return
        self.set_header("Cache-Control", "no-store")
        await self.draw(user, code=code)


class Requests(Page):
    """People whom a provider knows and this site does not."""

    link = "admin/requests"
    needs: ClassVar[Mapping[str, str]] = {"GET": ACCOUNTS_WRITE}

    async def get(self) -> None:
        await self.draw()

    async def draw(
        self, *, status: int = 200, problem: str = "", at: str = "", form: Mapping[str, str] | None = None
    ) -> None:
        """``at``: the request whose form was refused."""
        given = form or {"name": "", "why": ""}
        waiting = await self.store.access_requests()
        self.show("requests.html", status=status, requests=waiting, problem=problem, at=at, form=given)


class Decide(Requests):
    needs: ClassVar[Mapping[str, str]] = {"POST": ACCOUNTS_WRITE}

    async def post(self, request: str, what: str) -> None:
        form = self.fields("name", "why")
        try:
            if what == "accept":
                await self.store.accept_request(request, form["name"].strip(), form["why"], self.person)
            else:
                await self.store.refuse_request(request, form["why"], self.person)
        except DaasError as error:
            await self.draw(status=error.status, problem=error.message, at=request, form=form)
            return
        self.back(self.link, "accepted" if what == "accept" else "refused")


def routes(prefix: str) -> list[tuple[str, type[RequestHandler]]]:
    """tornado's routes of these pages; before those of ``pages``, which end with "not found"."""
    prefix = re.escape(prefix)
    return [
        (f"{prefix}identities", MyIdentities),
        (f"{prefix}admin/identities", Identities),
        (f"{prefix}admin/identities/([^/]+)/([^/]+)/unlink", Unlink),
        (f"{prefix}admin/identities/([^/]+)/invite", Invite),
        (f"{prefix}admin/requests", Requests),
        (f"{prefix}admin/requests/([^/]+)/(accept|refuse)", Decide),
    ]
