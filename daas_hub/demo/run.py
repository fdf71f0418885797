"""``daas-hub demo``: a whole site on this machine, from the first process to the last.

The order is the one in which things depend on each other: what an earlier demo left is ended, the directory listens,
the ledger is filled, every account is tried, the hub starts, one server starts, and only then the URL is printed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from daas_hub.core.errors import ConfigError, DaasError
from daas_hub.db.ledger import Ledger

from . import people, show
from .clean import remove_cgroups, stop_earlier_hub, sweep, walk_ledger
from .client import DemoClient
from .directory import DirectoryListener
from .folders import Folders
from .hub import HubProcess, Settings
from .life import seed
from .probe import probe_accounts
from .proxy_command import proxy_command
from .tree import Tree

READY_WITHIN_S = 120.0


@dataclass(frozen=True)
class Options:
    """What ``daas-hub demo`` was called with."""

    dir: Path | None = None
    keep: bool = False
    port: int = 0
    idle_after_s: int = 120
    open_browser: bool = True
    ready_file: Path | None = None
    python_proxy: bool = False


def free_ports(wanted: int) -> list[int]:
    """Three ports of the loopback interface: the public one (``wanted`` unless 0), the hub's, the proxy's."""
    sockets = [socket.socket() for _ in range(3)]
    try:
        for number, each in enumerate(sockets):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                each.bind(("127.0.0.1", wanted if number == 0 else 0))
            except OSError as error:
                raise ConfigError(
                    f"--port {wanted} cannot be used: {error.strerror}. Name another, or none."
                ) from error
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def the_site(folders: Folders) -> people.Site:
    """The people of this demo: chosen once, remembered for the next start with the same folder."""
    saved = folders.load("site")
    own = os.geteuid()
    if saved and folders.load("uid") == own:
        return people.Site.from_json(saved)
    site = people.cast(folders.homes, shared_uid=None if own == 0 else (own, os.getegid()))
    folders.save("site", site.to_json())
    folders.save("uid", own)
    return site


def fill_ledger(folders: Folders, site: people.Site, idle_after_s: int) -> None:
    """Open the ledger, and fill it the first time."""
    ledger = Ledger.open(folders.ledger_url)
    try:
        if folders.load("seeded") is None:
            count = seed(ledger, site, people.subjects(site), datetime.now(UTC), idle_after_s=idle_after_s)
            folders.save("seeded", count)
    finally:
        ledger.close()


class Demo:
    """One run of the demo. ``run`` returns the exit status."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options = options
        self.say: Callable[[str], None] = console.print
        self.console = console
        self.folders = Folders(options.dir, keep=options.keep)
        self.stop_asked = asyncio.Event()
        self.hub: HubProcess | None = None
        self.directory: DirectoryListener | None = None

    async def run(self) -> int:
        """Start, wait for Ctrl-C or the hub's end, stop. Returns 0, or 1 where something went wrong."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop_asked.set)
        status = 0
        try:
            await self._until_stop(self._up)
            await self._until_stop(self._watch_hub)
        except DaasError as error:
            self.console.print(error.message, style="bold", highlight=False)
            status = 1
        finally:
            left = await self._down()
        for text in left:
            self.say(f"Not stopped: {text}.")
        return 1 if left else status

    async def _until_stop(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Let ``work`` run until it ends or somebody wants to stop."""
        if self.stop_asked.is_set():
            return
        task = asyncio.ensure_future(work())
        stop = asyncio.ensure_future(self.stop_asked.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _up(self) -> None:
        folders = self.folders
        await stop_earlier_hub(folders, self.say)
        await sweep(folders.hub_id)
        await walk_ledger(folders)
        site = the_site(folders)
        self.directory = DirectoryListener(Tree(people.BASE, people.entries(site)))
        await self.directory.start()
        self.say("Filling the ledger with 30 days of usage, and trying every account …")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
        filled = asyncio.to_thread(fill_ledger, folders, site, self.options.idle_after_s)
        probed = probe_accounts(site.people, site.gids, path)
        for outcome in await asyncio.gather(filled, probed, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        port, hub_port, proxy_api_port = free_ports(self.options.port)
        settings = Settings(
            folders=folders,
            site=site,
            directory_url=self.directory.url,
            port=port,
            hub_port=hub_port,
            proxy_api_port=proxy_api_port,
            idle_after_s=self.options.idle_after_s,
            proxy=proxy_command(python=self.options.python_proxy),
            shared_uid=os.geteuid() != 0,
        )
        self.say("Starting the hub …")
        self.hub = HubProcess(settings)
        self.hub.start()
        await self._answers(settings, self.hub)
        self._announce(settings)

    async def _answers(self, settings: Settings, hub: HubProcess) -> None:
        """Hub, proxy and console answer, and the server of the person over quota runs."""
        client = DemoClient(settings.url, hub.token)
        async with asyncio.timeout(READY_WITHIN_S):
            while not await asyncio.to_thread(client.up):
                hub.check()
                await asyncio.sleep(0.2)
            for person in settings.site.people:
                if person.over_quota:
                    await asyncio.to_thread(client.sign_in, person.name, person.password)
                    await asyncio.to_thread(client.start_server, person.name, "analysis", {"profile": "data-science"})
                    while not await asyncio.to_thread(client.server_ready, person.name, "analysis"):
                        hub.check()
                        await asyncio.sleep(0.2)

    def _announce(self, settings: Settings) -> None:
        show.ready(settings, self.console)
        if self.options.ready_file:
            show.ready_file(self.options.ready_file, settings)
        if self.options.open_browser and sys.stdout.isatty() and os.environ.get("DISPLAY"):
            webbrowser.open(settings.url)

    async def _watch_hub(self) -> None:
        while self.hub is not None:
            self.hub.check()
            await asyncio.sleep(0.5)

    async def _down(self) -> list[str]:
        """Stop everything, in the order of who would miss whom. Returns what could not be stopped."""
        self.say("Stopping every server …")
        left: list[str] = []
        try:
            if self.hub is not None:
                await self.hub.stop()
            await sweep(self.folders.hub_id)
            left = await walk_ledger(self.folders)
            await asyncio.to_thread(remove_cgroups, self.folders.hub_id)
        finally:
            if self.directory is not None:
                await self.directory.stop()
            if self.options.ready_file:
                self.options.ready_file.unlink(missing_ok=True)
            self.folders.keep = self.folders.keep or bool(left)
            self.folders.close()
        return left


def main(options: Options) -> int:
    """Run the demo. Returns its exit status."""
    console = Console(soft_wrap=True) if sys.stdout.isatty() else Console(width=120, soft_wrap=True)
    if not sys.platform.startswith("linux"):
        console.print("The demo starts servers as POSIX accounts with cgroups and pidfds: it runs on Linux only.")
        return 1
    try:
        return asyncio.run(_run(options, console))
    except DaasError as error:
        console.print(error.message, style="bold", highlight=False)
        return 1


async def _run(options: Options, console: Console) -> int:
    return await Demo(options, console).run()
