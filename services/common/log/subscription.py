"""Following the log: consecutive, verified batches after a position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.common.errors import BehindHorizon, LogForked, NewerVersion
from services.common.events import PROJECTION_VERSION, EpochStarted
from services.common.ids import BEGINNING, entry_id
from services.common.log.entry import Entry


class FollowableLog(Protocol):
    """What a subscription needs of the log."""

    def read(self, after_position: int, *, entries_max: int, block_ms: int | None) -> list[Entry]:
        """Entries after a position, oldest first."""

    def head(self) -> int:
        """The position of the newest entry."""

    def report_fork(self, reason: str, position: int, entry_position: int | None) -> None:
        """Stop all writes."""

    def abandon(self, position: int) -> None:
        """Tell the owner of a position that cannot be gone on from."""


class Subscription:
    """A follower's place in the log.

    Entries are delivered only if each one's ``prev`` is the position before it, so a follower can neither miss
    an entry nor go on with a history that is not its own (HAZARDS 1, 20).
    """

    def __init__(
        self,
        log: FollowableLog,
        after_position: int,
        *,
        name: str,
        version: int = PROJECTION_VERSION,
        entries_max: int = 1000,
        block_ms: int | None = 500,
    ) -> None:
        self.position = after_position
        self._log = log
        self._name = name
        self._version = version
        self._entries_max = entries_max
        self._block_ms = block_ms

    def next_batch(self) -> list[Entry]:
        """The next entries, at most ``entries_max``; empty when none came within ``block_ms``.

        Raises LogUnavailable (try again), BehindHorizon (take a snapshot) after it has said where it was, NewerVersion
        (stop), and LogForked after it has halted the log.
        """
        entries: list[Entry] = []
        try:
            entries = self._read(self._block_ms) or self._read_up_to_head()
            if entries:
                consecutive = check_chain(entries, self.position, self._version)
                self.position = consecutive[-1].position
                return consecutive
        except LogForked as fork:
            shown_by = entries[0].position if entries else None
            self._log.report_fork(f"{self._name}: {fork}", self.position, shown_by)
            raise
        except BehindHorizon:
            if self.position != BEGINNING:
                self._log.abandon(self.position)
            raise
        return []

    def _read_up_to_head(self) -> list[Entry]:
        """What came since a look that found nothing.

        An idle log must not end before our position: then Redis came back with less than it had. Nor may it end after
        it and hold nothing: then all of that was trimmed, and no entry will come to show it until somebody writes.
        """
        head = self._log.head()
        if head < self.position:
            raise LogForked(f"applied up to {self.position}, but the log ends at {head}")
        entries = self._read(None) if head > self.position else []
        if head > self.position and not entries and self._log.head() == head:
            raise BehindHorizon(
                f"all entries up to {head} are trimmed, we are at {self.position}: a snapshot is needed"
            )
        return entries

    def _read(self, block_ms: int | None) -> list[Entry]:
        return self._log.read(self.position, entries_max=self._entries_max, block_ms=block_ms)


def check_chain(entries: Sequence[Entry], after_position: int, version: int = PROJECTION_VERSION) -> list[Entry]:
    """The leading entries that continue from ``after_position`` one by one and that ``version`` understands.

    Raises BehindHorizon, LogForked or NewerVersion if already the first does not.
    """
    position = after_position
    for index, entry in enumerate(entries):
        if entry.prev != position or entry.version > version:
            if index == 0:
                raise _reason_to_stop(entry, position, version)
            return list(entries[:index])
        position = entry.position
    return list(entries)


def _reason_to_stop(entry: Entry, position: int, version: int) -> Exception:
    if entry.prev == position:
        return NewerVersion(
            f"entry {entry_id(entry.position)} ({entry.name}) needs projection version {entry.version}, "
            f"this is version {version}: upgrade this process"
        )
    if entry.prev > position:
        return BehindHorizon(f"the log continues after {entry.prev}, we are at {position}: a snapshot is needed")
    if entry.name == EpochStarted.name:
        return BehindHorizon(f"epoch started from {entry.prev}, we are at {position}: a snapshot is needed")
    return LogForked(f"applied up to {position}, but entry {entry_id(entry.position)} continues after {entry.prev}")
