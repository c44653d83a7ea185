"""Threads that answer queries, each on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from sqlalchemy import Engine

from services.common.errors import Overloaded, StoreUnavailable
from services.common.views import Reader

T = TypeVar("T")

QUEUED_MAX: Final = 200


class ReaderThreads:
    """Runs queries of the event loop. After a query that failed, new connections are used.

    With ``answer_seconds``, whoever asked waits no longer than that.
    """

    def __init__(self, engine: Engine, threads: int, *, answer_seconds: float | None = None) -> None:
        self._engine = engine
        self._answer_seconds = answer_seconds
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._idle: SimpleQueue[Reader] = SimpleQueue()
        self._queued = 0

    async def run(self, query: Callable[[Reader], T]) -> T:
        """The result of a query. Raises Overloaded when too many wait, StoreUnavailable."""
        if self._queued >= QUEUED_MAX:
            raise Overloaded(f"{QUEUED_MAX} queries wait already")
        self._queued += 1
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, query)
        except TimeoutError:
            raise StoreUnavailable(f"the database did not answer within {self._answer_seconds} s") from None
        finally:
            self._queued -= 1

    def reconnect(self) -> None:
        """Let queries from here on use new connections."""
        while True:
            try:
                self._idle.get_nowait().discard()
            except Empty:
                return

    def close(self) -> None:
        """Let the queries under way finish, then close their connections."""
        self._threads.shutdown()
        self.reconnect()

    def _answer(self, query: Callable[[Reader], T]) -> T:
        try:
            reader = self._idle.get_nowait()
        except Empty:
            reader = Reader(self._engine)
        try:
            answer = query(reader)
        except BaseException:
            reader.discard()
            self.reconnect()
            raise
        self._idle.put(reader)
        return answer
