"""The page where a person takes one of her ways in away, proved from both sides.

Her password alone could come from a browser that was left open, her provider's session as well; so she gives the
password of her account, and then proves anew to the provider who she is there (decision 0103 says why in that order).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tornado import web

from daas_hub.auth.common import identity_in
from daas_hub.auth.ending import end_sessions
from daas_hub.auth.linked import Unlinked
from daas_hub.auth.oidc_handlers import begin
from daas_hub.auth.pages import WRONG, OurPage
from daas_hub.core.errors import DaasError
from daas_hub.core.linking import UNLINK, Proof
from daas_hub.core.models import Identity
from daas_hub.db.links import Link

NO_SUCH = "There is no such way into your account (any more)."
NOT_BY_HERSELF = (
    "This way in cannot be proved anew here, because this service does not ask its provider any more or the provider "
    "does not say when you signed in. An administrator of this service can unlink it."
)


class UnlinkHandler(OurPage):
    """``GET``: what would be taken away. ``POST``: prove the account; she is then sent to her provider."""

    async def hers(self, number: str) -> tuple[Identity, Link]:
        """Who is signed in, and her link of this number. Raises HTTPError 404."""
        identity = identity_in(await self.current_user.get_auth_state())
        if identity is None or identity.issuer not in self.authenticator.directories:
            raise web.HTTPError(404, NO_SUCH)
        link = await self.authenticator.linking.of_hers((identity.issuer, identity.subject), int(number))
        if link is None:
            raise web.HTTPError(404, NO_SUCH)
        return identity, link

    def provider_of(self, link: Link) -> Any | None:
        """The way that can prove this link anew."""
        for way in self.authenticator.providers.values():
            if way.authenticator.issuer == link.issuer and not way.authenticator.endpoints:
                return way
        return None

    @web.authenticated
    async def get(self, number: str) -> None:
        """The page."""
        identity, link = await self.hers(number)
        await self.draw(identity, link)

    async def draw(self, identity: Identity, link: Link, *, status: int = 200, problem: str = "") -> None:
        """The page with what went wrong."""
        way = self.provider_of(link)
        self.set_status(status)
        html = await self.render_template(
            "daas/unlink.html",
            link=link,
            whose=identity.name,
            provider=way.label if way is not None else "",
            problem=problem or ("" if way is not None else NOT_BY_HERSELF),
            xsrf=self.xsrf_token.decode("ascii"),
        )
        self.finish(html)

    @web.authenticated
    async def post(self, number: str) -> None:
        """Prove the account by its password: one try, counted as a sign-in's."""
        identity, link = await self.hers(number)
        way = self.provider_of(link)
        if way is None:
            await self.draw(identity, link, status=409)
            return
        try:
            proved = await self.proves(identity)
        except web.HTTPError as error:
            await self.draw(identity, link, status=error.status_code, problem=error.log_message or "")
            return
        except DaasError as error:
            self.log.warning("Nothing is unlinked: %s", error.log_message)
            await self.draw(identity, link, status=error.status, problem=error.message)
            return
        if not proved:
            await self.draw(identity, link, status=403, problem=WRONG)
            return
        proof = Proof(link.key, (identity.issuer, identity.subject), UNLINK)
        await begin(self, way.authenticator, "", anew=True, proof=asdict(proof))

    async def proves(self, identity: Identity) -> bool:
        """Whether the password is that of who is signed in; by her own directory, whatever the form says."""
        ways = self.authenticator.directory_ways.items()
        directory = self.authenticator.directories[identity.issuer]
        name = next(name for name, way in ways if way.authenticator is directory)
        data = {"username": identity.name, "password": self.one("password"), "way": name}
        model = await self.authenticator.by_password(self, data)
        found = identity_in(model["auth_state"]) if model is not None else None
        return found is not None and (found.issuer, found.subject) == (identity.issuer, identity.subject)


async def unlinked(handler: Any, done: Unlinked) -> None:
    """All her sessions end, this one too: whoever came by that way may have had any of them. Servers go on."""
    user = handler.find_user(done.user_name) if done.user_name else None
    if user is not None:
        end_sessions(handler, user, keep_servers=True)
    handler.clear_login_cookie()
    handler._jupyterhub_user = None
    handler.set_header("Cache-Control", "no-store")
    handler.finish(await handler.render_template("daas/unlinked.html", what=done.label))
