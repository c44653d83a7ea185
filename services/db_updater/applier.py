"""Applying entries exactly once: every write that the owner makes under its fence.

What a crash leaves behind, by the step it struck after, and what the next start makes of it:

=====================  ==================================  =========================================================
step                   left behind                         next start
=====================  ==================================  =========================================================
fence raised, stored   a fence that nobody holds           raises a higher one
epoch started          an entry that is not applied        applies it
private committed      credentials ahead of the rows       reads the batch again and writes the same rows again
before commit          the same                            the same
committed              a batch that is not archived        archives it: the database keeps it until the next one
archived               names that are not given back       gives back those of all dead letters, which is repeatable
names given back       nothing                             goes on
=====================  ==================================  =========================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import structlog

from services.common.errors import FenceLost, LogForked
from services.common.events import (
    AccountDeleted,
    TokensRevoked,
    UserCreated,
    UserReinstated,
    UserSuspended,
    UserUpdated,
)
from services.common.log.client import EventLog, compare_fence
from services.common.log.entry import Entry
from services.common.projection import AppliedBatch
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.private import accounts_in, usernames_in
from services.db_updater.volume import Volume

_logger = structlog.get_logger()

_CHANGES_CREDENTIALS: Final = (UserCreated, UserUpdated, TokensRevoked, UserSuspended, UserReinstated)
_ABOUT_ACCOUNTS: Final = frozenset(event.name for event in (*_CHANGES_CREDENTIALS, AccountDeleted))


class Step(StrEnum):
    """What has just been done: the places at which a crash can strike."""

    FENCE_RAISED = "start:fence_raised"
    FENCE_STORED = "start:fence_stored"
    EPOCH_STARTED = "start:epoch_started"
    HALTED = "recovery:halted"
    CAUGHT_UP = "recovery:caught_up"
    DISCARDED_SAVED = "recovery:discarded_saved"
    ACCOUNTS_REBUILT = "recovery:accounts_rebuilt"
    ANSWERS_REBUILT = "recovery:answers_rebuilt"
    FENCE_CHECKED = "batch:fence_checked"
    PRIVATE_COMMITTED = "batch:private_committed"
    BEFORE_COMMIT = "batch:before_commit"
    COMMITTED = "batch:committed"
    ARCHIVED = "batch:archived"
    NAMES_GIVEN_BACK = "batch:names_given_back"
    PROGRESS_SHOWN = "maintenance:progress_shown"
    TRIMMED = "maintenance:trimmed"


At = Callable[[Step], None]
"""Called after each step."""


class Applier:
    """Writes to the volume, and to the log what follows from it, as long as its fence is in force."""

    def __init__(self, volume: Volume, log: EventLog, metrics: OwnerMetrics, at: At) -> None:
        self._volume = volume
        self._log = log
        self._metrics = metrics
        self._at = at
        self._fence: int | None = None

    @property
    def fence(self) -> int:
        """The fence this owner has raised. Raises FenceLost before it has."""
        if self._fence is None:
            raise FenceLost("this owner has not raised its fence")
        return self._fence

    def check_not_replaced(self, found_fence: int) -> None:
        """Raise FenceLost when another owner has raised the fence since this one did."""
        if self._fence is not None and found_fence > self._fence:
            compare_fence(found_fence, self._fence)

    def take_ownership(self, found_fence: int) -> None:
        """Raise the fence above all others, in Redis and then in the database.

        Once in a process's life, and again where Redis has come back with an older one.
        """
        if self._fence is None or found_fence < self._fence:
            fence = self._log.raise_fence(self._volume.applied.fence)
            self._at(Step.FENCE_RAISED)
            self._volume.store_fence(fence)
            self._at(Step.FENCE_STORED)
            self._fence = fence

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply entries that continue from the applied position.

        1. The fence in Redis is still ours.
        2. Credentials of new and changed accounts, and answers under idempotency keys, are committed to their own file,
           before that is applied; credentials of deleted accounts are erased there. What a later entry has changed is
           taken with that entry: it may be beside our history, in a log that came back older and went on. But of an
           account of which nothing is kept yet it is all there is, should the log be lost before that entry is read.
           Raises LogForked, with the log halted, where that has been lost since the entries were read.
        3. Rows and position are committed in one transaction, which holds only under our fence.
        4. The entries are archived.
        5. Names of rejected accounts are given back.
        """
        started_at = time.perf_counter()
        after_position = self._volume.applied.position
        self._log.check_fence(self.fence)
        self._at(Step.FENCE_CHECKED)
        with self._volume.batch_lock:
            self._save_private(entries)
            self._at(Step.PRIVATE_COMMITTED)
            batch = self._volume.apply(entries, before_commit=lambda: self._at(Step.BEFORE_COMMIT))
            self._at(Step.COMMITTED)
            self._volume.archive.append(entries)
            self._at(Step.ARCHIVED)
        if batch.dead_letters:
            self.give_back_names(after_position)
        self._at(Step.NAMES_GIVEN_BACK)
        self._report(batch, time.perf_counter() - started_at)

    def give_back_names(self, after_position: int) -> None:
        """Free the names and e-mails of accounts rejected after a position, and forget their credentials."""
        user_ids = self._volume.rejected_users(after_position)
        if user_ids:
            self._log.release_names(user_ids)
            self._volume.private.forget(user_ids)
            _logger.warning("names_given_back", users=len(user_ids))

    def show_state(self) -> None:
        """Set the metrics that say what the volume holds."""
        self._metrics.applied_position.set(self._volume.applied.position)
        self._metrics.archive_bytes.set(self._volume.archive.size_bytes)

    def _save_private(self, entries: Sequence[Entry]) -> None:
        private = self._volume.private
        newest = entries[-1]
        entries = [*entries, *self._volume.replayed(entries)]
        about_accounts = [entry for entry in entries if entry.name in _ABOUT_ACCOUNTS]
        kept = accounts_in(about_accounts, *_CHANGES_CREDENTIALS)
        found, known = (self._log.credentials(kept), private.credentials(kept)) if kept else ({}, {})
        if len(found | known) < len(set(kept)):
            self._check_still_there(newest)
        private.answers.save(entries)
        private.hold_names(self._names_of_deleted(about_accounts))
        private.forget(accounts_in(about_accounts, AccountDeleted))
        private.save({user: it for user, it in found.items() if it.position <= newest.position or user not in known})
        if accounts_in(about_accounts, AccountDeleted, UserUpdated):
            private.purge()

    def _check_still_there(self, newest: Entry) -> None:
        """Halt the log and raise LogForked if it has lost an entry that was read from it.

        With it go the credentials of new accounts. Where it is there, those that are missing were of an account that a
        later entry deletes.
        """
        if newest.position > self._volume.archive.position and self._log.entry(newest.position) != newest:
            reason = f"the log had {newest.position} when it was read, and has lost it with credentials"
            self._log.halt(reason, newest.position)
            raise LogForked(reason)

    def _names_of_deleted(self, entries: Sequence[Entry]) -> dict[str, int]:
        """The names that accounts leave here, in lower case, and where."""
        deleted = {user_id: entry.position for entry in entries for user_id in accounts_in([entry], AccountDeleted)}
        if not deleted:
            return {}
        names = usernames_in(entries) | self._volume.usernames_of(deleted)
        return {names[user_id].lower(): position for user_id, position in deleted.items() if user_id in names}

    def _report(self, batch: AppliedBatch, seconds: float) -> None:
        self._metrics.batch_entries.observe(batch.entries)
        self._metrics.batch_seconds.observe(seconds)
        for name, entries in batch.by_type.items():
            self._metrics.applied_entries_total.labels(name).inc(entries)
        if batch.dead_letters or batch.dead_letters_taken:
            self._metrics.dead_letters.set(self._volume.dead_letters())
        self.show_state()
        if batch.dead_letters:
            entry, reason = batch.dead_letters[0]
            _logger.warning(
                "dead_lettered", entries=len(batch.dead_letters), first_position=entry.position, first_reason=reason
            )
        _logger.debug("batch_applied", entries=batch.entries, applied_position=batch.position, seconds=seconds)
