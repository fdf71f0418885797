"""Whoever is renamed in the directory stays the hub user she is, and nobody else becomes that user by getting the name.

The key of a person is her lasting id in the directory. The ledger knows which hub user has her account.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.utils import maybe_future
from tornado import web

from daas_hub.core.models import Identity
from daas_hub.spawners.people import identity_in


async def as_before(authenticator: Any, model: dict[str, Any], user_name: str) -> dict[str, Any]:
    """The model of a sign-in under the name that her hub user has; judged once more by that name.

    Raises 403 where that name is blocked or not allowed. Administrators named in ``admin_users`` are hub users.
    """
    if user_name in {"", model["name"]}:
        return model
    authenticator.log.info("%s signs in as the hub user that she is already, %s", model["name"], user_name)
    # Where a hub has several ways to sign in, the lists of hers count.
    lists = authenticator.lists_of(model) if hasattr(authenticator, "lists_of") else authenticator
    by_group = set(model.get("groups") or ()) & getattr(lists, "admin_groups", set())
    model = {**model, "name": user_name, "admin": user_name in lists.admin_users or bool(by_group)}
    blocked = not await maybe_future(authenticator.check_blocked_users(user_name, model))
    if blocked or not (authenticator.allow_all or await maybe_future(authenticator.check_allowed(user_name, model))):
        raise web.HTTPError(403, f"You are the user {user_name} here, who may not use this service.")
    return model


async def require_same(authenticator: Any, handler: Any, name: str, identity: Identity) -> None:
    """Raise 409 where the hub user of this name is another person of the same directory, who has tokens and servers."""
    find = getattr(handler, "find_user", None)
    user = find(name) if find is not None else None
    if user is None:
        return
    before = identity_in(await user.get_auth_state())
    if before is None or before.issuer != identity.issuer or before.subject == identity.subject:
        return
    authenticator.log.warning(
        "%s of %s is not let in as the hub user of this name, who is %s",
        identity.subject,
        identity.issuer,
        before.subject,
    )
    raise web.HTTPError(
        409,
        f"The name {name} belongs to somebody else here, who had it in the site's directory before. An administrator "
        f"of this hub can rename or delete the user {name}; then sign in again.",
    )
