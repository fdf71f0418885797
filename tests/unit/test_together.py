"""What is asked at the same moment is one question; nobody gets another one's answer, and a failure is everybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from daas_hub.core.errors import LedgerBusy
from daas_hub.spawners.together import MOST, Together


class Asked:
    """A question that the test answers: each number is answered with its double, odd ones from 100 on are refused."""

    def __init__(self, at_once: int = 1) -> None:
        self.together = Together(self.ask, at_once=at_once)
        self.questions: list[list[int]] = []
        self.may = asyncio.Event()
        self.may.set()
        self.broken = False

    async def ask(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.questions.append(list(numbers))
        await self.may.wait()
        if self.broken:
            raise LedgerBusy("Busy.")
        return [KeyError(n) if n >= 100 and n % 2 else 2 * n for n in numbers]


async def test_what_is_asked_at_once_is_one_question() -> None:
    asked = Asked()
    answers = await asyncio.gather(*(asked.together(n) for n in (3, 1, 2, 3)))
    assert answers == [6, 2, 4, 6]
    assert asked.questions == [[3, 1, 2, 3]]
    assert await asked.together(5) == 10
    assert asked.questions[1:] == [[5]]


async def test_many_are_some_questions() -> None:
    asked = Asked()
    numbers = range(0, 4 * MOST + 4, 2)
    assert await asyncio.gather(*map(asked.together, numbers)) == [2 * n for n in numbers]
    assert [len(question) for question in asked.questions] == [MOST, MOST, 2]


@pytest.mark.parametrize("at_once", [1, 2])
async def test_what_comes_while_questions_run_is_the_next_one(at_once: int) -> None:
    asked = Asked(at_once)
    asked.may.clear()
    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(asked.together(number)))
        for _ in range(3):
            await asyncio.sleep(0)
    assert asked.questions == [[number] for number in range(at_once)]
    asked.may.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]
    assert asked.questions == [*([number] for number in range(at_once)), list(range(at_once, 5))]


async def test_an_error_is_for_whom_it_concerns() -> None:
    asked = Asked()
    first, second, third = await asyncio.gather(*map(asked.together, (1, 101, 2)), return_exceptions=True)
    assert (first, third) == (2, 4)
    assert isinstance(second, KeyError)
    asked.broken = True
    told = await asyncio.gather(*map(asked.together, (1, 2)), return_exceptions=True)
    assert [type(one) for one in told] == [LedgerBusy, LedgerBusy]
    assert told[0] is not told[1]
    asked.broken = False
    assert await asked.together(1) == 2


async def test_who_goes_away_waits_for_the_end_and_takes_nobodys_answer() -> None:
    asked = Asked()
    asked.may.clear()
    gone, stays = (asyncio.create_task(asked.together(number)) for number in (1, 2))
    for _ in range(3):
        await asyncio.sleep(0)
    gone.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not gone.done()
    asked.may.set()
    assert await stays == 4
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert asked.questions == [[1, 2]]
