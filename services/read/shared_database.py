"""READ_STORE=shared: the owner's database itself, read by any number of processes and written by none of them.

How far a process goes is not how far the database goes: rows that were read before an event may be in its cache, and
they must be out of it before anybody is told that the event is in. So the process follows the log, waits for each batch
until its own connection has seen it applied, drops what that made out of date, and only then counts it (HAZARDS 17).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from services.common import projection
from services.common.database import Database, open_reader, shown
from services.common.errors import OwnerUnavailable, PositionNotReached
from services.common.ids import BEGINNING
from services.common.log.entry import Entry
from services.common.views import Answer, Reader
from services.read.generations import Changes, changed_by
from services.read.reader_threads import ReaderThreads

T = TypeVar("T")

THREADS: Final = 8
ANSWER_SECONDS: Final = 0.8
POLL_SECONDS_MIN: Final = 0.002
POLL_SECONDS_MAX: Final = 0.05
RECONNECT_SECONDS: Final = 5.0
"""A database that gets no further for so long may have been replaced: by a rebuilt file, or by another server."""


class SharedDatabase:
    """The database, at the position up to which this process has dropped what is out of date."""

    is_own: Final = False

    def __init__(self, database: Database, position: int, is_cancelled: Callable[[], bool]) -> None:
        self.position = position
        self._is_cancelled = is_cancelled
        self._engine = open_reader(database)
        self._threads = ReaderThreads(self._engine, THREADS, answer_seconds=ANSWER_SECONDS)

    async def look_up(self, view: Callable[[Reader], Answer[T]]) -> Answer[T]:
        """What a view finds. Raises StoreUnavailable; PositionNotReached where this server is behind another."""
        at_least = self.position
        answer = await self._threads.run(view)
        if answer.read_position < at_least:
            raise PositionNotReached(f"the database is at {answer.read_position}, and was at {at_least} before")
        return answer

    run = look_up

    def look_up_now(self, _view: Callable[[Reader], Answer[T]]) -> Answer[T] | None:
        """Nothing: the database is asked in a thread."""
        return None

    def renew(self) -> None:
        """Each look-up finds the newest state by itself."""

    def apply(self, entries: Sequence[Entry]) -> Changes:
        """Wait until the owner has applied entries; says what they may have changed."""
        position = entries[-1].position
        self._wait_for(position)
        with self._engine.begin() as connection:
            touched = projection.touched_by(connection, entries)
        self.position = position
        return Changes(position, None if touched is None else frozenset(changed_by(touched)))

    def close(self) -> None:
        """Let the queries under way finish, then close the connections. The event loop uses it no more."""
        self._threads.close()
        self._engine.dispose()

    def _wait_for(self, position: int) -> None:
        pause_seconds, reconnect_at = POLL_SECONDS_MIN, time.monotonic() + RECONNECT_SECONDS
        while self._applied_position() < position:
            if self._is_cancelled():
                raise PositionNotReached(f"stopped while the owner had not applied {position}")
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, POLL_SECONDS_MAX)
            if time.monotonic() > reconnect_at:
                reconnect_at = time.monotonic() + RECONNECT_SECONDS
                self._threads.reconnect()
                self._engine.dispose()

    def _applied_position(self) -> int:
        with self._engine.begin() as connection:
            return projection.applied(connection).position


class SharedDatabases:
    """Opens the one database that there is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, *, at_least: int, is_cancelled: Callable[[], bool]) -> SharedDatabase:
        """The database, once it is at or above a position. Raises OwnerUnavailable before."""
        position = self._position()
        # At the beginning nothing is known of this log, and a cache may hold what was read from one before it.
        if position < max(at_least, BEGINNING + 1):
            raise OwnerUnavailable(f"{shown(self._database)} is at {position}, not yet at {at_least}")
        return SharedDatabase(self._database, position, is_cancelled)

    def _position(self) -> int:
        if isinstance(self._database, Path) and not self._database.exists():
            return BEGINNING  # to open it would create it
        engine = open_reader(self._database)
        try:
            with engine.begin() as connection:
                return projection.applied(connection).position if projection.is_made(connection) else BEGINNING
        finally:
            engine.dispose()
