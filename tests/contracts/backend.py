"""What every backend must do: one suite for local, Kubernetes and SLURM, each on a real engine.

A test module subclasses ``BackendContract`` and offers the fixture ``place``, a ``Place`` of its engine.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from daas_hub.backends.base import Backend
from daas_hub.core.errors import BackendUnavailable, StartFailed
from daas_hub.core.models import Handle, LaunchSpec, Life
from daas_hub.core.naming import new_id
from daas_hub.core.site_tokens import VARIABLE
from tests.servers.tiny_server import get
from tests.waiting import until

SECRET = "s3cr3t-0f-the-c0ntract-suite-do-not-leak"


class Place(ABC):
    """One engine, with one account, for one test."""

    backend: Backend

    @abstractmethod
    def another(self) -> Backend:
        """A second instance, as a restarted hub or the reconciler has it."""

    @abstractmethod
    def spec(self, launch_id: str, **program: Any) -> LaunchSpec:
        """A launch of ``tests.servers.tiny_server``; its secrets hold ``JUPYTERHUB_API_TOKEN=SECRET``."""

    @abstractmethod
    async def end(self, handle: Handle) -> None:
        """End the server from outside, hard, as a crash would."""

    @abstractmethod
    async def seen_by_others(self, handle: Handle) -> str:
        """All that other people of this place can see of the server: argv, scripts, listings, readable files."""

    async def get(self, url: str, spec: LaunchSpec, path: str) -> Any:
        """What the server answers under its prefix."""
        return await asyncio.to_thread(get, f"{url}{spec.service_prefix}{path}")


class Saved:
    """A checkpoint that remembers."""

    def __init__(self) -> None:
        self.handles: list[Handle] = []

    async def __call__(self, handle: Handle) -> None:
        # Only what survives being stored counts.
        self.handles.append(json.loads(json.dumps(handle)))

    @property
    def last(self) -> Handle:
        assert self.handles, "nothing was checkpointed"
        return self.handles[-1]


async def to_its_end(backend: Backend, handle: Handle) -> str | None:
    """The end of a log that ends with what the server printed last."""
    shown = await backend.log_tail(handle)
    return shown if shown is not None and shown.endswith("last") else None


async def ours(backend: Backend, launch_id: str) -> list[Handle]:
    """The handles that the backend finds of one launch."""
    return [found.handle for found in await backend.find() if found.launch_id == launch_id]


class BackendContract:
    """Subclass it and give it the fixture ``place``."""

    end_within_s = 5.0
    """From a server's end to its being known."""
    stop_within_s = 20.0
    tokens_within_s = 5.0
    """From a hand-over to what the server reads."""
    made_of = frozenset({"image", "image_digest"})
    """What this place can tell of a server."""

    @pytest.fixture
    def saved(self) -> Saved:
        return Saved()

    async def begin(self, place: Place, saved: Saved, **program: Any) -> tuple[LaunchSpec, str]:
        """Prepare and start one server."""
        spec = place.spec(new_id(), **program)
        await place.backend.prepare(spec)
        return spec, await place.backend.start(spec, saved)

    # ------------------------------------------------------------ start

    async def test_a_server_runs_as_the_account_and_answers(self, place: Place, saved: Saved) -> None:
        spec, url = await self.begin(place, saved)
        who = await place.get(url, spec, "whoami")
        account = spec.account
        assert who["resuid"] == [account.uid] * 3
        assert who["resgid"] == [account.gid] * 3
        assert {account.gid, *who["groups"]} == {account.gid, *(group.gid for group in account.groups)}
        assert who["environment"]["HOME"] == account.home
        assert who["environment"]["USER"] == account.name
        assert who["environment"]["JUPYTERHUB_API_TOKEN"] == SECRET
        assert who["environment"]["FROM_THE_PROFILE"] == "yes"

    async def test_the_handle_is_saved_before_anything_runs(self, place: Place) -> None:
        spec = place.spec(new_id())
        await place.backend.prepare(spec)
        reached = asyncio.Event()

        async def hangs(handle: Handle) -> None:
            reached.set()
            await asyncio.get_running_loop().create_future()

        start = asyncio.create_task(place.backend.start(spec, hangs))
        await asyncio.wait_for(reached.wait(), 30)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await self.gone(place, spec.launch_id)

    async def test_a_checkpoint_that_fails_leaves_nothing(self, place: Place) -> None:
        spec = place.spec(new_id())
        await place.backend.prepare(spec)

        async def fails(handle: Handle) -> None:
            raise RuntimeError("the ledger is locked")

        with pytest.raises(RuntimeError, match="the ledger is locked"):
            await place.backend.start(spec, fails)
        await self.gone(place, spec.launch_id)

    async def gone(self, place: Place, launch_id: str) -> None:
        """Wait until the backend finds nothing of a launch."""
        async with asyncio.timeout(self.end_within_s):
            while await ours(place.backend, launch_id):
                await asyncio.sleep(0.02)

    async def test_handles_name_backend_and_version(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved)
        assert saved.last["backend"] == place.backend.name
        assert isinstance(saved.last["version"], int)

    async def test_the_same_launch_started_twice_is_one_server(self, place: Place) -> None:
        spec = place.spec(new_id())
        await place.backend.prepare(spec)
        first, second = await asyncio.gather(*(place.backend.start(spec, Saved()) for _ in range(2)))
        assert first == second
        assert await place.backend.start(spec, Saved()) == first
        assert len(await ours(place.backend, spec.launch_id)) == 1

    async def test_a_server_that_ends_first_is_a_failed_start(self, place: Place, saved: Saved) -> None:
        talk = "bad luck, token={JUPYTERHUB_API_TOKEN} {JUPYTERHUB_API_TOKEN}"
        with pytest.raises(StartFailed) as failure:
            await self.begin(place, saved, exit=3, print=talk)
        assert "bad luck" in failure.value.log_message
        assert SECRET not in failure.value.log_message + failure.value.message
        assert (await place.backend.inspect(saved.last)).life is Life.ENDED

    async def test_a_server_that_never_answers_is_given_up_in_time(self, place: Place, saved: Saved) -> None:
        place.backend.wait_policy_s = 2
        with pytest.raises(StartFailed) as failure:
            await self.begin(place, saved, silent=True)
        assert failure.value.reason == "timeout"
        assert not failure.value.permanent
        seen = await place.backend.stop(saved.last, within_s=self.stop_within_s)
        assert seen.life is Life.ENDED

    async def test_the_end_of_the_log_can_be_read_until_cleanup(self, place: Place, saved: Saved) -> None:
        talk = "\n".join(["first", *map(str, range(300)), "token {JUPYTERHUB_API_TOKEN} last"])
        await self.begin(place, saved, print=talk)
        for backend in (place.backend, place.another()):
            # What a server has printed is in its log a moment later; None says that it cannot be told now.
            shown = await until(partial(to_its_end, backend, saved.last), within_s=30, what="the log is read")
            assert SECRET not in shown
            assert len(shown.split("\n")) <= 200
            assert "first" not in shown
        assert (await place.backend.log_tail(saved.last, 1) or "").count("\n") == 0
        await place.backend.stop(saved.last, within_s=self.stop_within_s)
        await place.backend.cleanup(saved.last)
        async with asyncio.timeout(self.end_within_s):
            while await place.backend.log_tail(saved.last) is not None:
                await asyncio.sleep(0.1)
        assert await place.backend.log_tail({"backend": "elsewhere", "version": 99}) is None

    async def test_what_a_server_is_made_of_never_raises(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved)
        made = await place.another().software(saved.last)
        assert json.loads(json.dumps(made)) == made
        assert self.made_of <= made.keys()
        assert await place.backend.software({"backend": "elsewhere", "version": 99}) == {}

    async def test_a_cancelled_start_is_stopped_by_its_last_handle(self, place: Place, saved: Saved) -> None:
        spec = place.spec(new_id(), silent=True)
        await place.backend.prepare(spec)
        start = asyncio.create_task(place.backend.start(spec, saved))
        async with asyncio.timeout(30):
            while not saved.handles:
                await asyncio.sleep(0.01)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        seen = await place.backend.stop(saved.last, within_s=self.stop_within_s)
        assert seen.life is Life.ENDED
        assert await ours(place.backend, spec.launch_id) == []

    async def test_no_secret_can_be_seen_by_others(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved)
        assert SECRET not in json.dumps(saved.last)
        seen = await place.seen_by_others(saved.last)
        assert seen, "nothing was looked at"
        assert SECRET not in seen

    async def test_events_end_with_the_start(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved)
        events = [event async for event in place.backend.events(saved.last)]
        assert events
        steps = [event.progress for event in events if event.progress is not None]
        assert steps == sorted(steps)

    # ------------------------------------------------------------ site tokens

    async def test_site_tokens_are_replaced_as_one_set_that_others_do_not_see(self, place: Place, saved: Saved) -> None:
        spec = replace(place.spec(new_id()), site_tokens=True)
        await place.backend.prepare(spec)
        url = await place.backend.start(spec, saved)
        assert saved.last["site_tokens"] is True
        folder = (await place.get(url, spec, "whoami"))["environment"][VARIABLE]
        backend = place.backend
        assert await backend.handed_over(saved.last) == {}

        async def reads(file: str) -> str:
            return str((await place.get(url, spec, f"read?{folder}/{file}")).get("text", ""))

        async def there(first: str, second: str) -> bool:
            return (await reads("storage"), await reads("batch")) == (first, second)

        sets = ({"storage": SECRET, "batch": "b"}, {"batch": SECRET, "batch.missing": "why\n"}, {})
        for files in sets:
            await backend.hand_over(saved.last, files)
            await backend.hand_over(saved.last, files)
            first, second = files.get("storage", ""), files.get("batch", "")
            await until(lambda f=first, s=second: there(f, s), within_s=self.tokens_within_s, what=f"only {set(files)}")
            assert await reads("batch.missing") == files.get("batch.missing", "")
            assert SECRET not in json.dumps(saved.last) + await place.seen_by_others(saved.last)
            backend = place.another()
            assert await backend.handed_over(saved.last) == files
        await backend.hand_over(saved.last, sets[0])
        await backend.stop(saved.last, within_s=self.stop_within_s)
        await backend.cleanup(saved.last)
        with pytest.raises(BackendUnavailable):
            await backend.hand_over(saved.last, sets[0])

    async def test_who_did_not_ask_for_site_tokens_has_no_place_for_them(self, place: Place, saved: Saved) -> None:
        spec, url = await self.begin(place, saved)
        assert VARIABLE not in (await place.get(url, spec, "whoami"))["environment"]
        assert not saved.last.get("site_tokens")

    # ------------------------------------------------------------ look

    async def test_a_look_tells_running_and_ended(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved)
        assert (await place.backend.inspect(saved.last)).life is Life.RUNNING
        await place.end(saved.last)
        await asyncio.wait_for(place.backend.wait_ended(saved.last), self.end_within_s)
        seen = await place.backend.inspect(saved.last)
        assert seen.life is Life.ENDED
        assert seen.reason

    async def test_a_handle_that_says_nothing_is_unknown(self, place: Place) -> None:
        for handle in ({}, {"backend": place.backend.name, "version": 99}, {"backend": "other", "version": 1}):
            assert (await place.backend.inspect(handle)).life is Life.UNKNOWN
            assert (await place.backend.stop(handle, within_s=2)).life is Life.UNKNOWN

    async def test_the_end_of_a_server_is_known_at_once(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved)
        waiting = asyncio.create_task(place.backend.wait_ended(saved.last))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        await place.end(saved.last)
        seen = await asyncio.wait_for(waiting, self.end_within_s)
        assert seen.life is Life.ENDED
        assert seen.reason

    async def test_waiting_may_be_cancelled_and_begun_again(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved)
        first = asyncio.create_task(place.backend.wait_ended(saved.last))
        await asyncio.wait({first}, timeout=0.1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(place.backend.wait_ended(saved.last))
        await place.end(saved.last)
        assert (await asyncio.wait_for(second, self.end_within_s)).life is Life.ENDED

    async def test_capacity_has_an_age_and_is_never_the_future(self, place: Place) -> None:
        looks = await place.backend.capacity()
        assert looks
        for look in looks:
            assert look.backend == place.backend.name
            assert look.as_of is not None
            assert timedelta(0) <= datetime.now(UTC) - look.as_of < timedelta(minutes=5)

    # ------------------------------------------------------------ stop

    async def test_a_stopped_server_is_gone_and_stays_stopped(self, place: Place, saved: Saved) -> None:
        spec, _ = await self.begin(place, saved, children=2)
        seen = await place.backend.stop(saved.last, within_s=self.stop_within_s)
        assert seen.life is Life.ENDED
        assert await ours(place.backend, spec.launch_id) == []
        again = await place.backend.stop(saved.last, within_s=self.stop_within_s)
        assert again.life is Life.ENDED

    async def test_a_server_that_does_not_listen_is_ended_by_force(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved, ignore_term=True)

        async def ended() -> bool:
            # One that is not confirmed in time is asked for again, as the reconciler does.
            return (await place.backend.stop(saved.last, within_s=4)).life is Life.ENDED

        await until(ended, within_s=40, what="the server that ignores SIGTERM has ended")

    async def test_cleanup_leaves_the_home_and_may_be_repeated(self, place: Place, saved: Saved) -> None:
        spec, url = await self.begin(place, saved)
        command = json.dumps(["sh", "-c", "echo kept > $HOME/result"]).replace(" ", "%20")
        assert (await place.get(url, spec, f"run?{command}"))["code"] == 0
        await place.backend.stop(saved.last, within_s=self.stop_within_s)
        await place.backend.cleanup(saved.last)
        await place.backend.cleanup(saved.last)
        assert (await place.backend.inspect(saved.last)).life is Life.ENDED
        spec, url = await self.begin(place, saved)
        assert (await place.get(url, spec, f"read?{spec.account.home}/result"))["text"] == "kept\n"

    # ------------------------------------------------------------ another hub process

    async def test_another_instance_finds_resumes_waits_and_stops(self, place: Place, saved: Saved) -> None:
        spec, url = await self.begin(place, saved)
        await place.backend.close()
        other = place.another()
        (found,) = [found for found in await other.find() if found.launch_id == spec.launch_id]
        assert found.uid == spec.account.uid
        assert found.started_at is None or found.started_at <= datetime.now(UTC)
        assert await other.resume(found.handle) == url
        assert (await other.inspect(found.handle)).life is Life.RUNNING
        waiting = asyncio.create_task(other.wait_ended(found.handle))
        seen = await other.stop(found.handle, within_s=self.stop_within_s)
        assert seen.life is Life.ENDED
        assert (await asyncio.wait_for(waiting, self.end_within_s)).life is Life.ENDED
        await other.cleanup(found.handle)
        assert await ours(other, spec.launch_id) == []

    async def test_resume_of_an_ended_server_says_so(self, place: Place, saved: Saved) -> None:
        await self.begin(place, saved)
        await place.backend.stop(saved.last, within_s=self.stop_within_s)
        with pytest.raises(StartFailed):
            await place.backend.resume(saved.last)

    async def test_two_servers_of_one_account_do_not_touch(self, place: Place) -> None:
        one, two = Saved(), Saved()
        await self.begin(place, one)
        spec, url = await self.begin(place, two)
        await place.backend.stop(one.last, within_s=self.stop_within_s)
        await place.backend.cleanup(one.last)
        assert (await place.get(url, spec, "whoami"))["pid"] > 0
        assert (await place.backend.inspect(two.last)).life is Life.RUNNING
