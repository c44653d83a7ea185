"""READ_STORE=replica: one file of this process's own, its one writer, and its readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

from services.common import faults, projection
from services.common.database import open_reader, open_writer
from services.common.log.entry import Entry
from services.common.snapshot import Snapshot
from services.common.views import Answer, Reader
from services.read.generations import Changes, changed_by
from services.read.metrics import ReadMetrics
from services.read.reader_threads import ReaderThreads
from services.read.replica_directory import ReplicaDirectory

T = TypeVar("T")

HEAVY_THREADS: Final = 2


class Replica:
    """A private copy of the public tables. It is thrown away at a crash, so its writes are not made durable."""

    is_own: Final = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = open_writer(path, "off")
        self._connection = self._writer.connect()
        self._engine = open_reader(path, is_mapped=True)
        self.reader = Reader(self._engine)
        self._threads = ReaderThreads(self._engine, HEAVY_THREADS)
        with self._connection.begin():
            self.position = projection.applied(self._connection).position

    async def look_up(self, view: Callable[[Reader], Answer[T]]) -> Answer[T]:
        """What a view finds, at once: a thread would cost more than it takes."""
        return self.look_up_now(view)

    def look_up_now(self, view: Callable[[Reader], Answer[T]]) -> Answer[T]:
        """The same. One turn of the event loop reads one state: to begin to read takes three system calls."""
        if not self.reader.is_held:
            self.reader.hold()
            asyncio.get_running_loop().call_soon(self.renew)
        return view(self.reader)

    def renew(self) -> None:
        """Let look-ups from here on find what has been applied."""
        self.reader.release()

    async def run(self, view: Callable[[Reader], Answer[T]]) -> Answer[T]:
        """What a view finds that takes milliseconds, in a thread."""
        return await self._threads.run(view)

    def apply(self, entries: Sequence[Entry]) -> Changes:
        """Apply consecutive entries in one transaction."""
        with self._connection.begin():
            batch = projection.apply(self._connection, entries)
            faults.reach("replica:before_commit")
        self.position = batch.position
        faults.reach("replica:after_commit")
        return Changes(batch.position, frozenset(changed_by(batch.touched)))

    def close(self) -> None:
        """Let the queries under way finish, then close and remove the file. The event loop uses it no more."""
        self._threads.close()
        self.reader.close()
        self._engine.dispose()
        self._connection.close()
        self._writer.dispose()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


class Snapshots(Protocol):
    """Where snapshots come from."""

    def fetch(self, target: Path, *, at_least: int, is_cancelled: Callable[[], bool]) -> Snapshot:
        """Put one of at least a position into ``target``. Raises OwnerUnavailable, and then leaves no file."""


class Replicas:
    """Makes replicas from snapshots."""

    def __init__(self, snapshots: Snapshots, directory: ReplicaDirectory, metrics: ReadMetrics) -> None:
        self._snapshots = snapshots
        self._directory = directory
        self._metrics = metrics

    def open(self, *, at_least: int, is_cancelled: Callable[[], bool]) -> Replica:
        """A replica at or above a position. Raises OwnerUnavailable."""
        path = self._directory.new_file()
        self._snapshots.fetch(path, at_least=at_least, is_cancelled=is_cancelled)
        replica = Replica(path)
        self._metrics.snapshots_taken.inc()
        return replica
