"""A mail when a server is ready that its owner waited for: where she wished it, once, and never at a start's cost.

It goes to the address that her directory or identity provider gave, and to no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daas_hub.core.errors import InvalidOptions, LedgerBusy
from daas_hub.core.letters import Letter, address, server_ready
from daas_hub.core.turns import MAIL_FIELD, waits_since
from daas_hub.core.units import format_duration
from daas_hub.db.ledger import LaunchRow

from . import options, people
from .runtime import utcnow

if TYPE_CHECKING:
    from .begun import BegunServer


def recipient(spawner: BegunServer) -> str:
    """The address of the person whose server it is; empty where nobody gave one."""
    identity = people.identity_in(spawner.auth_state)
    return address(identity.mail) if identity is not None else ""


def problem(spawner: BegunServer) -> str:
    """Why she can have no mail, and who can change that; empty: she can."""
    letters = getattr(spawner.authenticator, "letters", None)
    if letters is None or not letters.sends:
        return (
            "This hub sends no mail. Whoever administers it can name a mail server (DaasAuthenticator.mail_host, with "
            'authenticator_class "daas").'
        )
    if not recipient(spawner):
        return (
            "No mail address of yours is known here. Whoever administers your directory or identity provider can give "
            "one; of a provider only addresses of trusted domains are taken (mail_domains)."
        )
    return ""


def split(user_options: Any) -> tuple[Any, Any]:
    """The options without the wish, and the wish as it was given; None where nothing is said of it."""
    if not isinstance(user_options, Mapping) or MAIL_FIELD not in user_options:
        return user_options, None
    return {name: value for name, value in user_options.items() if name != MAIL_FIELD}, user_options[MAIL_FIELD]


def judged(spawner: BegunServer, wish: object) -> bool | None:
    """The wish, where it can be had. Raises InvalidOptions with who can change it."""
    if wish is not None and not isinstance(wish, bool):
        message = f"{MAIL_FIELD}: true or false is needed, not {options.shown(wish)}."
        raise InvalidOptions(message, field=MAIL_FIELD)
    if wish and (why := problem(spawner)):
        raise InvalidOptions(f"{MAIL_FIELD}: {why}", field=MAIL_FIELD)
    return wish


async def tell(spawner: BegunServer, row: LaunchRow) -> None:
    """Send it where it was wished and she waited long enough; never raises."""
    waited_s = (utcnow() - waits_since(row.request, row.created_at)).total_seconds()
    if waited_s < spawner.mail_after_s or problem(spawner):
        return
    try:
        if not await spawner.site.run(spawner.site.ledger.take_mail, row.id):
            return
    except LedgerBusy as error:
        spawner.log.warning("No mail says that launch %s is ready: %s", row.id, error.log_message)
        return
    url = spawner.public_url if spawner.public_url.startswith("http") else ""
    profile = str(row.request.get("profile_display_name") or row.profile)
    letter = server_ready(recipient(spawner), row.server_name, profile, format_duration(waited_s), url)

    async def write() -> Letter | None:
        return letter

    spawner.authenticator.letters.post(write)
