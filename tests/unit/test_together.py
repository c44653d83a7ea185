"""Questions that come while others are under way are asked together, and each gets an answer, an error, or its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.common.together import Asked, Together

pytestmark = pytest.mark.anyio


class Oracle:
    """Answers a number with its square when it is let, and knows what it was asked together."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self, asked: Sequence[Asked[int, int]]) -> None:
        """Settle all but a 13, which nobody may ask."""
        self.asked.append([number for number, _ in asked])
        await self.go.wait()
        for number, answer in asked:
            if number == 13:
                raise ValueError("unlucky")
            if not answer.done():
                answer.set_result(number**2)


async def test_what_comes_meanwhile_goes_together_into_the_next_question() -> None:
    """Up to a bound; the first is asked at once, with what came in the same turn."""
    oracle = Oracle()
    together = Together([oracle.ask], 3)
    answers = [together.ask(1), together.ask(2)]
    await asyncio.sleep(0)
    answers += [together.ask(number) for number in (3, 4, 5, 6)]
    oracle.go.set()
    assert await asyncio.gather(*answers) == [1, 4, 9, 16, 25, 36]
    assert oracle.asked == [[1, 2], [3, 4, 5], [6]]
    await together.aclose()


async def test_as_many_questions_are_under_way_as_there_are_who_ask() -> None:
    """The second one does not wait for the first."""
    first, second = Oracle(), Oracle()
    together = Together([first.ask, second.ask], 3)
    slow = together.ask(1)
    await asyncio.sleep(0)
    second.go.set()
    first.go.set()
    assert await together.ask(2) == 4
    assert await slow == 1
    assert sorted(first.asked + second.asked) == [[1], [2]]
    await together.aclose()


async def test_an_error_goes_to_those_who_have_no_answer_yet_and_the_next_are_asked() -> None:
    """Who was answered before it is."""
    oracle = Oracle()
    oracle.go.set()
    together = Together([oracle.ask], 3)
    answered, unlucky, behind = together.ask(2), together.ask(13), together.ask(3)
    assert await answered == 4
    for each in (unlucky, behind):
        with pytest.raises(ValueError, match="unlucky"):
            await each
    assert await together.ask(3) == 9
    await together.aclose()


async def test_who_waits_no_longer_is_not_asked_for() -> None:
    """Left before it was asked, or after."""
    oracle = Oracle()
    together = Together([oracle.ask], 3)
    asked = together.ask(1)
    await asyncio.sleep(0)
    asked.cancel()
    gone, waiting = together.ask(2), together.ask(3)
    gone.cancel()
    oracle.go.set()
    assert await waiting == 9
    assert oracle.asked == [[1], [3]]
    await together.aclose()


async def test_at_the_end_nobody_is_left_waiting() -> None:
    """Neither for what is under way, nor for what was not asked yet."""
    oracle = Oracle()
    together = Together([oracle.ask], 1)
    waiting = [together.ask(1), together.ask(2)]
    await asyncio.sleep(0)
    await together.aclose()
    assert [answer.cancelled() for answer in waiting] == [True, True]
