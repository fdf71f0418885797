"""The REST interface at ``/services/daas/api/v1/``: each handler turns a request into one call of the store."""

from __future__ import annotations

import json
import re
from typing import ClassVar, TypeVar

from pydantic import BaseModel
from tornado.web import HTTPError, RequestHandler

from daas_hub.core.errors import InvalidOptions

from . import group_models as gm
from . import models as m
from .handler import SAFE, ConsoleHandler
from .openapi import document
from .operations import OPERATIONS
from .parsing import parse
from .store import page_size

M = TypeVar("M", bound=BaseModel)
ROOT = "api/v1/"


class ApiHandler(ConsoleHandler):
    """JSON in, JSON out."""

    path: ClassVar[str]
    """The path in OPERATIONS; its rows say which scope each method needs."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.needs = {o.method: o.scope for o in OPERATIONS if o.path == cls.path}

    def body(self, model: type[M]) -> M:
        """The request's JSON as ``model``."""
        try:
            data = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise InvalidOptions("The body is not JSON.", field="body") from error
        return parse(model, data)

    def give(self, answer: BaseModel | None) -> None:
        """Finish with a model, or with 204."""
        if answer is None:
            self.set_status(204)
            self.finish()
            return
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(answer.model_dump_json())

    def answer_error(self, problem: m.Problem) -> None:
        self.give(problem)

    def question(self, name: str) -> str:
        """One parameter of the query string, bounded."""
        value: str = self.get_query_argument(name, "")
        if len(value) > m.MAX_TEXT:
            raise InvalidOptions(f"{name}: at most {m.MAX_TEXT} characters.", field=name)
        return value


class Usage(ApiHandler):
    path = "me/usage"

    async def get(self) -> None:
        self.give(await self.store.usage(self.person))


class Notices(ApiHandler):
    path = "me/notices"

    async def get(self) -> None:
        self.give(m.NoticeList(notices=await self.store.notices(self.person)))


class Notice(ApiHandler):
    path = "me/notices/{notice}"

    async def delete(self, notice: str) -> None:
        await self.store.dismiss(self.person, notice)
        self.give(None)


class MyVolumes(ApiHandler):
    path = "me/volumes"

    async def get(self) -> None:
        self.give(await self.store.my_volumes(self.person))


class Volumes(ApiHandler):
    path = "volumes"

    async def get(self) -> None:
        page = await self.store.volumes(
            user=self.question("user"),
            state=self.question("state"),
            growth=self.question("growth"),
            before=self.question("before"),
            limit=page_size(self.question("limit")),
        )
        self.give(page)


class Launches(ApiHandler):
    path = "launches"

    async def get(self) -> None:
        page = await self.store.launches(
            user=self.question("user"),
            state=self.question("state"),
            before=self.question("before"),
            limit=page_size(self.question("limit")),
        )
        self.give(page)


class Launch(ApiHandler):
    path = "launches/{launch}"

    async def get(self, launch: str) -> None:
        self.give(await self.store.launch(launch, self.person))


class LaunchLog(ApiHandler):
    path = "launches/{launch}/log"

    async def get(self, launch: str) -> None:
        self.give(await self.store.log(launch, self.person))


class LaunchRecipe(ApiHandler):
    path = "launches/{launch}/recipe"

    async def get(self, launch: str) -> None:
        self.give(await self.store.recipe(launch, self.person))


class DeclareLost(ApiHandler):
    path = "launches/{launch}/declare-lost"

    async def post(self, launch: str) -> None:
        self.give(await self.store.declare_lost(launch, self.body(m.Confirmation), self.person))


class Limits(ApiHandler):
    path = "limits"

    async def get(self) -> None:
        self.give(m.LimitList(limits=await self.store.limits()))

    async def post(self) -> None:
        self.give(await self.store.set_limit(self.body(m.LimitIn), self.person))


class Limit(ApiHandler):
    path = "limits/{limit}"

    async def get(self, limit: str) -> None:
        self.give(await self.store.limit(limit))

    async def put(self, limit: str) -> None:
        self.give(await self.store.change_limit(limit, self.body(m.AmountIn), self.person))

    async def delete(self, limit: str) -> None:
        await self.store.delete_limit(limit, self.question("note"), self.person)
        self.give(None)


class Groups(ApiHandler):
    path = "groups"

    for_groups = SAFE

    async def get(self) -> None:
        self.give(await self.store.groups.all(self.person))

    async def post(self) -> None:
        self.give(await self.store.groups.create(self.body(gm.NewGroup), self.person))


class Group(ApiHandler):
    path = "groups/{group}"

    for_groups = SAFE

    async def get(self, group: str) -> None:
        self.give(await self.store.groups.one(group))

    async def delete(self, group: str) -> None:
        typed, note = self.question("confirm_name"), self.question("note")
        await self.store.groups.delete(group, typed, note, self.person)
        self.give(None)


class Member(ApiHandler):
    path = "groups/{group}/members/{user}"
    for_groups = frozenset({"PUT", "DELETE"})

    async def put(self, group: str, user: str) -> None:
        self.give(await self.store.groups.add_member(group, user, self.body(gm.MemberIn).note, self.person))

    async def delete(self, group: str, user: str) -> None:
        await self.store.groups.remove_member(group, user, self.question("note"), self.person)
        self.give(None)


class Audit(ApiHandler):
    path = "audit"

    async def get(self) -> None:
        self.give(await self.store.audit(before=self.question("before"), limit=page_size(self.question("limit"))))


class Account(ApiHandler):
    path = "accounts/{user}"

    async def get(self, user: str) -> None:
        self.give(await self.store.account(user))


class ConfirmUid(ApiHandler):
    path = "accounts/{user}/confirm-uid"

    async def post(self, user: str) -> None:
        self.give(await self.store.confirm_uid(user, self.body(m.ConfirmUid), self.person))


class PosixRow(ApiHandler):
    path = "posix-rows/{name}"

    async def get(self, name: str) -> None:
        self.give(await self.store.posix_row(name))

    async def put(self, name: str) -> None:
        self.give(await self.store.set_posix_row(name, self.body(m.PosixRowIn), self.person))

    async def delete(self, name: str) -> None:
        await self.store.delete_posix_row(name, self.question("note"), self.person)
        self.give(None)


class Unknown(ApiHandler):
    """Everything else below ``api/``."""

    path = ""

    async def prepare(self) -> None:
        raise HTTPError(404)


class OpenApi(RequestHandler):
    """The interface's description. It holds nothing about this site, so anybody may read it."""

    def set_default_headers(self) -> None:
        for name, value in self.settings["security_headers"].items():
            self.set_header(name, value)

    def get(self) -> None:
        self.finish(document(OPERATIONS, self.settings["prefix"] + ROOT))


HANDLERS: tuple[type[ApiHandler], ...] = (
    Usage,
    Notices,
    Notice,
    MyVolumes,
    Volumes,
    Launches,
    Launch,
    LaunchLog,
    LaunchRecipe,
    DeclareLost,
    Limits,
    Limit,
    Groups,
    Group,
    Member,
    Audit,
    Account,
    ConfirmUid,
    PosixRow,
)


def routes(prefix: str) -> list[tuple[str, type[RequestHandler]]]:
    """tornado's routes; each ``{name}`` takes one part of the path."""
    made: list[tuple[str, type[RequestHandler]]] = [(re.escape(f"{prefix}{ROOT}openapi.json"), OpenApi)]
    for handler in HANDLERS:
        pattern = re.sub(r"\{\w+\}", "([^/]+)", handler.path)
        made.append((re.escape(f"{prefix}{ROOT}") + pattern, handler))
    made.append((re.escape(f"{prefix}api/") + ".*", Unknown))
    return made
