"""Backups on a schedule, and when asked for: one at a time, in a thread of their own, never in the way of the owner."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from services.common import backup
from services.common.backup import Backup, OwnersFiles
from services.common.errors import OwnerUnavailable
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.volume import Volume

RETRY_SECONDS_MAX: Final = 60.0
"""How soon another one is tried after one that failed; sooner if the interval is shorter."""

HELD_INTERVALS: Final = 3
"""For so many intervals the log is kept back to the newest backup. Then the log's memory counts for more."""

STOP_SECONDS: Final = 3.0
_FILLING_SECONDS: Final = 1.0

_logger = structlog.get_logger()


class BackupSchedule:
    """Makes a backup of a volume every ``interval_seconds`` and whenever one is requested; keeps the newest ``keep``.

    One that fails is logged and counted, and tried again; the owner goes on. The process may end in the middle of one.
    """

    def __init__(
        self,
        volume: Volume,
        source: OwnersFiles,
        directory: Path,
        metrics: OwnerMetrics,
        *,
        interval_seconds: float,
        keep: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._volume = volume
        self._source = source
        self._directory = directory
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._keep = keep
        self._clock = clock
        self._requests: queue.SimpleQueue[Future[Backup] | None] = queue.SimpleQueue()
        self._newest = backup.newest_backup(directory)
        self._failed_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="backups", daemon=True)
        metrics.backup_interval_seconds.set(interval_seconds)
        self._show_newest()

    def start(self) -> None:
        """Begin with the schedule."""
        self._thread.start()

    def close(self) -> None:
        """Stop. A backup under way gets a moment; what is left of it, the next one clears away."""
        self._requests.put(None)
        self._thread.join(STOP_SECONDS)

    def request(self) -> Future[Backup]:
        """Make a backup as soon as the one under way is done."""
        future: Future[Backup] = Future()
        self._requests.put(future)
        return future

    def held_position(self) -> int | None:
        """The position from which the log is still needed, so that the newest backup and the log make the whole."""
        newest = self._newest
        if newest is None or self._clock() - newest.manifest.unix_seconds > HELD_INTERVALS * self._interval_seconds:
            return None
        return newest.manifest.position

    def _run(self) -> None:
        while True:
            try:
                request = self._requests.get(timeout=self._seconds_until_due())
            except queue.Empty:
                request = Future()
            if request is None:
                return
            self._answer(request)

    def _seconds_until_due(self) -> float:
        if self._volume.is_filling:
            return _FILLING_SECONDS
        due_at = self._newest.manifest.unix_seconds + self._interval_seconds if self._newest else 0.0
        if self._failed_at is not None:
            due_at = max(due_at, self._failed_at + min(self._interval_seconds, RETRY_SECONDS_MAX))
        return max(due_at - self._clock(), 0.0)

    def _answer(self, request: Future[Backup]) -> None:
        if self._volume.is_filling:
            request.set_exception(OwnerUnavailable("no backup yet: the database is still being filled"))
            return
        try:
            request.set_result(self._make())
        except Exception as error:  # noqa: BLE001 - whatever it is, the next one is tried, and everybody hears of it
            self._failed_at = self._clock()
            self._metrics.backup_failures_total.inc()
            reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
            _logger.critical("backup_failed", directory=str(self._directory), reason=reason)
            request.set_exception(OwnerUnavailable(f"the backup failed: {reason}"))

    def _make(self) -> Backup:
        started_at = time.perf_counter()
        made = backup.make(self._source, self._directory, self._volume.batch_lock)
        self._newest, self._failed_at = made, None
        seconds = time.perf_counter() - started_at
        self._metrics.backup_seconds.observe(seconds)
        self._show_newest()
        removed = backup.prune(self._directory, self._keep, made)
        _logger.info(
            "backup_made",
            path=str(made.path),
            position=made.manifest.position,
            bytes=made.manifest.size_bytes,
            seconds=seconds,
            removed=len(removed),
        )
        return made

    def _show_newest(self) -> None:
        if self._newest is not None:
            self._metrics.backup_success_timestamp_seconds.set(self._newest.manifest.unix_seconds)
            self._metrics.backup_bytes.set(self._newest.manifest.size_bytes)
