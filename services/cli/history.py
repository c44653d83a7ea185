"""The whole log, from its first entry: the archive, then the stream. And a database made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from services.cli.errors import CommandFailed
from services.common import projection
from services.common.archive import read_archive
from services.common.database import open_writer
from services.common.errors import BehindHorizon
from services.common.fsync import fsync_path
from services.common.ids import BEGINNING
from services.common.log.client import EventLog
from services.common.log.entry import Entry
from services.common.log.subscription import check_chain
from services.common.projection import AppliedState

ENTRIES_MAX: Final = 1000


def whole_log(archive_dir: Path, log: EventLog, up_to_position: int) -> Iterator[list[Entry]]:
    """Every entry up to a position, in verified batches.

    Raises BehindHorizon or LogForked when they do not follow one another, CommandFailed when the log ends before,
    LogUnavailable when the archive does not reach and Redis does not answer.
    """
    for entries in _verified(_archive_then_stream(archive_dir, log, up_to_position), BEGINNING):
        yield [entry for entry in entries if entry.position <= up_to_position]


def archived_log(archive_dir: Path, after_position: int = BEGINNING) -> Iterator[list[Entry]]:
    """Every entry in the archive after a position, in verified batches. Raises as whole_log does."""
    return _verified(read_archive(archive_dir, after_position, ENTRIES_MAX), after_position)


def _verified(batches: Iterator[list[Entry]], after_position: int) -> Iterator[list[Entry]]:
    """The same entries, each proved to follow the one before it."""
    position = after_position
    for entries in batches:
        rest = entries
        while rest:
            batch = check_chain(rest, position)
            position = batch[-1].position
            rest = rest[len(batch) :]
            yield batch


def _archive_then_stream(archive_dir: Path, log: EventLog, up_to_position: int) -> Iterator[list[Entry]]:
    position = BEGINNING
    for entries in read_archive(archive_dir, position, ENTRIES_MAX):
        yield entries
        position = entries[-1].position
        if position >= up_to_position:
            return
    while position < up_to_position:
        entries = log.read(position, entries_max=ENTRIES_MAX)
        if not entries or entries[0].prev > position:  # archived and trimmed since the archive was read
            entries = next(read_archive(archive_dir, position, ENTRIES_MAX), entries)
        if not entries:
            raise CommandFailed(f"archive and stream end at {position}, before {up_to_position}: is REDIS_URL right?")
        yield entries
        position = entries[-1].position


def build_database(path: Path, batches: Iterator[list[Entry]], on_entries: Callable[[int], None]) -> AppliedState:
    """Fold the batches into a new database file; it is on disk when this returns. Says what it holds.

    ``on_entries`` is told how many more entries were applied.
    """
    engine = open_writer(path, "off")
    try:
        with engine.begin() as connection:
            projection.create_tables(connection)
        for entries in batches:
            with engine.begin() as connection:
                projection.apply(connection, entries)
            on_entries(len(entries))
        with engine.begin() as connection:
            state = projection.applied(connection)
    except BehindHorizon as error:
        raise CommandFailed(f"{error}: archive and stream together do not hold the whole log") from error
    finally:
        engine.dispose()
    fsync_path(path)
    return state
