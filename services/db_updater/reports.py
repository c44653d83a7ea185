"""What the log has lost: files on the volume for whoever has to make good for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from services.common.errors import StorageUnfit
from services.common.fsync import fsync_path
from services.common.ids import created_at
from services.common.log.entry import Entry

SUFFIX: Final = ".ndjson"

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySummary:
    """One recovery, or word of a loss that came after it.

    Lost is what was acknowledged, is not in the database and not among the discarded entries: it lies at or below the
    greater of ``reported_position`` and ``log_head``.

    ``base_position`` is the state from which the epoch continues, ``log_head`` where the log ended that came back,
    ``discarded_entries`` how many entries it held that are no part of the owner's history, ``missing_entries`` how many
    between the two were trimmed from the log, where the owner was restored from a backup that does not reach there.
    ``unix_ms`` is when that was, by the clock of Redis; 0 in reports from before it was noted.
    """

    epoch: int
    reason: str
    base_position: int
    log_head: int
    reported_position: int
    unix_ms: int = 0
    discarded_entries: int = 0
    missing_entries: int = 0


class RecoveryReports:
    """One NDJSON file for each recovery: a line for each discarded entry, the summary in the last line.

    The name is that of the epoch and of the log's end, so that a recovery that is repeated after a crash replaces its
    own report, and one that meets another log never replaces what an earlier one has saved. Late word of a loss is a
    file of its own, of the position that was lost.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._summaries = {path.name: _summary(path) for path in sorted(directory.glob(f"*{SUFFIX}"))}

    @property
    def discarded_entries(self) -> int:
        """How many entries all recoveries have discarded."""
        return sum(summary.discarded_entries for summary in self._summaries.values())

    @property
    def missing_entries(self) -> int:
        """How many entries all recoveries have given up, of which nothing is left."""
        return sum(summary.missing_entries for summary in self._summaries.values())

    @property
    def last(self) -> RecoverySummary | None:
        """The newest, None if there never was one."""
        return max(self._summaries.values(), key=lambda summary: (summary.epoch, summary.unix_ms), default=None)

    def covers(self, position: int) -> bool:
        """Whether a report says that what was acknowledged at this position is lost, unless it was discarded."""
        return any(
            summary.base_position < position <= max(summary.reported_position, summary.log_head)
            for summary in self._summaries.values()
        )

    def save(self, recovery: RecoverySummary, discarded: Iterable[Entry]) -> RecoverySummary:
        """Write the report of a recovery, durably; returns the summary with the discarded entries counted."""
        return self._write(f"epoch-{recovery.epoch:06d}-log-{recovery.log_head}", recovery, discarded)

    def save_late(self, loss: RecoverySummary) -> None:
        """Write, durably, what nobody had said of a loss while it was recovered from."""
        self._write(f"late-{loss.reported_position}", loss, ())

    def _write(self, name: str, recovery: RecoverySummary, discarded: Iterable[Entry]) -> RecoverySummary:
        path = self._directory / f"{name}{SUFFIX}"
        temporary = path.with_name(path.name + ".tmp")
        discarded_entries = 0
        with temporary.open("wb") as file:
            for entry in discarded:
                discarded_entries += 1
                file.write(_encode(_shown(entry)) + b"\n")
            summary = replace(recovery, discarded_entries=discarded_entries)
            file.write(_encode(summary) + b"\n")
        fsync_path(temporary)
        temporary.replace(path)
        fsync_path(self._directory)
        self._summaries = {**self._summaries, path.name: summary}  # replaced whole, for readers in other threads
        return summary


def _summary(path: Path) -> RecoverySummary:
    with path.open("rb") as file:
        last_line = b"".join(deque(file, maxlen=1))
    try:
        return msgspec.json.decode(last_line, type=RecoverySummary)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageUnfit(f"{path} does not end with the summary of a recovery ({error}): move it away") from error


def _shown(entry: Entry) -> dict[str, object]:
    """An entry for people and programs; what is no JSON, as text."""
    try:
        payload = msgspec.json.decode(entry.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        payload = entry.payload.decode(errors="replace")
    return {
        "position": entry.position,
        "prev": entry.prev,
        "created_at": created_at(entry.position),
        "name": entry.name,
        "version": entry.version,
        "payload": payload,
    }
