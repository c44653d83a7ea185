"""The owner: follows the log, and decides what to do when Redis, the volume or the log is not as it should be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from services.common import faults
from services.common.errors import (
    BehindHorizon,
    InvariantError,
    LogForked,
    LogUnavailable,
    NewerVersion,
    StorageUnfit,
)
from services.common.events import PROJECTION_VERSION
from services.common.ids import BEGINNING, unix_ms_of
from services.common.log.client import EventLog, LogStatus, compare_fence
from services.common.log.idempotency import first_hour, position_of_hour
from services.common.log.subscription import Subscription, check_chain
from services.db_updater.applier import Applier, At, Step
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.recovery import GRACE_SECONDS, Recovery
from services.db_updater.retention import trim_position
from services.db_updater.volume import Volume, raise_unless_it_passes

NAME: Final = "db-updater"
BATCH_ENTRIES_MAX: Final = 5000
"""Only one that catches up finds so many; a page of an index that several of them change is written once (ADR 31)."""
GATHER_SECONDS: Final = 0.02
"""How long the owner lets entries gather before it looks for more: a batch costs it three fsyncs, on the disk that
writers wait for, and nobody waits for the owner."""
MAINTENANCE_INTERVAL_SECONDS: Final = 1.0
PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 5.0

_logger = structlog.get_logger()


class Owner:
    """Follows the log in the thread that calls run(); everything else may be called from any thread.

    ``leased_position`` is the oldest position that somebody, with a snapshot or a backup, may still go on from,
    ``newest_backup`` what an operator is told to restore. ``at`` is called after each step.
    """

    def __init__(
        self,
        volume: Volume,
        log: EventLog,
        metrics: OwnerMetrics,
        *,
        retention_seconds: int,
        leased_position: Callable[[], int | None] = lambda: None,
        newest_backup: Callable[[], str] = lambda: "BACKUP",
        batch_entries_max: int = BATCH_ENTRIES_MAX,
        grace_seconds: float = GRACE_SECONDS,
        gather_seconds: float = GATHER_SECONDS,
        at: At = faults.reach,
    ) -> None:
        self._volume = volume
        self._log = log
        self._metrics = metrics
        self._applier = Applier(volume, log, metrics, at)
        self._recovery = Recovery(
            volume,
            log,
            self._applier,
            metrics,
            wait=self._wait,
            grace_seconds=grace_seconds,
            batch_entries_max=batch_entries_max,
            at=at,
        )
        self._retention_seconds = retention_seconds
        self._leased_position = leased_position
        self._newest_backup = newest_backup
        self._batch_entries_max = batch_entries_max
        self._gather_seconds = gather_seconds
        self._at = at
        self._subscription: Subscription | None = None
        self._maintained_at = -MAINTENANCE_INTERVAL_SECONDS
        self._pause_seconds = PAUSE_SECONDS_MIN
        self._stopping = threading.Event()
        self._trouble: str | None = "starting"  # passes by itself
        self._refusal: str | None = None  # needs somebody to act

    @property
    def position(self) -> int:
        """The applied position."""
        return self._volume.applied.position

    def readiness(self) -> str | None:
        """Why entries are not applied as they come, None while they are."""
        return self._refusal or self._trouble

    def stop(self) -> None:
        """Make run() return after the batch under way."""
        self._stopping.set()

    def run(self) -> None:
        """Follow the log until stop().

        Faults of Redis, disk and memory are waited out. A log that lost entries is set right. After NewerVersion or
        BehindHorizon nothing is applied any more, but what is held stays available. Raises everything else
        (StorageUnfit for a damaged database): the process must not go on.
        """
        while not self._stopping.is_set():
            try:
                if self._refusal is None:
                    self._follow()
                else:
                    self._watch()
            except _Stopped:
                return
            except (NewerVersion, BehindHorizon) as error:
                self._refuse(error)
            except LogForked as error:
                self._pause("log_forked", error)
            except LogUnavailable as error:
                self._pause("log_unavailable", error)
            except OSError as error:
                self._pause("volume_unavailable", error)
            except DBAPIError as error:
                raise_unless_it_passes(self._volume.name, error)
                self._pause("volume_unavailable", error)

    def _follow(self) -> None:
        """Apply the next batch if there is one, and do what is done about once a second."""
        if self._subscription is None:
            self._subscription = self._resume()
        batch = self._subscription.next_batch()
        if batch:
            self._applier.apply(batch)
        if time.monotonic() - self._maintained_at >= MAINTENANCE_INTERVAL_SECONDS:
            self._maintain()
            self._maintained_at = time.monotonic()
        self._note_progress()
        if 0 < len(batch) < self._batch_entries_max:
            self._stopping.wait(self._gather_seconds)

    def _watch(self) -> None:
        """Keep the metrics true while nothing is applied."""
        self._observe(self._log.status())
        self._stopping.wait(MAINTENANCE_INTERVAL_SECONDS)

    def _resume(self) -> Subscription:
        """Bring database, archive and log together, at start and after every fault.

        1. Look whether the log has lost entries; if so nobody may write until step 4 is done.
        2. Take ownership.
        3. Apply what the archive holds and the database does not, and the reverse.
        4. Start an epoch of a log that is new or has lost entries.
        5. Give back the names of all rejected accounts.
        6. Tell the writers which events we understand.
        """
        status = self._log.status()
        self._applier.check_not_replaced(status.fence)
        loss = self._loss(status) or self._given_up()
        if loss is not None:
            self._trouble = f"log_forked: {loss}"
            self._log.halt(f"{NAME}: {loss}", self._held_position)
            self._at(Step.HALTED)
        self._applier.take_ownership(status.fence)
        self._apply_archived()
        self._archive_applied()
        if loss is not None:
            self._recovery.run(loss)
        elif status.head == BEGINNING:
            self._start_log(status)
        elif status.length == 0 and status.head > self.position:
            raise BehindHorizon(f"applied up to {self.position}, but all entries up to {status.head} are trimmed")
        self._applier.give_back_names(after_position=BEGINNING)
        self._log.announce_version(PROJECTION_VERSION)
        self._metrics.dead_letters.set(self._volume.dead_letters())
        self._metrics.show_recoveries(self._volume.reports)
        self._applier.show_state()
        return self._subscribe(self.position)

    @property
    def _held_position(self) -> int:
        return max(self.position, self._volume.archive.position)

    def _loss(self, status: LogStatus) -> str | None:
        """What shows that the log holds less than it has acknowledged, None if nothing does."""
        if status.halt is not None:
            return status.halt
        if status.head < self._held_position:
            return f"applied up to {self._held_position}, but the log ends at {status.head}"
        if status.fence < self._volume.applied.fence:
            return f"fence {self._volume.applied.fence} was raised, but the log has {status.fence}"
        if status.head == BEGINNING and status.length > 0:
            return f"the log has {status.length} entries, and has forgotten where it ends"
        return None

    def _given_up(self) -> str | None:
        """What a restore has decided, as long as nothing was applied since."""
        if self._volume.gives_up_what_is_missing:
            return f"restored from a backup up to {self.position}, and what the log lacks after that was given up"
        return None

    def _apply_archived(self) -> None:
        if self._volume.archive.position <= self.position:
            return
        _logger.info("archive_replayed", after_position=self.position, up_to_position=self._volume.archive.position)
        for entries in self._volume.archive.read(self.position, self._batch_entries_max):
            understood = check_chain(entries, self.position)
            self._applier.apply(understood)
            check_chain(entries[len(understood) :], self.position)  # raises if there is one that is not understood
            self._check_running()

    def _start_log(self, status: LogStatus) -> None:
        epoch = max(status.epoch, self._volume.applied.epoch) + 1
        self._log.start_epoch(epoch, self._applier.fence, BEGINNING, seen=status)
        _logger.info("epoch_started", epoch=epoch)
        self._at(Step.EPOCH_STARTED)

    def _archive_applied(self) -> None:
        """Archive what a crash left out, which the database has kept; and all of an archive that was lost."""
        self._volume.archive_last_batch()
        archive = self._volume.archive
        while archive.position < self.position:
            entries = self._log.read(archive.position, entries_max=self._batch_entries_max)
            try:
                continuing = check_chain(entries, archive.position)
            except LogForked:
                continuing = []
            missing = [entry for entry in continuing if entry.position <= self.position]
            if not missing:
                raise BehindHorizon(f"the archive ends at {archive.position}, and the log lacks what comes next")
            archive.append(missing)
            self._check_running()

    def _subscribe(self, after_position: int) -> Subscription:
        return Subscription(self._log, after_position, name=NAME, entries_max=self._batch_entries_max)

    def _maintain(self) -> None:
        """Look at the log, then hear who has left it, show our progress, trim and drop what nobody needs any more."""
        status = self._log.status()
        compare_fence(status.fence, self._applier.fence)
        if (loss := self._loss(status)) is not None:
            raise LogForked(loss)
        self._observe(status)
        self._recovery.hear(status)
        self._log.show_progress(self.position, self._volume.applied.entries)
        self._at(Step.PROGRESS_SHOWN)
        self._trim(status)
        self._drop_answers(status)
        self._at(Step.TRIMMED)

    def _trim(self, status: LogStatus) -> None:
        up_to_position = trim_position(
            self._volume.archive.position, status.time_ms, self._retention_seconds, self._leased_position()
        )
        if status.horizon is not None and status.horizon <= up_to_position:
            faults.reach("trim:before")
            trimmed = self._log.trim(up_to_position, self._applier.fence)
            self._metrics.trimmed_entries_total.inc(trimmed)
            _logger.debug("log_trimmed", up_to_position=up_to_position, entries=trimmed)

    def _drop_answers(self, status: LogStatus) -> None:
        """By the head of the log, which no wrong clock has moved, and not by TIME."""
        hour = first_hour(status.head)
        if self._log.drop_answers(hour):
            self._volume.private.answers.forget_before(position_of_hour(hour))

    def _observe(self, status: LogStatus) -> None:
        is_behind = status.head > self.position
        self._metrics.lag_entries.set(max(status.entries_added - self._volume.applied.entries, 1) if is_behind else 0)
        waiting = self._log.read(self.position, entries_max=1) if is_behind else []
        oldest_ms = unix_ms_of(waiting[0].position) if waiting else status.time_ms
        self._metrics.lag_seconds.set(max(status.time_ms - oldest_ms, 0) / 1000)

    def _note_progress(self) -> None:
        if self._trouble is not None:
            _logger.info("applying", applied_position=self.position, fence=self._applier.fence)
            self._trouble = None
            self._pause_seconds = PAUSE_SECONDS_MIN
            self._metrics.is_applying.set(1)

    def _pause(self, reason: str, error: Exception) -> None:
        """Wait, longer each time, then resume from what the volume and the log hold by then."""
        is_known = self._trouble is not None and self._trouble.startswith(reason)
        self._trouble = f"{reason}: {error}"
        if not is_known:
            self._metrics.is_applying.set(0)
            self._metrics.faults_total.labels(reason).inc()
            _logger.error("applying_paused", reason=reason, error=str(error), applied_position=self.position)
        self._subscription = None
        self._stopping.wait(self._pause_seconds)
        self._pause_seconds = min(self._pause_seconds * 2, PAUSE_SECONDS_MAX)

    def _refuse(self, error: InvariantError) -> None:
        """Stop applying for good; what is held stays available. Raises StorageUnfit when nothing is held."""
        command = f"twitter restore --from {self._newest_backup()}"
        if isinstance(error, BehindHorizon) and self.position == BEGINNING:
            raise StorageUnfit(
                f"{self._volume.name} is empty, and neither the archive nor the log holds the beginning "
                f"({error}); run `{command}`"
            ) from error
        remedy = f"; run `{command} --replace`" if isinstance(error, BehindHorizon) else ""
        self._refusal = f"{error}{remedy}"
        self._metrics.is_applying.set(0)
        self._metrics.faults_total.labels(type(error).__name__).inc()
        _logger.critical("applying_stopped", reason=self._refusal, applied_position=self.position)

    def _check_running(self) -> None:
        self._wait(0)

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise _Stopped


class _Stopped(Exception):
    """stop() was called in the middle of a long step."""
