"""Work in homes, through the helper ``clients/home_tasks.py``; what is wrong about a home becomes a StartFailed."""

from __future__ import annotations

import os
from logging import Logger, LoggerAdapter
from pathlib import Path

from daas_hub.core.errors import HomeRefused, StartFailed
from daas_hub.core.models import Account, Json

from . import local_launch, local_spawn
from .local_folder import LaunchFolder
from .local_launch import Hub, Ids
from .local_settings import LocalSettings
from .local_watch import in_thread

AnyLogger = Logger | LoggerAdapter[Logger]


class Homes:
    """Homes as one backend's settings want them."""

    def __init__(self, settings: LocalSettings, log: AnyLogger) -> None:
        self._settings = settings
        self._log = log

    async def make(self, home: str, ids: Ids) -> None:
        """Make a missing home; raises HomeRefused where it is, or would be, somebody else's."""
        roots = list(self._settings.home_roots)
        await self._do({"do": "make", "home": home, "home_roots": roots, "uid": ids.uid, "gid": ids.gid})

    async def carry_out(self, account: Account, folder: LaunchFolder, identity: Json) -> list[str]:
        """Give Jupyter its folders outside the home, with the settings of the home; warnings for the handle."""
        task: Json = {"do": "carry_out", "own": str(folder.own), "home": account.home}
        task["terminal"] = local_launch.terminal(account.shell)
        report = await self._do(task | identity | {"full_home_bytes": self._settings.full_home_bytes})
        if report["skipped"]:
            self._log.info("Settings left out of launch %s: %s", folder.launch_id, "; ".join(report["skipped"]))
        full = report["home_nearly_full"]
        return ["home_nearly_full: files are deleted at once, not moved to the trash"] if full else []

    async def carry_back(self, folder: LaunchFolder, hub: Hub) -> None:
        """Settings go home, as the user and while there is room; a home that will not have them stops nothing."""
        account = await in_thread(folder.saved, "account")
        if account is None:
            return
        ids = Ids(account["uid"], account["gid"], tuple(account["groups"]))
        identity = local_launch.identity_request(ids, hub, no_new_privs=True)
        task = {"do": "carry_back", "own": str(folder.own), "home": account["home"]}
        try:
            skipped = (await self._do(task | identity))["skipped"]
        except StartFailed as error:
            skipped = [error.message]
        if skipped:
            self._log.warning("Settings of launch %s not saved: %s", folder.launch_id, "; ".join(skipped))

    async def _do(self, task: Json) -> Json:
        within_s = self._settings.home_timeout_s
        try:
            report = await local_spawn.home_task(task, Path(os.devnull), within_s=within_s)
        except TimeoutError as error:
            raise StartFailed(
                f"The home {task['home']} did not answer within {within_s:g} s. Try again later.",
                permanent=False,
                reason="home_timeout",
            ) from error
        if report.get("killed"):
            text = f"The work in the home {task['home']} was cut off. Try again."
            raise StartFailed(text, permanent=False, reason="home_cut_off")
        if "error" not in report:
            return report
        if report.get("known"):
            raise HomeRefused(report["error"])
        text = f"The home {task['home']} cannot be used: {report['error']}"
        raise StartFailed(text, permanent=True, reason="home")
