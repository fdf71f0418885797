"""What every page of the console is made of: its frame, forms, and the way back after a change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

from tornado.web import HTTPError

from . import models as m
from .access import ADMIN_UI, ANYBODY, GROUPS_READ, LINKS, Person
from .handler import SAFE, ConsoleHandler

DONE: Mapping[str, str] = {
    "limit-set": "The limit is set.",
    "limit-deleted": "The limit is deleted.",
    "dismissed": "Dismissed.",
    "group-made": "The group is made.",
    "group-deleted": "The group is deleted.",
    "member-added": "She is a member from her next refresh on.",
    "member-removed": "The membership ends with the next refresh.",
    "lost": "The launch is declared lost; what it counted for is free.",
    "uid-confirmed": "The uid is confirmed.",
    "row-set": "The account is entered.",
    "row-deleted": "The entered account is deleted.",
    "unlinked": "The way in is taken away.",
    "accepted": "Who asked is linked to the account.",
    "refused": "The request is refused.",
}
"""What a page may say after a redirect. The URL carries only the key, so nobody else's text gets on a page."""


def _for_a_group(person: Person, scope: str) -> bool:
    """Whether a page shows her something by a scope that she has for some groups only."""
    return scope == GROUPS_READ and person.may_somewhere(scope)


class Page(ConsoleHandler):
    """The base of all pages."""

    link: ClassVar[str] = ""

    def unauthenticated(self) -> None:
        """A page view starts the sign-in; anything else is refused, so no loop of redirects can begin."""
        navigates = self.request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        if self.request.method not in SAFE or not navigates:
            raise HTTPError(403, "Sign in first.")
        self.redirect(self.get_login_url())

    def show(self, template: str, *, status: int = 200, **values: Any) -> None:
        """Render and finish."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        made = self.settings["templates"].get_template(f"daas/console/{template}")
        self.finish(made.render({**self.frame(), **values}))

    def frame(self) -> dict[str, Any]:
        """What the frame of every page needs. Also for errors, when there is no person."""
        person = self._person
        links = [
            {"path": path, "text": text, "here": path == self.link}
            for path, text, scope in LINKS
            if person is not None and (scope == ANYBODY or person.may(scope) or _for_a_group(person, scope))
        ]
        return {
            "prefix": self.settings["prefix"],
            "hub_prefix": self.settings["hub_prefix"],
            "hub_static": self.settings["hub_prefix"] + "static/",
            "shared_uid": self.settings["shared_uid"],
            "announcement": self.settings["announcement"],
            "away": self.away,
            "hub_admin": person is not None and person.may(ADMIN_UI),
            "person": person,
            "links": links,
            "done": DONE.get(self.request.query_arguments.get("done", [b""])[-1].decode("ascii", "replace"), ""),
            "problem": "",
            "xsrf": self.xsrf_form_html() if person is not None else "",
        }

    def back(self, path: str, done: str) -> None:
        """After a change: a GET of ``path``, so that a reload does not repeat the change."""
        self.redirect(f"{self.settings['prefix']}{path}?{urlencode({'done': done})}", status=303)

    def fields(self, *names: str) -> dict[str, str]:
        """The named fields of a form; missing ones are empty."""
        return {name: self.get_body_argument(name, "") for name in names}

    def answer_error(self, problem: m.Problem) -> None:
        self.show("error.html", status=problem.status, code=problem.status, message=problem.message)
