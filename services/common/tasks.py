"""Work in tasks, of whose outcome somebody is told who does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """Those under way; the event loop itself would let them be collected."""

    def __init__(self) -> None:
        self._begun: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, T], finish: Callable[[T | Exception], None]) -> None:
        """Do some work in a task, and call ``finish`` with what comes of it, or with the error that it raised."""

        async def run() -> None:
            try:
                outcome: T | Exception = await work
            except Exception as error:  # noqa: BLE001 - who finishes knows what to answer to it
                outcome = error
            finish(outcome)

        task = asyncio.create_task(run())
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
