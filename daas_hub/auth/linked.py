"""The step from how somebody came to who she is on this site: a seam (design.md §7).

A provider says who came. Whose account that is, is the site's to say: by links to its directory, or, where a site has
none, by taking the provider's identity itself.
"""

from __future__ import annotations

from typing import Any, Protocol

from tornado import web

from daas_hub.core.errors import ProviderUnavailable
from daas_hub.core.linking import Proof
from daas_hub.core.models import Identity

GONE = (
    "Your account of this site is not active any more, so its other ways in are closed as well. Ask whoever "
    "administers the site's accounts."
)
NOT_LINKED = (
    "You are signed in at your identity provider, but no account of this site belongs to that sign-in. Ask the people "
    "who administer this service."
)


class NotLinked(Exception):
    """Raised in a sign-in of somebody who has no account here (yet). Carries what a link page needs."""

    def __init__(self, came_by: Identity, tokens: dict[str, Any]) -> None:
        super().__init__(f"{came_by.issuer} {came_by.subject} is linked to no account")
        self.came_by = came_by
        self.tokens = tokens


class Unlinked(Exception):
    """Raised in a sign-in that was made to take a link away, once that is done. Nobody is signed in by it."""

    def __init__(self, user_name: str, label: str) -> None:
        super().__init__(f"{label} is unlinked from the account of {user_name}")
        self.user_name, self.label = user_name, label


class AccountGone(Exception):
    """Raised where an identity is linked, and its account is not active in the site's directory (any more)."""


class SiteIdentities(Protocol):
    """Whose account a provider's identity is. All may raise DirectoryUnavailable: then nothing is known."""

    independent: bool
    """Whether the site can tell about a person without her provider: it has a directory that is asked."""

    async def site_identity(self, came_by: Identity, proof: Proof | None = None) -> Identity | None:
        """The site identity, as fresh as it can be had; None: there is none (not linked, unlinked).

        ``proof``: what she proved before she went to her provider, in a sign-in that shall link the two. Raises
        AccountGone, LinkRefused, and Unlinked where that is what she proved.
        """
        ...

    async def vouched(self, handler: web.RequestHandler, came_by: Identity, /) -> Identity | None:
        """In a sign-in of somebody without a link: the site identity that her issuer is believed to name, linked now.

        None: it names nobody, or is not believed that. Raises LinkRefused, AccountRefused, and HTTPError where that
        account must not be used here.
        """
        ...

    async def user_of(self, issuer: str, subject: str, /) -> str:
        """The hub user whose account this provider's identity opens, by whatever way she came last; empty: nobody.

        Raises LedgerBusy.
        """
        ...

    def rules(self, site: Identity) -> Any | None:
        """The authenticator whose lists say what this site identity may do; None: the provider's own."""
        ...

    async def fresh_identity(self, identity: Identity, *, alone: bool = False) -> Identity | None:
        """A site identity as its source has it now, for starts; None: gone. ``alone``: see the LDAP way."""
        ...

    async def unlinked(self, handler: web.RequestHandler, done: Unlinked, /) -> None:
        """Answer the call-back of somebody who took a link away."""
        ...

    async def not_linked(self, handler: web.RequestHandler, who: NotLinked, next_url: str, /) -> None:
        """Answer the call-back of somebody without an account: a link page, or a refusal."""
        ...


class ProvidersOwn:
    """A site without a directory: the provider's identity is the site's.

    Her account is then what an administrator entered, or what an issuer that is configured as authoritative says of
    her POSIX account (``posix_claims``).
    """

    independent = False

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    async def site_identity(self, came_by: Identity, proof: Proof | None = None) -> Identity | None:  # noqa: ARG002
        """The same."""
        return came_by

    async def vouched(self, _handler: web.RequestHandler, _came_by: Identity, /) -> Identity | None:
        """There is nothing to link."""
        return None

    async def user_of(self, _issuer: str, _subject: str, /) -> str:
        """There are no links: whoever came by it is known by her sign-in."""
        return ""

    def rules(self, _site: Identity) -> Any | None:
        """Nobody else's."""
        return None

    async def fresh_identity(self, identity: Identity, *, alone: bool = False) -> Identity | None:  # noqa: ARG002
        """As the last refresh had it: a provider tells about a person only with her own tokens.

        A start refreshes first (``refresh_pre_spawn``). ``alone`` cannot be answered by a provider.
        """
        if identity.issuer != self.issuer:
            raise ProviderUnavailable(
                "You signed in with another identity provider. Sign in again.",
                reason="other_provider",
                log_message=f"{identity.issuer} is not asked any more; this hub asks {self.issuer}",
            )
        return identity

    async def unlinked(self, _handler: web.RequestHandler, _done: Unlinked, /) -> None:
        """There are no links here, so this is never reached; refused all the same."""
        raise web.HTTPError(403, NOT_LINKED)

    async def not_linked(self, _handler: web.RequestHandler, _who: NotLinked, _next_url: str, /) -> None:
        """Everybody has an identity here, so this is never reached; refused all the same."""
        raise web.HTTPError(403, NOT_LINKED)
