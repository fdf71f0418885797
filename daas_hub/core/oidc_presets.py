"""What is different about the providers that sites have: defaults, each of which the operator's setting beats. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "": {"scope": ["openid", "profile", "email"]},
    # Groups come by a "Group Membership" mapper of the client; for somebody in no group it leaves the claim out.
    "keycloak": {
        "login_service": "Keycloak",
        "scope": ["openid", "profile", "email"],
        "groups_claim": ["groups"],
        "groups_required": False,
    },
    # Somebody without groups has no claim; more than 200 come as a hint only ("overage"). There is no email_verified:
    # the optional claim xms_edov says whether the owner of the domain was verified.
    "entra": {
        "login_service": "Microsoft",
        "scope": ["openid", "profile", "email", "offline_access"],
        "groups_claim": ["groups"],
        "groups_required": False,
        "mail_verified_claim": "xms_edov",
    },
    "gitlab": {
        "login_service": "GitLab",
        "issuer": "https://gitlab.com",
        "scope": ["openid", "profile", "email"],
        "groups_claim": ["groups_direct"],
    },
    # OAuth 2 without OpenID Connect: no discovery, no id_token; who somebody is comes by the access token alone.
    "github": {
        "login_service": "GitHub",
        "issuer": "https://github.com",
        "scope": ["read:user"],
        "groups_claim": [],
        "subject_claim": "id",
        "endpoints": {
            "authorization_endpoint": "https://github.com/login/oauth/authorize",
            "token_endpoint": "https://github.com/login/oauth/access_token",
            "userinfo_endpoint": "https://api.github.com/user",
        },
    },
}


def default_of(preset: str, trait: str, otherwise: Any) -> Any:
    """A preset's value of a trait, or what every provider has."""
    value = PRESETS.get(preset, {}).get(trait, otherwise)
    # A list or dict of its own for whoever asks: traits change theirs in place.
    return type(value)(value) if isinstance(value, list | dict) else value
