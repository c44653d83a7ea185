"""Questions that are asked together: those that come while others are under way go into the next ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

Asked = tuple[Q, asyncio.Future[A]]
"""A question, and where its answer goes."""

Ask = Callable[[Sequence[tuple[Q, asyncio.Future[A]]]], Awaitable[None]]
"""Asks these questions and settles their futures, but those that are done: nobody waits for them any more."""


class Together(Generic[Q, A]):
    """As many questions at once as there are ``asks``, and in each whatever has gathered, up to ``questions_max``.

    Nothing waits for company: a lone question is asked at once.
    """

    def __init__(self, asks: Iterable[Ask[Q, A]], questions_max: int) -> None:
        self._idle = list(asks)
        self._questions_max = questions_max
        self._asked: deque[Asked[Q, A]] = deque()
        self._working: set[asyncio.Task[None]] = set()

    def ask(self, question: Q) -> asyncio.Future[A]:
        """The answer; what an ``ask`` raises is raised to all whom it has left without one."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._asked.append((question, answer))
        if self._idle:
            task = asyncio.create_task(self._work(self._idle.pop()))
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        return answer

    async def aclose(self) -> None:
        """Ask no more. Who still waits is cancelled."""
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        _cancel(self._asked)

    async def _work(self, ask: Ask[Q, A]) -> None:
        """Ask whatever waits, until nothing does."""
        try:
            while asked := self._take():
                try:
                    await ask(asked)
                except Exception as error:  # noqa: BLE001 - whoever waits is told
                    for _, answer in asked:
                        if not answer.done():
                            answer.set_exception(error)
                finally:
                    _cancel(asked)
        finally:
            self._idle.append(ask)

    def _take(self) -> list[Asked[Q, A]]:
        asked: list[Asked[Q, A]] = []
        while self._asked and len(asked) < self._questions_max:
            question, answer = self._asked.popleft()
            if not answer.done():  # else nobody waits for it any more
                asked.append((question, answer))
        return asked


def _cancel(asked: Iterable[Asked[Q, A]]) -> None:
    for _, answer in asked:
        answer.cancel()
