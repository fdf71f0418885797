"""The console's pages. Each is a thin shell: read, render; or check, change, and redirect to what was changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

from tornado.web import HTTPError, RequestHandler

from daas_hub.core.errors import DaasError, InvalidOptions, NotFound
from daas_hub.core.models import LaunchState
from daas_hub.core.volumes import CLAIM_GROWTH
from daas_hub.db.volumes import VolumeState

from . import forms
from . import group_pages as g
from . import models as m
from .access import ACCOUNTS_WRITE, ANYBODY, AUDIT_READ, LINKS, QUOTA_READ, QUOTA_WRITE
from .page import Page
from .parsing import parse
from .presentation import KINDS, RESOURCES
from .store import page_size


class MyUsage(Page):
    needs: ClassVar[Mapping[str, str]] = {"GET": ANYBODY}

    async def get(self) -> None:
        usage, volumes = await asyncio.gather(self.store.usage(self.person), self.store.my_volumes(self.person))
        self.show("usage.html", usage=usage, volumes=volumes.volumes)


class DismissNotice(Page):
    needs: ClassVar[Mapping[str, str]] = {"POST": ANYBODY}

    async def post(self, notice: str) -> None:
        await self.store.dismiss(self.person, notice)
        self.back("", "dismissed")


class Admin(Page):
    """The first page of the administration that this person may see."""

    needs: ClassVar[Mapping[str, str]] = {"GET": ANYBODY}

    async def get(self) -> None:
        for path, _, scope in LINKS[1:]:
            if self.person.may(scope):
                self.redirect(self.settings["prefix"] + path)
                return
        raise HTTPError(403)


class Launches(Page):
    link = "admin/launches"
    needs: ClassVar[Mapping[str, str]] = {"GET": QUOTA_READ}

    async def get(self) -> None:
        asked = {name: self.get_query_argument(name, "")[: m.MAX_TEXT] for name in ("user", "state", "before")}
        page = await self.store.launches(**asked, limit=page_size(self.get_query_argument("limit", "")))
        here = self.settings["prefix"] + self.link
        following = f"{here}?{urlencode({**asked, 'before': page.next})}" if page.next else ""
        self.show("launches.html", page=page, next=following, states=[*LaunchState], asked=asked)


class Volumes(Page):
    link = "admin/volumes"
    needs: ClassVar[Mapping[str, str]] = {"GET": QUOTA_READ}

    async def get(self) -> None:
        names = ("user", "state", "growth", "before")
        asked = {name: self.get_query_argument(name, "")[: m.MAX_TEXT] for name in names}
        page = await self.store.volumes(**asked, limit=page_size(self.get_query_argument("limit", "")))
        here = self.settings["prefix"] + self.link
        following = f"{here}?{urlencode({**asked, 'before': page.next})}" if page.next else ""
        choices: dict[str, Any] = {"states": [*VolumeState], "growths": CLAIM_GROWTH}
        self.show("volumes.html", page=page, next=following, asked=asked, **choices)


class MyLaunch(Page):
    """One launch, for its owner: what an administrator's page of it shows, without what only she may do."""

    needs: ClassVar[Mapping[str, str]] = {"GET": ANYBODY}

    async def get(self, launch: str) -> None:
        detail = await self.store.launch(launch, self.person)
        more: dict[str, Any] = {"may_declare_lost": False, "form": forms.EMPTY_LOST, "field": ""}
        self.show("launch.html", **dict(detail), **more)


class LaunchLog(Page):
    """The end of a server's log, as text."""

    needs: ClassVar[Mapping[str, str]] = {"GET": ANYBODY}

    async def get(self, launch: str) -> None:
        self.show("log.html", log=await self.store.log(launch, self.person))


class LaunchRecipe(Page):
    """The recipe as a file to keep. Here and not in REST only, so that who is not signed in is asked to."""

    needs: ClassVar[Mapping[str, str]] = {"GET": ANYBODY}

    async def get(self, launch: str) -> None:
        recipe = await self.store.recipe(launch, self.person)
        name = f"launch-{recipe.created_at:%Y%m%d-%H%M%S}.json"
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.finish(recipe.model_dump_json(indent=1) + "\n")


class Launch(Page):
    link = "admin/launches"
    needs: ClassVar[Mapping[str, str]] = {"GET": QUOTA_READ}

    async def get(self, launch: str) -> None:
        await self.draw(launch)

    async def draw(
        self, launch: str, form: Mapping[str, str] = forms.EMPTY_LOST, *, status: int = 200, **more: Any
    ) -> None:
        """The page, also after a refused change, with the form as it was sent."""
        detail = await self.store.launch(launch, self.person)
        lost = detail.launch.state is LaunchState.STOPPING and self.person.may(QUOTA_WRITE)
        values = {**dict(detail), "may_declare_lost": lost}
        self.show("launch.html", status=status, form=form, **{"field": "", **values, **more})


class DeclareLost(Launch):
    needs: ClassVar[Mapping[str, str]] = {"POST": QUOTA_WRITE}

    async def post(self, launch: str) -> None:
        form = self.fields(*forms.EMPTY_LOST)
        try:
            await self.store.declare_lost(launch, parse(m.Confirmation, form), self.person)
        except InvalidOptions as error:
            await self.draw(launch, form, status=error.status, field=error.field, problem=error.message)
            return
        self.back(f"admin/launches/{launch}", "lost")


class Limits(Page):
    link = "admin/limits"
    needs: ClassVar[Mapping[str, str]] = {"GET": QUOTA_READ, "POST": QUOTA_WRITE}

    async def get(self) -> None:
        await self.draw(forms.EMPTY_LIMIT)

    async def draw(self, form: Mapping[str, str], *, status: int = 200, field: str = "", **more: Any) -> None:
        """The page with the form as it was sent."""
        limits = await self.store.limits()
        choices = {
            "kinds": [*KINDS.items()],
            "resources": [*RESOURCES.items()],
            "may_write": self.person.may(QUOTA_WRITE),
        }
        self.show("limits.html", status=status, limits=limits, form=form, field=field, **choices, **more)

    async def post(self) -> None:
        form = self.fields(*forms.EMPTY_LIMIT)
        try:
            await self.store.set_limit(forms.limit(form), self.person)
        except DaasError as error:
            field = error.field if isinstance(error, InvalidOptions) else ""
            await self.draw(form, status=error.status, field=field, problem=error.message)
            return
        self.back(self.link, "limit-set")


class Limit(Page):
    link = "admin/limits"
    needs: ClassVar[Mapping[str, str]] = {"GET": QUOTA_WRITE, "POST": QUOTA_WRITE}

    async def get(self, limit: str) -> None:
        row = await self.store.limit(limit)
        self.show("limit.html", limit=row, form={"amount": forms.amount_text(row), "note": ""}, field="")

    async def post(self, limit: str) -> None:
        row = await self.store.limit(limit)
        form = self.fields("amount", "note")
        try:
            await self.store.change_limit(limit, forms.amount(form, row.resource), self.person)
        except DaasError as error:
            field = error.field if isinstance(error, InvalidOptions) else ""
            self.show("limit.html", status=error.status, limit=row, form=form, field=field, problem=error.message)
            return
        self.back(self.link, "limit-set")


class DeleteLimit(Page):
    link = "admin/limits"
    needs: ClassVar[Mapping[str, str]] = {"POST": QUOTA_WRITE}

    async def post(self, limit: str) -> None:
        await self.store.delete_limit(limit, "", self.person)
        self.back(self.link, "limit-deleted")


class Audit(Page):
    link = "admin/audit"
    needs: ClassVar[Mapping[str, str]] = {"GET": AUDIT_READ}

    async def get(self) -> None:
        page = await self.store.audit(
            before=self.get_query_argument("before", ""), limit=page_size(self.get_query_argument("limit", ""))
        )
        following = f"{self.settings['prefix']}{self.link}?before={page.next}" if page.next is not None else ""
        self.show("audit.html", page=page, next=following)


class Accounts(Page):
    """Changed uids that wait, and one POSIX account entered by hand at a time, found by its name."""

    link = "admin/accounts"
    needs: ClassVar[Mapping[str, str]] = {"GET": ACCOUNTS_WRITE, "POST": ACCOUNTS_WRITE}

    async def get(self) -> None:
        name = self.get_query_argument("name", "")[: m.MAX_TEXT]
        found = None
        if name:
            try:
                found = await self.store.posix_row(name)
            except NotFound:
                await self.draw({**forms.EMPTY_ROW, "name": name}, missing=True)
                return
        await self.draw(forms.row_text(found) if found else forms.EMPTY_ROW, found=found)

    async def draw(self, form: Mapping[str, str], *, status: int = 200, field: str = "", **more: Any) -> None:
        """The page with the form as it was sent."""
        values = {"found": None, "missing": False, **more}
        waiting = await self.store.waiting()
        self.show("accounts.html", status=status, waiting=waiting, form=form, field=field, **values)

    async def post(self) -> None:
        form = self.fields(*forms.EMPTY_ROW)
        try:
            await self.store.set_posix_row(form["name"], forms.posix_row(form), self.person)
        except DaasError as error:
            field = error.field if isinstance(error, InvalidOptions) else ""
            await self.draw(form, status=error.status, field=field, problem=error.message)
            return
        self.back(self.link, "row-set")


class DeletePosixRow(Page):
    link = "admin/accounts"
    needs: ClassVar[Mapping[str, str]] = {"POST": ACCOUNTS_WRITE}

    async def post(self, name: str) -> None:
        await self.store.delete_posix_row(name, "", self.person)
        self.back(self.link, "row-deleted")


class ConfirmUid(Accounts):
    needs: ClassVar[Mapping[str, str]] = {"POST": ACCOUNTS_WRITE}

    async def post(self, user: str) -> None:  # type: ignore[override]
        try:
            await self.store.confirm_uid(user, parse(m.ConfirmUid, self.fields("uid")), self.person)
        except InvalidOptions as error:
            await self.draw(forms.EMPTY_ROW, status=error.status, problem=error.message)
            return
        self.back(self.link, "uid-confirmed")


class NotFoundPage(Page):
    """Every other path: the same answer whether or not somebody is signed in."""

    async def prepare(self) -> None:
        raise HTTPError(404)


def routes(prefix: str) -> list[tuple[str, type[RequestHandler]]]:
    """tornado's routes of all pages."""
    prefix = re.escape(prefix)
    return [
        (f"{prefix}", MyUsage),
        (f"{prefix}notices/([^/]+)/dismiss", DismissNotice),
        (f"{prefix}launches/([^/]+)", MyLaunch),
        (f"{prefix}launches/([^/]+)/log", LaunchLog),
        (f"{prefix}launches/([^/]+)/recipe.json", LaunchRecipe),
        (f"{prefix}admin/?", Admin),
        (f"{prefix}admin/launches", Launches),
        (f"{prefix}admin/launches/([^/]+)", Launch),
        (f"{prefix}admin/launches/([^/]+)/declare-lost", DeclareLost),
        (f"{prefix}admin/volumes", Volumes),
        (f"{prefix}admin/limits", Limits),
        (f"{prefix}admin/limits/([^/]+)", Limit),
        (f"{prefix}admin/limits/([^/]+)/delete", DeleteLimit),
        *((prefix + path, page) for path, page in g.ROUTES),
        (f"{prefix}admin/audit", Audit),
        (f"{prefix}admin/accounts", Accounts),
        (f"{prefix}admin/accounts/([^/]+)/confirm-uid", ConfirmUid),
        (f"{prefix}admin/accounts/([^/]+)/delete-row", DeletePosixRow),
        (".*", NotFoundPage),
    ]
