"""Whether an identity of a provider may become a way into an account, decided from what is known and nothing else.

Nothing here looks at names or mail addresses: an equal one proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .models import Identity

DIRECTORY = "ldap:"
"""Issuers of directories begin so (``Identity.issuer``)."""
MAX_LINKS = 10
"""Identities of one account. More than anybody has; a bound for what one stolen password can add."""
MAX_OPEN_REQUESTS = 1000
"""Requests for access that wait for an administrator: anybody who has an account at a provider can make one."""
MAX_TEXT_CHARS = 1000
MAX_LABEL_CHARS = 200

INVITE = "invite"
"""``Proof.how`` of who brought an invitation; ``Proof.site`` is then this word and the hash of the code."""
UNLINK = "unlink"
"""``Proof.how`` of who proves both sides to take a link away."""

AUTHORITATIVE = "authoritative issuer"
"""How a link is proved where the site believes an issuer which entry of the directory somebody is."""
NO_CLAIMS = frozenset(
    {"email", "preferred_username", "upn", "unique_name", "name", "nickname", "given_name", "family_name", "groups"}
) | frozenset({"mail", "emails", "username", "user_name", "login", "uid", "eppn", "eduperson_principal_name"})
"""Claims that many providers let people choose, or give to others later, in small letters: equal ones prove nothing."""
NO_ATTRIBUTES = frozenset(
    {"mail", "cn", "sn", "givenname", "displayname", "gecos", "uid", "samaccountname", "userprincipalname", "memberof"}
) | frozenset(
    {"proxyaddresses", "maillocaladdress", "description", "objectclass", "userpassword", "gidnumber", "o", "ou"}
    | {"telephonenumber", "mobile", "homephone", "title", "departmentnumber", "employeetype", "loginshell"}
)
"""Attributes with names, addresses, and what several people share; in small letters."""

Key = tuple[str, str]
"""(issuer, subject)."""


@dataclass(frozen=True)
class LinkRule:
    """What one issuer is believed: her ``claim`` has the value of ``attribute`` in the directory of this way."""

    claim: str
    directory: str
    attribute: str


class Verdict(StrEnum):
    """What becomes of a link that somebody asks for."""

    LINK = "link"
    ALREADY = "already"
    TAKEN = "taken"
    """The identity is another account's way in. Only an administrator, or whoever has both, takes it from there."""
    DIRECTORY = "directory"
    """A directory's entries are accounts, not ways into others."""
    FULL = "full"
    ENDED = "ended"
    """It was unlinked from this account before: no claim brings that back, only a proof of both sides does."""


@dataclass(frozen=True)
class Proof:
    """What a person has proved before she comes back from her provider: travels in a signed state, never in a form."""

    came_by: Key
    site: Key
    how: str

    @classmethod
    def read(cls, stored: Mapping[str, object] | None) -> Proof | None:
        """From JSON; None for what is none."""
        try:
            came_by, site, how = (stored or {})["came_by"], (stored or {})["site"], (stored or {})["how"]
        except KeyError:
            return None
        pair, other = _key(came_by), _key(site)
        return cls(pair, other, how) if pair and other and isinstance(how, str) else None

    def of(self, came_by: Identity) -> bool:
        """Whether whoever came back is who was there when the account was proved."""
        return self.came_by == (came_by.issuer, came_by.subject)


def _key(value: object) -> Key | None:
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, str) and part for part in value):
        return str(value[0]), str(value[1])
    return None


def judge(identity: Key, account_id: str, holder: str | None, links: Sequence[Key], *, ended: bool = False) -> Verdict:
    """``holder``: the account that the identity opens now; ``links``: all identities of the account that wants it.

    ``ended``: only an issuer says that they belong together, and they were unlinked before.
    """
    if is_directory(identity[0]):
        return Verdict.DIRECTORY
    if holder is not None:
        return Verdict.ALREADY if holder == account_id else Verdict.TAKEN
    if ended:
        return Verdict.ENDED
    return Verdict.LINK if len(links) < MAX_LINKS else Verdict.FULL


def is_directory(issuer: str) -> bool:
    """Whether identities of this issuer are entries of a directory."""
    return issuer.startswith(DIRECTORY)


def site_key(links: Sequence[Key], issuers: Sequence[str]) -> Key | None:
    """Which of an account's identities says who she is: its entry in the first directory that is asked here."""
    for issuer in issuers:
        for key in links:
            if key[0] == issuer:
                return key
    return None


def removable(identity: Key) -> bool:
    """Whether a link can be taken away: never the directory entry, which is the account itself."""
    return not is_directory(identity[0])


def label(identity: Identity) -> str:
    """How a person and an administrator recognise an identity. Her provider's words: shown, never compared."""
    parts = [identity.display_name or identity.name, f"<{identity.mail}>" if identity.mail else ""]
    return " ".join(part for part in parts if part)[:MAX_LABEL_CHARS]
