"""How a question is put to a directory of several servers: threads, one time for all servers, fail-over."""

from __future__ import annotations

import asyncio
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from daas_hub.core.errors import DirectoryUnavailable

from .directory_queue import Call, Queue, Turn, too_many
from .directory_servers import Servers
from .directory_session import UNANSWERED, Address, unavailable

P = ParamSpec("P")
T = TypeVar("T")

SLOW_S = 1.0
"""A failure that took longer costs somebody time and a thread: that server is not asked while it is held."""
SERVICE_REFUSED = "directory_service_refused"
ANSWERS = frozenset({"directory_ambiguous", "directory_incomplete"})
"""Failures of what the directory says: another server would say the same."""
FINAL = ANSWERS | {UNANSWERED}
"""After these no other server is asked."""


class Asking:
    """Two queues of questions, sign-ins and others, and the servers that answer them.

    ``address`` is how each server is protected and how long one answer takes; ``login_within_s`` is the time of a
    whole question over all servers, ``wait_within_s`` that for its turn before.
    """

    def __init__(
        self, address: Address, servers: Servers, *, login_within_s: float, wait_within_s: float, threads: int
    ) -> None:
        self.servers = servers
        self.sign_ins = Queue("ldap-sign-in", threads)
        self.others = Queue("ldap", threads)
        self._address, self._login_within_s, self._wait_within_s = address, login_within_s, wait_within_s

    def close(self) -> None:
        """Let the threads go; questions on their way are not waited for."""
        self.sign_ins.close()
        self.others.close()

    @property
    def waiting(self) -> int:
        """Questions on their way or in a queue."""
        return self.sign_ins.waiting + self.others.waiting

    async def ask(self, queue: Queue, fn: Callable[Concatenate[Turn, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._refuse_while_held()
        if queue.full:
            raise too_many(self._address, f"{queue.waiting} questions are waiting already")
        call = Call(self._login_within_s)
        work = queue.begin(call, lambda: self._run(call, lambda turn: fn(turn, *args, **kwargs)))
        try:
            # The directory's own time begins when a thread is free to ask it; until then it is not to blame.
            either: set[asyncio.Future[Any]] = {work, call.begun}
            await asyncio.wait(either, timeout=self._wait_within_s, return_when=FIRST_COMPLETED)
        finally:
            waited_in_vain = not work.done() and not call.begun.done()
            if waited_in_vain:
                call.end()
                work.cancel()
        if waited_in_vain:
            raise too_many(self._address, f"no thread was free within {self._wait_within_s:g} s")
        try:
            return await asyncio.wait_for(asyncio.shield(work), self._login_within_s)
        except TimeoutError as error:
            if call.turn is not None:
                self.servers.failed(call.turn.address.uri, slow=True)
            raise unavailable(self._address, f"no answer within {self._login_within_s:g} s") from error

    async def each(self, fn: Callable[[Turn], T]) -> dict[str, T | DirectoryUnavailable]:
        """Ask every server by itself, whatever was heard of it before. Raises DirectoryUnavailable where none is."""
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.run_in_executor(None, self.servers.ask_dns), self._login_within_s)
        uris = [server.uri for server in self.servers.known]
        if not uris:
            raise self._nobody_is_left()
        return dict(zip(uris, await asyncio.gather(*(self._one(uri, fn) for uri in uris)), strict=True))

    async def _one(self, uri: str, fn: Callable[[Turn], T]) -> T | DirectoryUnavailable:
        call = Call(self._login_within_s)

        def ask() -> T:
            call.started()
            turn = call.ask(self._address.of(uri, call.left_s), call.left_s)
            try:
                return fn(turn)
            finally:
                turn.finished = True

        try:
            return await asyncio.wait_for(asyncio.shield(self.others.begin(call, ask)), self._login_within_s + 1)
        except TimeoutError:
            return unavailable(self._address.of(uri, 1), f"no answer within {self._login_within_s:g} s")
        except DirectoryUnavailable as error:
            return error

    def _run(self, call: Call, fn: Callable[[Turn], T]) -> T:
        """In a thread: ask one server after the other, within the time of the whole question.

        Whatever waited in the queue while others hung is refused now, not made to hang as well.
        """
        asked: list[str] = []
        call.started()
        self.servers.ask_dns()
        failure: DirectoryUnavailable | None = None
        while not call.over and call.left_s:
            server, another = self.servers.next(asked, call.left_s)
            if server is None:
                break
            asked.append(server.uri)
            # While there is another server, none may take what the other one needs.
            within_s = min(call.left_s, self._address.answer_within_s) if another else call.left_s
            try:
                return self._turn(call.ask(self._address.of(server.uri, within_s), within_s), fn)
            except DirectoryUnavailable as error:
                failure = error
                if error.reason in FINAL:
                    break
        raise failure or self._nobody_is_left()

    def _turn(self, turn: Turn, fn: Callable[[Turn], T]) -> T:
        """Ask one server, and remember how it did."""
        began = time.monotonic()
        try:
            result = fn(turn)
        except DirectoryUnavailable as error:
            if error.reason in ANSWERS:
                self.servers.well(turn.address.uri)
            else:
                # A fast failure costs nobody anything. A refused service account does: more attempts would lock it.
                slow = time.monotonic() - began > SLOW_S or error.reason == SERVICE_REFUSED
                self.servers.failed(turn.address.uri, slow=slow)
            raise
        except Exception:
            # The question's own, after an answer: an attempt too many, an account that is refused.
            self.servers.well(turn.address.uri)
            raise
        finally:
            turn.finished = True
        self.servers.well(turn.address.uri)
        return result

    def _refuse_while_held(self) -> None:
        if self.servers.all_held:
            raise self._nobody_is_left()

    def _nobody_is_left(self) -> DirectoryUnavailable:
        return unavailable(self._address, self.servers.why_nobody())
