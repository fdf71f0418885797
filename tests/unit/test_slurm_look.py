"""One look for all: nobody gets one that began too early, a failure is nobody's answer, and never two at once."""

from __future__ import annotations

import asyncio

import pytest

from daas_hub.clients.slurm_look import SharedLook
from daas_hub.core.errors import BackendUnavailable
from tests.waiting import until

REFUSED = BackendUnavailable("no", reason="refused", log_message="squeue reaches no server")


class Asked:
    """A question whose answers the test gives, on a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waiting: list[asyncio.Future[str]] = []
        self.count = self.at_once = self.most = 0
        self.look = SharedLook(self.ask, clock=lambda: self.now)

    async def ask(self) -> str:
        self.count += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        try:
            return await answer
        finally:
            self.at_once -= 1

    async def caller(self, max_age_s: float) -> asyncio.Task[str]:
        """Somebody who has asked by now."""
        task = asyncio.create_task(self.look.get(max_age_s))
        for _ in range(3):
            await asyncio.sleep(0)
        return task

    async def answer(self, said: str | Exception) -> None:
        """Answer the question that runs."""
        await until(lambda: self.waiting, what="a look runs")
        future = self.waiting.pop()
        if isinstance(said, Exception):
            future.set_exception(said)
        else:
            future.set_result(said)
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_young_answer_serves_everybody() -> None:
    asked = Asked()
    first, second = await asked.caller(1), await asked.caller(1)
    await asked.answer("one")
    assert (await first, await second) == ("one", "one")
    asked.now += 1
    assert await asked.look.get(1) == "one"
    assert asked.count == 1
    assert asked.look.last_age_s == 1


async def test_an_answer_ages_from_when_it_was_asked_for() -> None:
    asked = Asked()
    first = await asked.caller(1)
    asked.now += 5
    await asked.answer("took five seconds")
    assert await first == "took five seconds"
    later = await asked.caller(4)
    await asked.answer("new")
    assert await later == "new"
    assert asked.look.last_age_s == 0


async def test_a_look_that_began_too_early_is_not_joined() -> None:
    asked = Asked()
    early = await asked.caller(0)
    asked.now += 3
    content, wants_newer, wants_newest = await asked.caller(3), await asked.caller(2), await asked.caller(0)
    await asked.answer("early")
    assert (await early, await content) == ("early", "early")
    assert not wants_newer.done()
    await asked.answer("late")
    assert (await wants_newer, await wants_newest) == ("late", "late")
    assert (asked.count, asked.most) == (2, 1)


async def test_many_who_come_while_one_runs_share_the_next() -> None:
    asked = Asked()
    first = await asked.caller(0)
    asked.now += 0.1
    crowd = [await asked.caller(0) for _ in range(1000)]
    await asked.answer("first")
    await asked.answer("second")
    assert set(await asyncio.gather(*crowd)) == {"second"}
    assert await first == "first"
    assert (asked.count, asked.most) == (2, 1)


async def test_a_failure_is_everybodys_and_no_answer() -> None:
    asked = Asked()
    good = await asked.caller(0)
    await asked.answer("good")
    assert await good == "good"
    asked.now += 10
    callers = [await asked.caller(1) for _ in range(3)]
    await asked.answer(REFUSED)
    for caller in callers:
        with pytest.raises(BackendUnavailable, match="no") as caught:
            await caller
        assert (caught.value.reason, caught.value.log_message) == ("refused", "squeue reaches no server")
    # It counts for those whom it is young enough for; the last good answer stays to be read, with its age.
    with pytest.raises(BackendUnavailable):
        await asked.look.get(1)
    assert asked.look.last is not None
    assert (asked.look.last.value, asked.look.last_age_s, asked.look.failing) == ("good", 10, REFUSED)
    assert await asked.look.get(10) == "good"
    assert asked.count == 2
    asked.now += 2
    again = await asked.caller(1)
    await asked.answer("back")
    assert await again == "back"
    assert asked.look.failing is None


async def test_a_failure_does_not_grow_with_its_callers() -> None:
    asked = Asked()
    first = await asked.caller(0)
    await asked.answer(REFUSED)
    with pytest.raises(BackendUnavailable):
        await first

    async def depth() -> int:
        with pytest.raises(BackendUnavailable) as caught:
            await asked.look.get(1)
        return len(caught.traceback)

    assert await depth() == await depth()
    assert asked.look.failing is REFUSED


async def test_a_look_that_failed_too_early_is_not_ones_own() -> None:
    asked = Asked()
    early = await asked.caller(0)
    asked.now += 1
    late = await asked.caller(0)
    await asked.answer(REFUSED)
    await asked.answer("late")
    with pytest.raises(BackendUnavailable):
        await early
    assert await late == "late"


async def test_a_caller_that_goes_away_takes_nothing_from_others() -> None:
    asked = Asked()
    goes, stays = await asked.caller(0), await asked.caller(0)
    goes.cancel()
    await asked.answer("one")
    assert await stays == "one"
    assert goes.cancelled()
    assert asked.count == 1


async def test_an_error_that_nobody_awaits_is_kept() -> None:
    asked = Asked()
    goes = await asked.caller(0)
    goes.cancel()
    await asked.answer(KeyError("a bug"))
    assert isinstance(asked.look.failing, KeyError)
    with pytest.raises(KeyError, match="a bug"):
        await asked.look.get(1)


async def test_closing_ends_the_look() -> None:
    asked = Asked()
    waits = await asked.caller(0)
    await asked.look.close()
    with pytest.raises(BackendUnavailable, match="hub ends"):
        await waits
    with pytest.raises(BackendUnavailable, match="hub ends"):
        await asked.look.get(0)
    assert asked.at_once == 0
