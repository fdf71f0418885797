"""``daas-hub adopt``: the ledger from the cluster, the hub's database from the ledger; what runs is not touched.

Look, decide (``core/adopt.py``), say, then write: disks, ledger, hub. Each part may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyterhub.app import JupyterHub
from jupyterhub.crypto import EncryptionUnavailable, InvalidToken, decrypt, encrypt
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

from daas_hub.core.adopt import Conflict, Known, Plan, plan, unknown_accounts
from daas_hub.core.errors import ConfigError, DaasError, DirectoryUnavailable
from daas_hub.core.models import ACTIVE, Handle, Identity, Target
from daas_hub.core.recall import Note, Seen
from daas_hub.db.engine import Database
from daas_hub.db.ledger import LaunchRow, Ledger
from daas_hub.spawners.runtime import DaasHub

from . import adopt_hub
from .urls import absent, masked

ALL = 1_000_000
OK, FAILED, TO_DO, CONFLICTS = 0, 1, 3, 4
"""Exit status; 2 is a command line that cannot be read."""


@dataclass(frozen=True)
class Options:
    """What the operator asked for."""

    config: Path
    dry_run: bool = False
    volumes: bool = False
    skip_conflicts: bool = False
    without_directory: bool = False
    hub_api: str = ""
    token: str = field(default="", repr=False)
    within_s: int = 120


@dataclass
class Adoption:
    """One run of the command."""

    options: Options
    site: DaasHub
    authenticator: Any
    say: Callable[[str], None]
    failures: int = 0
    """Tokens that cannot be had."""
    disks: int = 0
    """Disks that a dry run would bind again."""

    async def run(self) -> int:
        """The exit status."""
        ledger = self._open()
        conflicts = list(await self._disks(ledger))
        seen = [await self.site.backend(name).recall() for name in self.site.backends]
        known = await asyncio.to_thread(ledger.restore.known) if ledger else Known()
        against = await self._directory(unknown_accounts(seen, known))
        wanted = plan(seen, known, against)
        conflicts += wanted.conflicts
        self._tell(wanted, seen, conflicts)
        rows = await asyncio.to_thread(_running, ledger) if ledger else []
        if self.options.dry_run:
            return await self._dry_end(wanted, rows, conflicts)
        if conflicts and not self.options.skip_conflicts:
            self.say("Nothing is written. Settle the conflicts, or give --skip-conflicts to leave out what they name.")
            return CONFLICTS
        if ledger is None:
            ledger = await asyncio.to_thread(_new_ledger, self.site.ledger_url)
        try:
            await self._write(ledger, wanted)
            rows = await asyncio.to_thread(_running, ledger)
            unserved = await self._hub(ledger, rows)
        finally:
            ledger.close()
        return FAILED if self.failures or unserved else CONFLICTS if conflicts else OK

    def _open(self) -> Ledger | None:
        """The ledger as it is; None where there is none yet."""
        db = Database(self.site.ledger_url, busy_timeout_s=60)
        try:
            gone = absent(db)
        finally:
            db.close()
        if gone:
            self.say(f"There is no ledger at {masked(self.site.ledger_url)}: it is rebuilt from what runs.")
            return None
        return Ledger.open(self.site.ledger_url, busy_timeout_s=60, create=not self.options.dry_run)

    # ------------------------------------------------------------ disks

    async def _disks(self, ledger: Ledger | None) -> list[Conflict]:
        """Bind disks again, first: the claims are what the volumes' rows are rebuilt from."""
        owned = []
        if ledger is not None:
            people = await asyncio.to_thread(ledger.accounts.list)
            owned = await asyncio.to_thread(ledger.restore.owned, people)
        conflicts: list[Conflict] = []
        for name in self.site.backends:
            dry = self.options.dry_run or not self.options.volumes
            mine = [volume for volume in owned if volume.made.get("claim")]
            report = await self.site.backend(name).rebind(mine, dry_run=dry)
            if self.options.volumes:
                conflicts += report.conflicts
                self.disks += len(report.rebound)
            self._tell_disks(name, len(report.rebound), report.bound, dry=dry)
        return conflicts

    def _tell_disks(self, name: str, number: int, bound: int, *, dry: bool) -> None:
        if not number:
            return
        if not self.options.volumes:
            self.say(f"{name}: disks without a claim: {number}; --volumes binds them again.")
        else:
            self.say(f"{name}: disks {'to be bound' if dry else 'bound'} again: {number}; bound already: {bound}.")

    # ------------------------------------------------------------ who

    async def _directory(self, notes: dict[str, Note]) -> dict[str, str]:
        """Account → what the directory says against its note. Raises DirectoryUnavailable."""
        ask = getattr(self.authenticator, "fresh_identity", None)
        if ask is None or self.options.without_directory:
            if notes:
                self.say("The directory is not asked: accounts are as they were noted.")
            return {}
        against = {}
        for account_id, note in notes.items():
            if note.memo.identity is None:
                against[account_id] = "its note names no identity, so nobody could sign in to it"
                continue
            issuer, subject = note.memo.identity
            try:
                fresh = await ask(Identity(issuer, subject, note.account.name))
            except DirectoryUnavailable as error:
                raise DirectoryUnavailable(
                    f"The directory cannot be asked about {note.account.name}: {error.message} Nothing is done; "
                    "--without-directory believes the notes alone."
                ) from error
            if fresh is None:
                against[account_id] = "the directory has no active account of it any more"
            elif (uid := fresh.attributes.get("uid_number")) is not None and int(uid) != note.account.uid:
                against[account_id] = f"the directory says uid {uid}, its note {note.account.uid}"
        return against

    # ------------------------------------------------------------ what is said

    def _tell(self, wanted: Plan, seen: list[Seen], conflicts: list[Conflict]) -> None:
        verb = "would be written" if self.options.dry_run else "to be written"
        running = sum(len(each.launches) for each in seen)
        volumes = sum(len(each.volumes) for each in seen)
        self.say(f"Found: {running} servers, {volumes} volumes that say whose they are.")
        for account in wanted.accounts:
            self.say(
                f"  account {account.account.name}, uid {account.account.uid}, of user {account.user_name}: {verb}"
            )
        for volume in wanted.volumes:
            self.say(f"  volume {volume.volume.volume_id} ({volume.note.name} of {volume.note.account.name}): {verb}")
        for new in wanted.launches:
            name = f"{new.note.user_name}/{new.launch.server_name}".rstrip("/")
            self.say(f"  server {name} ({new.launch.where}, since {new.launch.started_at:%Y-%m-%d %H:%M} UTC): {verb}")
        for conflict in conflicts:
            self.say(f"CONFLICT {conflict.what}: {conflict.why}")
        if conflicts and wanted.conflicts and self.options.skip_conflicts:
            self.say("Servers that are left out are stopped by the reconciler once the hub runs.")

    async def _dry_end(self, wanted: Plan, rows: list[LaunchRow], conflicts: list[Conflict]) -> int:
        for new in wanted.launches:
            await self._token(new.launch.launch_id, new.backend, new.launch.handle, None)
        for row in rows:
            await self._token(row.id, row.backend, row.handle or {}, row.api_token_encrypted)
        to_do = not wanted.empty or self.disks > 0
        if self.options.token:
            missing = await adopt_hub.missing(self._api(), self.options.token, rows, tls=await self._tls())
            for line in missing:
                self.say(f"  {line}")
            to_do = to_do or bool(missing)
        else:
            self.say("The hub is not asked: no token is given (DAAS_ADOPT_TOKEN).")
        return CONFLICTS if conflicts else TO_DO if to_do else FAILED if self.failures else OK

    # ------------------------------------------------------------ what is done

    async def _write(self, ledger: Ledger, wanted: Plan) -> None:
        now = datetime.now(UTC)
        tokens = {}
        for new in wanted.launches:
            sealed = await self._token(new.launch.launch_id, new.backend, new.launch.handle, None)
            if sealed is not None:
                tokens[new.launch.launch_id] = sealed
        ledger_id = await asyncio.to_thread(ledger.claim, self.site.hub_id)
        if not wanted.empty:
            await asyncio.to_thread(ledger.restore.write, wanted, tokens, now=now)
            self.say(
                f"Written: {len(wanted.accounts)} accounts, {len(wanted.volumes)} volumes, "
                f"{len(wanted.launches)} servers."
            )
        for name in self.site.backends:
            # Only now: until the rows are there, whoever asks would take the servers for unknown ones.
            await self.site.backend(name).take_over(ledger_id)

    async def _token(self, launch_id: str, backend: str, handle: Handle, sealed: bytes | None) -> bytes | None:
        """The server's token, encrypted by the present key; None (and said) where it cannot be had."""
        if sealed is not None:
            try:
                return sealed if (await decrypt(sealed))["token"] else None
            except (ValueError, KeyError, InvalidToken, EncryptionUnavailable):
                pass
        why = "the crypt key is not the one it was kept with" if sealed is not None else "the ledger has none"
        token = await self.site.backend(backend).token_of(handle)
        if token is None:
            self.failures += 1
            self.say(
                f"  launch {launch_id}: its token cannot be had ({why}, and none is kept beside the server). It goes "
                "on and can be stopped, but its owner must start it anew to use it."
            )
            return None
        try:
            return bytes(await encrypt({"token": token}))
        except EncryptionUnavailable as error:
            raise ConfigError("There is no crypt key: set JUPYTERHUB_CRYPT_KEY as the hub has it.") from error

    async def _hub(self, ledger: Ledger, rows: list[LaunchRow]) -> int:
        """Users and servers in the hub; how many are missing at the end."""
        for row in rows:
            sealed = await self._token(row.id, row.backend, row.handle or {}, row.api_token_encrypted)
            if sealed is not None and sealed != row.api_token_encrypted:
                await asyncio.to_thread(ledger.restore.set_token, row.id, sealed)
        if not rows:
            self.say("No server runs: users come back when they sign in.")
            return 0
        if not self.options.token:
            self.say("The hub is not asked: no token is given (DAAS_ADOPT_TOKEN). Users come back when they sign in.")
            return 0
        people = await asyncio.to_thread(ledger.accounts.list)
        identities = await asyncio.to_thread(ledger.restore.identities)
        return await adopt_hub.adopt(
            self._api(),
            self.options.token,
            rows,
            {person.id: person for person in people},
            identities,
            tls=await self._tls(),
            within_s=self.options.within_s,
            say=self.say,
        )

    async def _tls(self) -> Mapping[str, str]:
        return await asyncio.to_thread(adopt_hub.tls_of, JupyterHub.instance())

    def _api(self) -> str:
        return self.options.hub_api or adopt_hub.api_of(JupyterHub.instance())


def _new_ledger(url: str) -> Ledger:
    return Ledger.open(url, create=True)


def _running(ledger: Ledger) -> list[LaunchRow]:
    """Launches that should run; oldest first."""
    rows = ledger.launches(states=ACTIVE, limit=ALL)
    return [row for row in reversed(rows) if row.target is Target.RUNNING and row.handle is not None]


def main(options: Options, say: Callable[[str], None]) -> int:
    """Load the hub's configuration, then adopt; the exit status."""
    JupyterHub.clear_instance()
    try:
        return asyncio.run(_run(options, say))
    finally:
        JupyterHub.clear_instance()


async def _run(options: Options, say: Callable[[str], None]) -> int:
    # In a running loop, as the hub loads its file.
    site, authenticator = _load(options.config)
    try:
        return await Adoption(options, site, authenticator, say).run()
    except DaasError as error:
        say(error.log_message or error.message)
        return FAILED
    finally:
        for name in site.backends:
            await site.backend(name).close()


def _load(path: Path) -> tuple[DaasHub, Any]:
    """The site and the authenticator of a configuration. Raises ConfigError."""
    try:
        app = JupyterHub.instance()
        app.update_config(PyFileConfigLoader(path.name, path=str(path.parent.resolve())).load_config())
        return DaasHub(config=app.config), app.authenticator_class(config=app.config)
    except ConfigFileNotFound as error:
        raise ConfigError(f"{path} is not there: name the hub's configuration with --config.") from error
    except (Exception, SystemExit) as error:  # the operator's own code: it may raise anything
        raise ConfigError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
