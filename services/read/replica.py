"""One replica file: its one writer, and its readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from services.common import projection
from services.common.database import open_reader, open_writer
from services.common.errors import Overloaded
from services.common.log.entry import Entry
from services.common.projection import AppliedBatch
from services.common.views import Reader

T = TypeVar("T")

HEAVY_THREADS: Final = 2
HEAVY_QUEUED_MAX: Final = 200


class Replica:
    """A private copy of the public tables. It is thrown away at a crash, so its writes are not made durable.

    ``apply`` and ``close`` belong to the follower's thread, ``reader`` and ``run`` to the event loop's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = open_writer(path, "off")
        self._engine = open_reader(path)
        self.reader = Reader(self._engine)
        self._idle: SimpleQueue[Reader] = SimpleQueue()
        for _ in range(HEAVY_THREADS):
            self._idle.put(Reader(self._engine))
        self._threads = ThreadPoolExecutor(HEAVY_THREADS, thread_name_prefix="heavy-read")
        self._queued = 0
        with self._writer.begin() as connection:
            self.position = projection.applied(connection).position

    def apply(self, entries: Sequence[Entry]) -> AppliedBatch:
        """Apply consecutive entries in one transaction."""
        with self._writer.begin() as connection:
            batch = projection.apply(connection, entries)
        self.position = batch.position
        return batch

    async def run(self, query: Callable[[Reader], T]) -> T:
        """Run a query that takes milliseconds in a thread. Raises Overloaded when too many wait."""
        if self._queued >= HEAVY_QUEUED_MAX:
            raise Overloaded(f"{HEAVY_QUEUED_MAX} heavy queries wait already")
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_reader, query)
        finally:
            self._queued -= 1

    def close(self) -> None:
        """Let the queries under way finish, then close and remove the file. The event loop uses it no more."""
        self._threads.shutdown()
        for reader in (self.reader, *(self._idle.get_nowait() for _ in range(HEAVY_THREADS))):
            reader.close()
        self._engine.dispose()
        self._writer.dispose()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _with_reader(self, query: Callable[[Reader], T]) -> T:
        reader = self._idle.get_nowait()  # as many as threads
        try:
            return query(reader)
        finally:
            self._idle.put(reader)
