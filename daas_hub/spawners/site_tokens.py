"""Fresh tokens for the site's other services, in files of a running server (docs/reference/oidc.md).

One task for each server that has them, from its start or the hub's to its end. What is due when is decided in
``core/site_tokens.py``; the authenticator gets tokens, the backend replaces the files.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from logging import Logger
from typing import Any

from daas_hub.backends.base import Backend
from daas_hub.core import site_tokens
from daas_hub.core.backoff import delays
from daas_hub.core.errors import BackendUnavailable, DaasError, LedgerBusy, SessionRevoked, TokenRefused
from daas_hub.core.models import Handle
from daas_hub.core.site_tokens import Held
from daas_hub.db.ledger import LaunchRow

from .people import identity_in
from .record import LaunchRecord
from .runtime import DaasHub

WRITE_AGAIN_S, WRITE_AGAIN_AT_LAST_S = 1.0, 10.0


class SiteTokens:
    """Those of one server. ``begin`` once; then ``over`` whenever its owner's access ends, ``end`` at its end."""

    def __init__(self, site: DaasHub, authenticator: Any, user: Any, record: LaunchRecord, log: Logger) -> None:
        self._site, self._authenticator, self._user, self._record = site, authenticator, user, record
        self._log = log
        self._held: dict[str, Held] = {}
        self._missing: dict[str, str] = {}
        self._try_at: dict[str, float] = {}
        self._retry_s: dict[str, float] = {}
        """Of each token that there was, by how long it was good."""
        self._written: Mapping[str, str] | None = None
        self._unwritten: Iterator[float] | None = None
        """How long to wait before the files are written again, which could not be."""
        self._woken = asyncio.Event()
        self._over = ""
        self._task: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    @staticmethod
    def names(authenticator: Any) -> tuple[str, ...]:
        """The tokens that servers get by this authenticator; of many there are none."""
        return tuple(getattr(authenticator, "site_token_names", ()))

    def begin(self) -> None:
        """Take care of them from now on."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def over(self, why: str) -> None:
        """Her access ends: what she has goes at once, and only another sign-in brings it back."""
        self._over = why
        self._cancel_renewing()
        self._woken.set()

    def end(self) -> None:
        """The server is to end: no file is left to grow old in one that takes its time."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._site.keep(self._withdraw())

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.error("Site tokens of launch %s are given up", self._record.id, exc_info=error)
            self._site.keep(self._withdraw())

    async def _withdraw(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])
        with contextlib.suppress(DaasError):
            row = await self._record.row()
            if row is not None and row.handle is not None and row.handle.get("site_tokens"):
                await self._site.backend(row.backend).hand_over(row.handle, {})

    # ------------------------------------------------------------ the task

    async def _run(self) -> None:
        row = await self._row()
        if row is None or row.handle is None:
            return
        names = self.names(self._authenticator)
        if not row.handle.get("site_tokens"):
            if names:
                self._log.info("Launch %s has no place for site tokens (it is on %s)", row.id, row.backend)
            return
        backend, handle = self._site.backend(row.backend), row.handle
        await self._take_up(backend, handle, names)
        try:
            while True:
                if self._over:
                    await self._end_access(names)
                self._let_go(backend.site_tokens_margin_s)
                self._renew_due(row, names, backend.site_tokens_margin_s)
                await self._write(backend, handle)
                await self._wait(backend.site_tokens_margin_s)
        finally:
            self._cancel_renewing()

    async def _row(self) -> LaunchRow | None:
        while True:
            try:
                return await self._record.row()
            except LedgerBusy:
                await asyncio.sleep(WRITE_AGAIN_S)

    async def _take_up(self, backend: Backend, handle: Handle, names: Collection[str]) -> None:
        """What an earlier hub handed over, as far as it is good."""
        now = self._site.now()
        try:
            self._written = await backend.handed_over(handle)
        except BackendUnavailable as error:
            self._log.warning("What tokens launch %s has cannot be told: %s", self._record.id, error.log_message)
        self._held = site_tokens.held_in(self._written or {}, names, now)
        self._try_at = {name: self._held[name].due_at() if name in self._held else now for name in names}

    async def _end_access(self, names: Sequence[str]) -> None:
        why, self._over = self._over, ""
        self._held.clear()
        self._cancel_renewing()
        self._missing = dict.fromkeys(names, f"Your access was ended: {why}.")
        await self._authenticator.site_tokens_over(self._user)
        self._try_at = {n: self._site.now() + self._retry_s.get(n, site_tokens.RETRY_S) for n in names}

    def _let_go(self, margin_s: float) -> None:
        """What is nearly over is not left lying about, whoever is asked for the next one just now."""
        now = self._site.now()
        for name, held in list(self._held.items()):
            if held.gone_at(margin_s) <= now:
                del self._held[name]
                self._missing.setdefault(name, site_tokens.AWAY)

    def _renew_due(self, row: LaunchRow, names: Sequence[str], margin_s: float) -> None:
        now = self._site.now()
        due = [name for name in names if self._try_at[name] <= now]
        if due and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(row, due, margin_s))
            self._renewing.add_done_callback(self._renewed)

    def _renewed(self, task: asyncio.Task[None]) -> None:
        if self._renewing is task:
            self._renewing = None
            self._woken.set()

    def _cancel_renewing(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    async def _wait(self, margin_s: float) -> None:
        times = [held.gone_at(margin_s) for held in self._held.values()]
        if self._renewing is None:
            times += self._try_at.values()
        left = [max(0.0, at - self._site.now()) for at in times]
        if self._unwritten is not None:
            # What is there may be over: nothing is due before this is done.
            left = [next(self._unwritten)]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), min(left, default=None))
        self._woken.clear()

    async def _write(self, backend: Backend, handle: Handle) -> None:
        """The whole set, where it is another one than before."""
        files = site_tokens.files_of(self._held, {n: w for n, w in self._missing.items() if n not in self._held})
        if files == self._written:
            self._unwritten = None
            return
        try:
            await backend.hand_over(handle, files)
        except BackendUnavailable as error:
            if self._unwritten is None:
                # Once: an outage lasts as long as it lasts.
                self._log.warning("Tokens of launch %s are handed over later: %s", self._record.id, error.log_message)
                self._unwritten = delays(WRITE_AGAIN_S, WRITE_AGAIN_AT_LAST_S)
            return
        self._written, self._unwritten = files, None

    # ------------------------------------------------------------ one renewal

    async def _renew(self, row: LaunchRow, names: Sequence[str], margin_s: float) -> None:
        for name in names:
            began = self._site.now()
            try:
                await self._require_owner(row)
                value, lasts_s = await self._authenticator.site_token(self._user, name)
            except DaasError as error:
                self._failed(name, error, margin_s)
                continue
            except Exception as error:
                # Of our own making: the other tokens and the next try go on.
                self._log.exception("Token %s for launch %s", name, self._record.id)
                self._failed(name, DaasError(repr(error)), margin_s)
                continue
            if why := site_tokens.too_short(lasts_s, margin_s):
                self._failed(name, TokenRefused(why, reason="too_short"), margin_s)
                continue
            self._held[name] = held = Held(value, began, began + lasts_s)
            self._retry_s[name] = held.retry_s(margin_s)
            self._missing.pop(name, None)
            self._try_at[name] = held.due_at()

    async def _require_owner(self, row: LaunchRow) -> None:
        """The token is hers whose server it is. Raises SessionRevoked, LedgerBusy."""
        identity = identity_in(await self._user.get_auth_state())
        if identity is None:
            raise SessionRevoked(site_tokens.SIGN_IN)
        key = (identity.issuer, identity.subject)
        account = await self._site.run(self._site.ledger.accounts.by_identity, *key)
        if account is None or account.id != row.account_id:
            raise SessionRevoked(site_tokens.NOT_HERS)

    def _failed(self, name: str, error: DaasError, margin_s: float) -> None:
        """The old one stays while it is good; once that is over, this is why there is none."""
        why, retry_s = site_tokens.AWAY, self._retry_s.get(name, site_tokens.RETRY_S)
        if isinstance(error, SessionRevoked):
            why = error.message
        elif isinstance(error, TokenRefused):
            why = error.message if error.reason == "too_short" else site_tokens.refused(error.reason)
            retry_s = site_tokens.REFUSED_RETRY_S
        held = self._held.get(name)
        self._try_at[name] = self._site.now() + (held.retry_s(margin_s) if held is not None else retry_s)
        if self._missing.get(name) != why:
            self._log.warning("No fresh token %s for launch %s: %s", name, self._record.id, error.log_message)
        self._missing[name] = why
