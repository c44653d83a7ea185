"""Snapshots on offer: made when asked for, shared by those who ask at the same time, and kept no longer than needed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import structlog
from anyio import to_thread
from sqlalchemy.exc import DBAPIError

from services.common import snapshot
from services.common.database import Database, shown
from services.common.errors import OwnerUnavailable
from services.common.snapshot import Snapshot
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.volume import raise_unless_it_passes

REUSE_SECONDS: Final = 5.0
"""A snapshot this young is handed out again; shorter than any lease, so that its entries are still in the log."""

_PREFIX: Final = "offered-"
_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshot and its open file, which stays readable when the snapshot is reaped. Whoever takes it closes it."""

    snapshot: Snapshot
    file: BinaryIO


class SnapshotShelf:
    """Makes and hands out snapshots of a database, in an event loop; leased_position() is for any thread.

    Each one handed out is a lease on its position: until it ends the log must keep the entries behind it, so that
    the reader can go on from there. At most one file is on offer; the one before it is reaped.
    """

    def __init__(
        self,
        database: Database,
        directory: Path,
        metrics: OwnerMetrics,
        *,
        applied_position: Callable[[], int],
        lease_seconds: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._directory = directory
        self._metrics = metrics
        self._applied_position = applied_position
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lock = asyncio.Lock()
        self._newest: Snapshot | None = None
        self._made_at = 0.0
        self._leases: dict[int, float] = {}  # position -> when it ends; replaced whole, for readers in other threads
        directory.mkdir(parents=True, exist_ok=True)
        self._reap(keep=None)

    async def take(self) -> Offer:
        """The snapshot on offer if it is new enough, else one made now. Raises OwnerUnavailable if that fails."""
        async with self._lock:
            applied_position = self._applied_position()
            self._lease(applied_position)  # no copy made from here on is before it
            newest = self._newest
            if newest is None or not self._is_fresh(newest, applied_position):
                newest = await to_thread.run_sync(self._make)
                self._newest, self._made_at = newest, self._clock()
            self._lease(newest.position)
            self._metrics.snapshots_served_total.inc()
            return Offer(newest, newest.path.open("rb"))

    def leased_position(self) -> int | None:
        """The oldest position that somebody with a snapshot may still go on from, None without any."""
        now = self._clock()
        return min((position for position, ends_at in self._leases.items() if ends_at > now), default=None)

    def _is_fresh(self, newest: Snapshot, applied_position: int) -> bool:
        is_young = self._clock() - self._made_at < REUSE_SECONDS
        return (is_young or newest.position == applied_position) and newest.path.exists()

    def _lease(self, position: int) -> None:
        now = self._clock()
        held = {position: ends_at for position, ends_at in self._leases.items() if ends_at > now}
        self._leases = {**held, position: now + self._lease_seconds}

    def _make(self) -> Snapshot:
        started_at = time.perf_counter()
        target = self._directory / f"{_PREFIX}{next(self._numbers):06d}.db"
        try:
            made = snapshot.make(self._database, target)
        except OSError as error:
            raise OwnerUnavailable(f"no snapshot can be made: {error}") from error
        except DBAPIError as error:
            raise_unless_it_passes(shown(self._database), error)
            raise OwnerUnavailable(f"no snapshot can be made: {error.orig}") from error
        self._reap(keep=made.path)
        seconds = time.perf_counter() - started_at
        self._metrics.snapshot_seconds.observe(seconds)
        _logger.info("snapshot_made", position=made.position, bytes=made.size_bytes, seconds=seconds)
        return made

    def _reap(self, keep: Path | None) -> None:
        """Remove all snapshots but one, also those that an earlier process left behind."""
        for path in self._directory.glob(f"{_PREFIX}*"):
            if path != keep:
                path.unlink(missing_ok=True)
