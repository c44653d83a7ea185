"""The way out of a fork: a new epoch that continues from the owner's state, after the log has lost entries (ADR 9).

What a crash leaves behind, by the step it struck after. The log stays halted until the last step, so the next start
finds it so and does all of this again.

===================  ========================================  ====================================================
step                 left behind                               next start
===================  ========================================  ====================================================
halted               a halted log                              begins again
caught up            the same, with more of it applied         begins again, with nothing left to apply
discarded saved      a report of an epoch not started yet      writes the same report again
accounts rebuilt     names as SQLite has them, or half of them  writes them again
answers rebuilt      the same for idempotency keys              writes them again
epoch started        an entry that is not applied              applies it: nothing is left to recover
===================  ========================================  ====================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import structlog

from services.common.errors import BehindHorizon, LogForked
from services.common.ids import BEGINNING
from services.common.log.client import EventLog, LogStatus
from services.common.log.entry import Entry
from services.common.log.subscription import check_chain
from services.db_updater.applier import Applier, At, Step
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.reports import RecoverySummary
from services.db_updater.volume import Volume

GRACE_SECONDS: Final = 3.0
"""Longer than followers and writers wait between two looks at the log, and than the deadline of any append."""

_logger = structlog.get_logger()


class Recovery:
    """Runs in the owner's thread. ``wait`` sleeps for some seconds, or raises when the owner is to stop."""

    def __init__(
        self,
        volume: Volume,
        log: EventLog,
        applier: Applier,
        metrics: OwnerMetrics,
        *,
        wait: Callable[[float], None],
        grace_seconds: float,
        batch_entries_max: int,
        at: At,
    ) -> None:
        self._volume = volume
        self._log = log
        self._applier = applier
        self._metrics = metrics
        self._wait = wait
        self._grace_seconds = grace_seconds
        self._batch_entries_max = batch_entries_max
        self._at = at

    def run(self, reason: str) -> None:
        """Start a new epoch of a log that has lost entries and is halted.

        1. Wait for those who hold more than we do to say so. Nothing rests on having heard all of them: positions are
           made of time, so the epoch lies above everything that was acknowledged unless a clock was set back, and who
           then comes later with a greater position halts the log again, and the next epoch lies above that.
        2. Apply what the log still has and we do not, as far as it continues from our position.
        3. Save and count what it holds beside our history.
        4. Rebuild names, e-mails, credentials and answers under idempotency keys from SQLite.
        5. Start the epoch, in one call that checks the fence and that the log is as it was in step 3, removes all
           entries before, and lifts the halt.

        Raises BehindHorizon when this volume cannot say what is true (it holds nothing, or lacks entries that no
        restore has given up), NewerVersion when it cannot understand it, LogForked when the log has changed
        meanwhile: begin again.
        """
        _logger.critical("recovery_began", reason=reason, applied_position=self._volume.applied.position)
        self._wait(self._grace_seconds)
        missing_entries = self._catch_up()
        if self._volume.applied.position == BEGINNING:
            raise BehindHorizon(f"nothing is applied here, and the log is halted: {reason}")
        self._at(Step.CAUGHT_UP)
        seen = self._log.status()
        epoch = max(seen.epoch, self._volume.applied.epoch) + 1
        self._save_discarded(epoch, reason, seen, missing_entries)
        self._at(Step.DISCARDED_SAVED)
        self._rebuild_accounts()
        self._at(Step.ACCOUNTS_REBUILT)
        self._rebuild_answers()
        self._at(Step.ANSWERS_REBUILT)
        self._start_epoch(epoch, seen)

    def hear(self, status: LogStatus) -> None:
        """Report what was lost and nobody said so in time: those who had seen it were cut off during the recovery.

        What is in the archive was only trimmed; what lies above its end is decided when it gets there.
        """
        decided = [position for position in status.abandoned if position <= self._volume.archive.position]
        for position in decided:
            entry = self._volume.archive.first_from(position)
            if entry and entry.position != position and not self._volume.reports.covers(position):
                self._report_late(position, entry.prev, status)
        if decided:
            self._log.forget_abandoned(decided)

    def _report_late(self, position: int, base_position: int, status: LogStatus) -> None:
        loss = RecoverySummary(
            epoch=status.epoch,
            reason=f"somebody had seen {position}, and came back after the recovery",
            base_position=base_position,
            log_head=base_position,
            reported_position=position,
            unix_ms=status.time_ms,
        )
        self._volume.reports.save_late(loss)
        self._metrics.show_recoveries(self._volume.reports)
        _logger.critical("loss_reported_late", base_position=base_position, reported_position=position)

    def _catch_up(self) -> int:
        """Apply what continues from our position. Returns how many entries are known to be missing before the others.

        Raises BehindHorizon when there are such, and no restore has given them up.
        """
        while entries := self._log.read(self._volume.applied.position, entries_max=self._batch_entries_max):
            try:
                continuing = check_chain(entries, self._volume.applied.position)
            except LogForked:
                return 0
            except BehindHorizon:
                return self._missing_entries()
            self._applier.apply(continuing)
            self._wait(0)
        return self._missing_entries()

    def _missing_entries(self) -> int:
        """The entries after our position that were trimmed: only an archive that we do not have held them."""
        status, applied = self._log.status(), self._volume.applied
        if status.head <= applied.position:
            return 0
        if not self._volume.gives_up_what_is_missing:
            raise BehindHorizon(f"applied up to {applied.position}, and the log no longer holds what follows")
        return max(status.entries_added - status.length - applied.entries, 0)

    def _save_discarded(self, epoch: int, reason: str, seen: LogStatus, missing_entries: int) -> None:
        recovery = RecoverySummary(
            epoch=epoch,
            reason=reason,
            base_position=self._volume.applied.position,
            log_head=seen.head,
            reported_position=seen.reported,
            unix_ms=seen.time_ms,
            missing_entries=missing_entries,
        )
        summary = self._volume.reports.save(recovery, self._discarded(seen))
        self._metrics.show_recoveries(self._volume.reports)
        _logger.critical(
            "entries_discarded",
            epoch=epoch,
            base_position=summary.base_position,
            log_head=summary.log_head,
            reported_position=summary.reported_position,
            discarded_entries=summary.discarded_entries,
            missing_entries=missing_entries,
        )

    def _discarded(self, seen: LogStatus) -> Iterator[Entry]:
        """The entries of the log that are not in the archive, which holds all of our history."""
        if seen.horizon is None:
            return
        archived = self._archived(seen.horizon - 1)
        ours = next(archived, None)
        position = BEGINNING
        while entries := self._log.read(position, entries_max=self._batch_entries_max):
            for entry in entries:
                while ours is not None and ours.position < entry.position:
                    ours = next(archived, None)
                if entry.kept != ours:
                    yield entry
            position = entries[-1].position
            self._wait(0)

    def _archived(self, after_position: int) -> Iterator[Entry]:
        for entries in self._volume.archive.read(after_position, self._batch_entries_max):
            yield from entries

    def _rebuild_accounts(self) -> None:
        """Make Redis hold the accounts that SQLite holds, and no other.

        First the reverse where only Redis has a credential left, and forget those of accounts that are no more.
        """
        private = self._volume.private
        for usernames in self._volume.usernames(self._batch_entries_max):
            private.save(self._log.credentials(private.unknown(list(usernames))))
        for user_ids in private.user_ids(self._batch_entries_max):
            private.forget(self._volume.absent_users(user_ids))
        self._log.check_fence(self._applier.fence)
        self._log.forget_accounts()
        self._log.hold_names(private.held_names())
        for usernames in self._volume.usernames(self._batch_entries_max):
            self._log.write_accounts(self._applier.fence, usernames, private.credentials(list(usernames)))
            self._wait(0)

    def _rebuild_answers(self) -> None:
        """Make Redis know the idempotency keys of our history, and of no entry that is discarded or lost."""
        answers = self._volume.private.answers
        answers.forget_after(self._volume.applied.position)
        self._log.check_fence(self._applier.fence)
        self._log.drop_answers(None)
        for portion in answers.read(self._batch_entries_max):
            self._log.check_fence(self._applier.fence)
            self._log.write_answers(portion)
            self._wait(0)

    def _start_epoch(self, epoch: int, seen: LogStatus) -> None:
        applied = self._volume.applied
        position = self._log.start_epoch(
            epoch, self._applier.fence, applied.position, entries=applied.entries, seen=seen
        )
        self._metrics.recoveries_total.inc()
        _logger.warning("epoch_started", epoch=epoch, position=position, base_position=applied.position)
        self._at(Step.EPOCH_STARTED)
