"""From verified claims to an identity: which groups, which name, which mail, and what is believed at all. Pure.

The key is (issuer, subject). A login name is taken from the claims only where the site says that this issuer's names
are everybody's own for ever; else it is made from the key, so that nobody becomes another one by changing a label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import TokenRefused
from .id_token import check_subject
from .models import Identity
from .naming import login_name

MAX_GROUPS = 5000
MAX_GROUP_CHARS = 255
MAX_LABEL_CHARS = 200
POSIX = ("uid_number", "gid_number", "home", "shell")
ENTRY = "entry"
"""The attribute of an identity with what an authoritative issuer says of her entry in the directory."""
_MAIL = re.compile(r"[^\s@<>\"\\,;:()\[\]]{1,64}@([a-z0-9-]+(?:\.[a-z0-9-]+)+)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class ClaimRules:
    """What the site believes of one issuer."""

    issuer: str
    subject_claim: str = "sub"
    name_claim: str = ""
    """Empty: the login name is made from issuer and subject."""
    name_prefix: str = "u"
    display_claim: str = "name"
    groups_path: tuple[str, ...] = ("groups",)
    """Names of nested objects, outermost first. Empty: no groups are read."""
    groups_required: bool = True
    """A missing claim refuses the sign-in, instead of taking all her groups away."""
    group_prefix: str = ""
    """Put before each group, so that no provider can name a group of the directory or of another provider."""
    mail_domains: frozenset[str] = frozenset()
    """Domains that this issuer is trusted for; of all others no mail is taken."""
    mail_verified_claim: str = "email_verified"
    posix: Mapping[str, str] = field(default_factory=dict)
    """uid_number, gid_number, home, shell → claim; empty: the issuer says nothing about accounts."""
    link_claim: str = ""
    """Says which entry of the site's directory somebody is; empty: the issuer is not believed that."""


class GroupsElsewhere(Exception):
    """Raised where the claims say that there are too many groups for a token (Entra ID's "overage")."""


def identity_of(claims: Mapping[str, Any], rules: ClaimRules, groups: Sequence[str] | None = None) -> Identity:
    """The identity that verified claims assert. ``groups``: fetched elsewhere, instead of the claim's.

    Raises TokenRefused for what cannot be clear, GroupsElsewhere.
    """
    subject = claims.get(rules.subject_claim)
    if rules.subject_claim != "sub" and isinstance(subject, int) and not isinstance(subject, bool):
        subject = str(subject)  # GitHub's lasting id is a number
    subject = check_subject(subject)
    names = groups_of(claims, rules) if groups is None else _names(list(groups))
    return Identity(
        issuer=rules.issuer,
        subject=subject,
        name=name_of(claims, rules, subject),
        display_name=_label(claims.get(rules.display_claim)) or _label(claims.get("preferred_username")),
        mail=mail_of(claims, rules),
        groups=tuple(sorted({rules.group_prefix + name for name in names})),
        attributes=_attributes(claims, rules),
    )


def _attributes(claims: Mapping[str, Any], rules: ClaimRules) -> dict[str, Any]:
    found = {
        name: _number(claims[claim]) if name in ("uid_number", "gid_number") else claims[claim]
        for name, claim in rules.posix.items()
        if claims.get(claim) is not None
    }
    entry = entry_of(claims.get(rules.link_claim)) if rules.link_claim else ""
    return {**found, ENTRY: entry} if entry else found


def entry_of(value: Any) -> str:
    """Which entry of the directory an authoritative issuer names; empty: none, or not clearly one.

    Text, or a list of one: some providers give every attribute as a list.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    clear = isinstance(value, str) and 0 < len(value) <= MAX_LABEL_CHARS and value.isprintable()
    return value if clear and value == value.strip() else ""


def _number(value: Any) -> Any:
    """Providers that keep attributes as text give numbers as text; what is none is refused where accounts are made."""
    text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10
    return int(value) if text else value


def name_of(claims: Mapping[str, Any], rules: ClaimRules, subject: str) -> str:
    """The login name: a claim of an issuer whose names are lasting, else derived from the key."""
    if not rules.name_claim:
        return derived_name(rules.name_prefix, rules.issuer, subject)
    given = claims.get(rules.name_claim)
    name = login_name(given) if isinstance(given, str) else None
    if name is None:
        raise TokenRefused(
            f"Your identity provider gives no usable login name in {rules.name_claim}. Its administrator can set it.",
            reason="name",
            log_message=f"{rules.name_claim} is {str(given)[:80]!r}: no login name",
        )
    return name


def derived_name(prefix: str, issuer: str, subject: str) -> str:
    """A login name that differs whenever issuer or subject differ, and says nothing about the person."""
    whole = f"{len(issuer)}:{issuer}{len(subject)}:{subject}"
    return f"{prefix}-{hashlib.sha256(whole.encode()).hexdigest()[:20]}"


def groups_of(claims: Mapping[str, Any], rules: ClaimRules) -> list[str]:
    """The groups of a claim: a list, or one name as text. Raises GroupsElsewhere, TokenRefused."""
    if not rules.groups_path:
        return []
    value: Any = claims
    for name in rules.groups_path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        elsewhere = claims.get("_claim_names")
        overage = isinstance(elsewhere, Mapping) and rules.groups_path[0] in elsewhere
        if overage or claims.get("hasgroups") in (True, "true"):
            raise GroupsElsewhere
        if rules.groups_required:
            raise no_groups(f"the claim {'.'.join(rules.groups_path)} is missing")
        return []
    return _names([value] if isinstance(value, str) else value)


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_GROUPS:
        raise no_groups(f"not a list of at most {MAX_GROUPS} names")
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_GROUP_CHARS or not name.isprintable():
            raise no_groups(f"{str(name)[:80]!r} is no group's name")
    return value


def no_groups(why: str) -> TokenRefused:
    """The refusal where it is not known which groups somebody is in."""
    return TokenRefused(
        "Your identity provider does not say clearly which groups you are in, so nobody can tell what is open to you. "
        "Whoever administers this service can correct it.",
        reason="groups",
        log_message=f"groups are not clear: {why}",
    )


def mail_of(claims: Mapping[str, Any], rules: ClaimRules) -> str:
    """Her mail address where the provider has verified it *and* is trusted for its domain; else empty.

    Only ``true`` counts, not a text; a domain is its whole name.
    """
    mail = claims.get("email")
    if not isinstance(mail, str) or claims.get(rules.mail_verified_claim) is not True:
        return ""
    found = _MAIL.fullmatch(mail)
    if found is None or found[1].lower() not in rules.mail_domains:
        return ""
    return mail


def same_person(id_token: Mapping[str, Any], userinfo: Mapping[str, Any]) -> dict[str, Any]:
    """Both together, where userinfo is about the same subject (OpenID Connect Core §5.3.2). Raises TokenRefused.

    What the signed token says about the sign-in itself is not overwritten.
    """
    if not isinstance(userinfo.get("sub"), str) or userinfo["sub"] != id_token["sub"]:
        raise TokenRefused("", reason="userinfo", log_message="userinfo is about another person than the id_token")
    own = {"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "auth_time", "acr", "amr", "sid"}
    return {**id_token, **{name: value for name, value in userinfo.items() if name not in own}}


def _label(value: Any) -> str:
    """Text for people's eyes: no control characters, not endless."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value if c.isprintable())[:MAX_LABEL_CHARS].strip()
