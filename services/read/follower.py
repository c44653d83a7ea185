"""The thread that keeps up with the log what this process answers from.

=================  ==========================================================================================
what it meets      what it does; reads go on all the while, from what is applied, marked with its age
=================  ==========================================================================================
LogUnavailable     tries again, for ever
BehindHorizon      opens the backing anew above its position (a replica: from a snapshot), and swaps it in
LogForked          has halted the log; waits for the owner's new epoch, which is met as BehindHorizon
NewerVersion       applies nothing more and is not ready: a newer program must take its place
OwnerUnavailable   tries again, for ever
disk, memory, a    tries again, for ever
database's server
anything else      is a bug: run() raises it, and the process ends
=================  ==========================================================================================
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from sqlalchemy.exc import DBAPIError

from services.common.database import is_environment_fault
from services.common.errors import (
    BehindHorizon,
    LogForked,
    LogUnavailable,
    NewerVersion,
    OwnerUnavailable,
    PositionNotReached,
)
from services.common.ids import BEGINNING
from services.common.log.client import EventLog
from services.common.log.subscription import Subscription
from services.read.generations import Changes
from services.read.metrics import ReadMetrics
from services.read.store import Backing

NAME: Final = "read"
BATCH_ENTRIES_MAX: Final = 2000
"""Fewer than the owner's (ADR 47): what a batch has taken, the process keeps."""
PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 2.0

log = structlog.get_logger(__name__)


class Backings(Protocol):
    """Where what is answered from comes from."""

    def open(self, *, at_least: int, is_cancelled: Callable[[], bool]) -> Backing:
        """One of at least a position. Raises OwnerUnavailable."""


class Follower:
    """Follows the log in the thread that calls run(); stop(), readiness() and age_seconds() are for any thread.

    ``adopt`` puts a backing into service and returns when the one before it is no longer used; ``note_applied``
    is told what each batch has changed, in order.
    """

    def __init__(
        self,
        event_log: EventLog,
        backings: Backings,
        metrics: ReadMetrics,
        *,
        adopt: Callable[[Backing], None],
        note_applied: Callable[[Changes], None],
    ) -> None:
        self._log = event_log
        self._backings = backings
        self._metrics = metrics
        self._adopt = adopt
        self._note_applied = note_applied
        self._backing: Backing | None = None
        self._subscription: Subscription | None = None
        self._is_outdated = True
        self._is_backfilling = True
        self._trouble: str | None = None
        self._refusal: str | None = None
        self._pause_seconds = PAUSE_SECONDS_MIN
        self._current_at = time.monotonic()
        self._stopping = threading.Event()

    def readiness(self) -> str | None:
        """Why not to send reads here, None while they are answered well enough."""
        if self._backing is None:
            return self._trouble or "opening what to answer from"
        return self._refusal or ("backfilling" if self._is_backfilling else None)

    def age_seconds(self) -> float:
        """How long ago what is served was last known to hold all of the log."""
        return time.monotonic() - self._current_at

    def stop(self) -> None:
        """Make run() return after the batch under way."""
        self._stopping.set()

    def run(self) -> None:
        """Follow the log until stop(). Raises what no retry can cure."""
        try:
            while not self._stopping.is_set():
                self._go_on()
        finally:
            if self._backing is not None:
                self._backing.close()

    def _go_on(self) -> None:
        try:
            self._follow()
        except BehindHorizon as error:
            log.warning("follower_outdated", error=str(error))
            self._is_outdated = True
        except NewerVersion as error:
            log.error("follower_stopped", error=str(error))
            self._refusal = str(error)
            self._stopping.wait()
        except (LogForked, LogUnavailable, OwnerUnavailable, PositionNotReached, OSError) as error:
            self._pause(error)
        except DBAPIError as error:
            if not is_environment_fault(error):
                raise
            self._pause(error)

    def _follow(self) -> None:
        """Get beyond the next batch, with a backing that can."""
        backing = self._backing
        if backing is None or self._is_outdated:
            backing = self._open(backing)
        if self._subscription is None:
            self._subscription = Subscription(self._log, backing.position, name=NAME, entries_max=BATCH_ENTRIES_MAX)
        entries = self._subscription.next_batch()
        asked_at = time.monotonic()
        if entries:
            self._note_applied(backing.apply(entries))
            self._metrics.applied_batches.inc()
            self._metrics.applied_entries.inc(len(entries))
        if len(entries) < BATCH_ENTRIES_MAX:
            self._current_at = asked_at
            self._is_backfilling = False
        self._note_progress()

    def _open(self, outdated: Backing | None) -> Backing:
        """Put a backing above what is served now into service, and close what it replaces."""
        above_position = BEGINNING if outdated is None else outdated.position + 1
        backing = self._backings.open(at_least=above_position, is_cancelled=self._stopping.is_set)
        self._adopt(backing)
        self._backing = backing
        self._subscription = None
        self._is_outdated = False
        if outdated is not None:
            outdated.close()
        log.info("backing_opened", position=backing.position)
        return backing

    def _pause(self, error: Exception) -> None:
        """Wait a little longer each time, and begin again from what is applied."""
        self._subscription = None
        if isinstance(error, LogUnavailable | LogForked):
            self._is_backfilling = False  # what there is, is all one can have now
        if self._trouble is None:
            log.warning("follower_waits", reason=type(error).__name__, error=str(error))
        self._trouble = str(error)
        self._stopping.wait(self._pause_seconds)
        self._pause_seconds = min(self._pause_seconds * 2, PAUSE_SECONDS_MAX)

    def _note_progress(self) -> None:
        if self._trouble is not None:
            log.info("follower_goes_on", after=self._trouble)
        self._trouble = None
        self._pause_seconds = PAUSE_SECONDS_MIN
