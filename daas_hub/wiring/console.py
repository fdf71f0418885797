"""The console joined to the hub: its service and scopes, its links and notices on the hub's own pages.

`configure(c)` calls ``apply``. The rest happens when the hub builds its template environment (decision 0002), so it
does not matter whether the operator sets ``template_paths`` or services before or after ``configure(c)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, Environment, FileSystemLoader
from jinja2.ext import Extension
from jupyterhub.app import JupyterHub
from traitlets.config.loader import LazyConfigValue

from daas_hub import pages
from daas_hub.core.errors import ConfigError, DaasError
from daas_hub.core.launch import start_failed
from daas_hub.core.models import ACTIVE, Event, LaunchState, Life
from daas_hub.db.ledger import LaunchRow, Ledger
from daas_hub.db.notices import Notice
from daas_hub.services.console import registration
from daas_hub.services.console.access import LINKS
from daas_hub.spawners.runtime import DaasHub, utcnow

from .sweep import banner

EXTENSION = "daas_hub.wiring.console.ConsoleOnTheHub"
FAILED_SHOWN_FOR = timedelta(days=7)
LAUNCHES_LOOKED_AT = 20
NOTICES_WITHIN_S = 2.0
"""How long the home page waits for its notices; the page comes without them then, and says so."""


def apply(c: Any, append: Callable[..., None]) -> None:
    """Add the service, its scopes and the extension to the hub's config; what is there already stays."""
    hub = c.JupyterHub
    append(there(hub, "services", []), [registration.console_service()], key="name")
    append(there(hub, "load_roles", []), registration.console_roles(), key="name")
    scopes = there(hub, "custom_scopes", {})
    for name, definition in registration.plain_custom_scopes().items():
        scopes.setdefault(name, definition)
    there(hub, "extra_user_scopes", set()).update(registration.USER_SCOPES)
    extensions = hub.setdefault("jinja_environment_options", {}).setdefault("extensions", [])
    append(extensions, [EXTENSION])


def there(section: Any, trait: str, empty: Any) -> Any:
    """The container that config holds for a trait, made if none is; what was added by ``.append`` alone is kept."""
    if trait not in section:
        section[trait] = empty
    elif isinstance(section[trait], LazyConfigValue):
        section[trait] = section[trait].get_value(empty)
    return section[trait]


@dataclass(frozen=True)
class FailedStart:
    """The last start of a server, which failed."""

    launch: LaunchRow
    steps: tuple[tuple[int, Event], ...]
    """Seconds since the first step, and the step."""
    has_log: bool
    """Something of it was kept: a server that never ran, for example without its image, has none."""


@dataclass(frozen=True)
class Happened:
    """What the home page shows."""

    notices: tuple[Notice, ...] = ()
    stopping: tuple[LaunchRow, ...] = ()
    """Launches whose end is not certain yet: they count, and their servers cannot be started again."""
    running: tuple[LaunchRow, ...] = ()
    doubtful: tuple[LaunchRow, ...] = ()
    """Those of which it cannot be told whether they run."""
    failed: tuple[FailedStart, ...] = ()
    """Servers whose last start failed, newest first; gone with the next start, or after a week."""
    starting: tuple[LaunchRow, ...] = ()
    """Starts that go on, also those that no hub follows since it was restarted."""
    problem: str = ""
    """Why all this is missing, if it is."""


UNREADABLE = Happened(problem="What happened to your servers cannot be read just now.")


class HubPages:
    """What our templates on the hub's side see as ``daas``. Everything but ``happened`` is at hand: no I/O."""

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def console_url(self) -> str:
        """Where the console is, with the host where services have one of their own."""
        service = self._app.tornado_settings.get("services", {}).get(registration.NAME)
        return str(service.href) if service is not None else self._app.base_url + registration.PREFIX.lstrip("/")

    links = LINKS[1:]
    """Of the console's pages for administrators: path, text, scope."""

    @property
    def shared_uid(self) -> bool:
        """True where the operator lets everybody run under one uid."""
        section = self._app.config.get("LocalBackend", {})
        return bool(section.get("allow_shared_uid", False))

    @staticmethod
    def banner(user: Any) -> str:
        """What she must know about her directory just now; empty: nothing."""
        return banner(user)

    async def happened(self, user: Any) -> Happened:
        """Why her servers were stopped, until she dismisses it, and which did not start. The ledger is asked in a
        thread, for 2 s at most."""
        site = DaasHub.instance(config=self._app.config)
        call = asyncio.ensure_future(site.run(_happened, site, user.name))
        # Not wait_for: it would cancel, and `run` then waits for the ledger however long it takes.
        done, _ = await asyncio.wait({call}, timeout=NOTICES_WITHIN_S)
        call.add_done_callback(lambda over: over.cancelled() or over.exception())
        try:
            return call.result() if done else UNREADABLE
        except DaasError:
            return UNREADABLE


def _happened(site: DaasHub, user_name: str) -> Happened:
    ledger: Ledger = site.ledger
    account = ledger.accounts.by_user_name(user_name)
    if account is None:
        return Happened()
    active = ledger.launches(states=list(ACTIVE), account_id=account.id)
    stopping = [row for row in active if row.state is LaunchState.STOPPING]
    running = [row for row in active if row.state is LaunchState.RUNNING]
    doubtful = tuple(row for row in running if row.observed is Life.UNKNOWN)
    failed = failed_starts(ledger, account.id, utcnow() - FAILED_SHOWN_FOR)
    return Happened(
        tuple(ledger.notices.list(account.id)),
        tuple(stopping),
        tuple(running),
        doubtful,
        failed,
        starting=tuple(row for row in active if row.state not in (LaunchState.STOPPING, LaunchState.RUNNING)),
    )


def failed_starts(ledger: Ledger, account_id: str, since: datetime) -> tuple[FailedStart, ...]:
    """The servers whose newest launch is a start that failed."""
    newest: dict[str, LaunchRow] = {}
    for row in ledger.launches(account_id=account_id, limit=LAUNCHES_LOOKED_AT):
        newest.setdefault(row.server_name, row)
    return tuple(
        FailedStart(row, _steps(ledger, row.id), ledger.kept(row.id).log is not None)
        for row in newest.values()
        if start_failed(row.state, row.started_at, row.reason, row.target_by) and row.created_at >= since
    )


def _steps(ledger: Ledger, launch_id: str) -> tuple[tuple[int, Event], ...]:
    events = [event for _, event in ledger.events(launch_id)]
    return tuple((max(0, round((event.at - events[0].at).total_seconds())), event) for event in events)


class ConsoleOnTheHub(Extension):
    """Puts our pages behind the operator's and before the hub's, and gives administrators their scopes."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["daas"] = None
        if not JupyterHub.initialized():
            return
        app = JupyterHub.instance()
        add_folders(environment.loader)
        environment.globals["daas"] = HubPages(app)
        registration.grant_to_administrators(app)


def add_folders(loader: BaseLoader | None) -> None:
    """Insert our folders before the hub's own, which is the last one; raises ConfigError where none is found."""
    for part in loader.loaders if isinstance(loader, ChoiceLoader) else ():
        if isinstance(part, FileSystemLoader):
            ours = [path for path in pages.TEMPLATE_PATHS if path not in part.searchpath]
            part.searchpath[-1:-1] = ours
            return
    raise ConfigError("This JupyterHub looks for its templates in another way; daas_hub supports 6.1.1 up to 7.")
