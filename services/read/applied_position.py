"""How far this process has applied the log, and waiting for it to get further."""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections.abc import Callable
from itertools import count
from typing import Final

from services.common.errors import PositionNotReached
from services.common.ids import BEGINNING, position_at, unix_ms_of

WAITERS_MAX: Final = 10_000
AHEAD_MS_MAX: Final = 60_000
"""A position made this far ahead of now cannot be one that anybody was given; clocks may differ by less."""

_Waiter = tuple[int, int, asyncio.Future[None]]


class AppliedPosition:
    """The applied position as clients see it: it only grows. For the thread of the event loop only."""

    def __init__(self, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._clock_ms = clock_ms
        self.value = BEGINNING
        self._waiters: list[_Waiter] = []  # in the order of their positions
        self._numbers = count()

    def advance(self, position: int) -> None:
        """Note that the log is applied up to ``position``, and wake those who waited for it."""
        self.value = max(self.value, position)
        reached = 0
        for at, _, future in self._waiters:
            if at > self.value:
                break
            reached += 1
            if not future.done():
                future.set_result(None)
        del self._waiters[:reached]

    def lies_ahead(self, position: int) -> bool:
        """Whether a position is a minute or more ahead of now, by this clock and by the log's own."""
        now_ms = max(self._clock_ms(), unix_ms_of(self.value))
        return position >= position_at(now_ms + AHEAD_MS_MAX)

    async def reach(self, position: int, timeout_seconds: float) -> None:
        """Wait until ``position`` is applied. Raises PositionNotReached after the timeout."""
        if position <= self.value:
            return
        if len(self._waiters) >= WAITERS_MAX:
            raise PositionNotReached(f"{WAITERS_MAX} requests wait for a position already")
        waiter = (position, next(self._numbers), asyncio.get_running_loop().create_future())
        insort(self._waiters, waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiter[2]
        except TimeoutError:
            raise PositionNotReached(f"asked for {position}, applied up to {self.value}") from None
        finally:
            if position > self.value:
                self._waiters.remove(waiter)
