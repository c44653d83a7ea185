"""Everything the owner keeps: lock, public database, private tables, archive, reports of recoveries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec
from sqlalchemy import Connection, Engine, bindparam, func, inspect, select, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from services.common import projection
from services.common.archive import Archive
from services.common.backup import Restored, restored_path, restoring_path
from services.common.database import Database, driver_errors, is_damage, is_environment_fault, open_writer, shown
from services.common.errors import FenceLost, StorageUnfit
from services.common.events import DeadLetterReplayed, Event, Malformed, UserCreated, decode
from services.common.ids import BEGINNING
from services.common.log.entry import Entry
from services.common.models import Applied, DeadLetter, User
from services.common.projection import AppliedBatch, AppliedState
from services.common.projection.statements import change
from services.db_updater.last_batch import archive_last_batch, create_last_batch, keep_last_batch
from services.db_updater.lock import VolumeLock
from services.db_updater.private import PrivateTables
from services.db_updater.reports import RecoveryReports
from services.db_updater.versions import put_own_version_in_place

_REMEDY: Final = (
    "if it is the owner's, run `twitter rebuild --replace`, and if that does not help, "
    "`twitter restore --from BACKUP --replace`"
)
_GUARD: Final = (
    update(Applied)
    .where(col(Applied.fence) == bindparam("mine"), col(Applied.position) == bindparam("at_position"))
    .values(fence=bindparam("mine"))
)


class Volume:
    """The owner's database and files, open for writing by this process alone.

    Opening creates what is missing, and puts a SQLite file of another projection version aside. Raises StorageUnfit
    when another owner holds the volume, when the database cannot be put aside or is a PostgreSQL of another version, or
    when the archive is damaged.
    """

    def __init__(self, database: Database, directory: Path, archive_directory: Path) -> None:
        self.name = shown(database)
        self.batch_lock = Lock()
        """Held while a batch is applied to all the files, so that who holds it finds them at one position."""
        self._directory = directory
        with ExitStack() as opened, _translated(self.name):
            directory.mkdir(parents=True, exist_ok=True)
            opened.enter_context(closing(VolumeLock(_lock_path(database, directory))))
            _check_not_restoring(directory)
            self.archive = opened.enter_context(closing(Archive(archive_directory)))
            if isinstance(database, Path):
                put_own_version_in_place(database, self.archive)
            self._engine = _open_database(database, opened)
            self.private = opened.enter_context(closing(PrivateTables(database)))
            self.reports = RecoveryReports(directory / "recoveries")
            self.applied = self._read_applied()
            """The prefix of the log that is committed; other threads may read it."""
            self._opened = opened.pop_all()

    @property
    def is_filling(self) -> bool:
        """Whether the database holds nothing yet, or less than the archive: no reader could go on from there."""
        return self.applied.position == BEGINNING or self.applied.position < self.archive.position

    @property
    def gives_up_what_is_missing(self) -> bool:
        """Whether the restore that these files come from has accepted that entries which follow are lost."""
        try:
            restored = msgspec.json.decode(restored_path(self._directory).read_bytes(), type=Restored)
        except FileNotFoundError:
            return False
        return restored.accepts_loss and restored.position == self.applied.position

    def store_fence(self, fence: int) -> None:
        """Make this fence the one that every later commit needs."""
        with self._engine.begin() as connection:
            connection.execute(update(Applied).values(fence=fence))
        self.applied = self._read_applied()

    def apply(self, entries: Sequence[Entry], before_commit: Callable[[], None]) -> AppliedBatch:
        """Apply consecutive entries and the new position in one transaction.

        Raises FenceLost when the database does not hold our fence and the position before these entries.
        """
        with self._engine.begin() as connection, driver_errors(connection):
            self._guard(connection, entries[0].prev)
            batch = projection.apply(connection, entries)
            keep_last_batch(connection, entries)
            applied = projection.read_state(connection)
            before_commit()
        self.applied = applied
        return batch

    def archive_last_batch(self) -> None:
        """Archive the batch committed last, if a crash came between the two."""
        if self.archive.position >= self.applied.position:
            return
        with self._engine.begin() as connection:
            archive_last_batch(connection, self.archive)

    def usernames(self, users_max: int) -> Iterator[dict[int, str]]:
        """The name of every user by id, in portions of at most ``users_max``."""
        last_id = 0
        while True:
            statement = select(col(User.id), col(User.username)).where(col(User.id) > last_id)
            with self._engine.begin() as connection:
                rows = connection.execute(statement.order_by(col(User.id)).limit(users_max)).all()
            if not rows:
                return
            yield {row.id: row.username for row in rows}
            last_id = rows[-1].id

    def usernames_of(self, user_ids: Collection[int]) -> dict[int, str]:
        """The names of those of these users that exist."""
        statement = select(col(User.id), col(User.username)).where(col(User.id).in_(user_ids))
        with self._engine.begin() as connection:
            return {row.id: row.username for row in connection.execute(statement)}

    def absent_users(self, user_ids: Sequence[int]) -> list[int]:
        """Those of these users that do not exist."""
        with self._engine.begin() as connection:
            existing = set(connection.execute(select(col(User.id)).where(col(User.id).in_(user_ids))).scalars())
        return [user_id for user_id in user_ids if user_id not in existing]

    def dead_letters(self) -> int:
        """How many entries were refused for good."""
        with self._engine.begin() as connection:
            return connection.execute(select(func.count()).select_from(DeadLetter)).scalar_one()

    def replayed(self, entries: Sequence[Entry]) -> list[Entry]:
        """The dead letters that these entries take up again, and that are no accounts: those are given up."""
        positions = [
            event.position
            for event in (_decoded(entry) for entry in entries if entry.name == DeadLetterReplayed.name)
            if isinstance(event, DeadLetterReplayed)
        ]
        if not positions:
            return []
        with self._engine.begin() as connection:
            found = [projection.dead_letter(connection, position) for position in positions]
        return [entry for entry in found if entry is not None and entry.name != UserCreated.name]

    def rejected_users(self, after_position: int = 0) -> list[int]:
        """The ids of accounts whose creation was dead-lettered after a position and that do not exist."""
        letters = select(col(DeadLetter.position), col(DeadLetter.payload)).where(
            col(DeadLetter.name) == UserCreated.name, col(DeadLetter.position) > after_position
        )
        with self._engine.begin() as connection:
            user_ids = {created_user_id(row.position, row.payload) for row in connection.execute(letters)}
            return sorted(user_id for user_id in user_ids if not _exists(connection, user_id))

    def close(self) -> None:
        """Close everything; the lock last."""
        self._opened.close()

    def _guard(self, connection: Connection, position: int) -> None:
        mine = self.applied.fence
        if change(connection, _GUARD, mine=mine, at_position=position) != 1:
            raise FenceLost(f"{self.name} is no longer at position {position} under fence {mine}")

    def _read_applied(self) -> AppliedState:
        with self._engine.begin() as connection:
            return projection.applied(connection)


def raise_unless_it_passes(name: str, error: DBAPIError) -> None:
    """Return where the disk or the database's server failed; else raise the bug, or what to do about damage."""
    if is_damage(error):
        raise StorageUnfit(f"{name}, or the private tables beside it, is damaged ({error.orig}); {_REMEDY}") from error
    if not is_environment_fault(error):
        raise error


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnfit(f"the volume of {name} cannot be used: {error}") from error
    except DBAPIError as error:
        remedy = f"; {_REMEDY}" if is_damage(error) else ""
        raise StorageUnfit(f"{name} cannot be opened: {error.orig}{remedy}") from error


def _lock_path(database: Database, directory: Path) -> Path:
    """Beside a SQLite file, so that two volumes cannot share it; else on the volume."""
    if isinstance(database, Path):
        return database.with_name(f"{database.name}.lock")
    return directory / "owner.lock"


def _check_not_restoring(directory: Path) -> None:
    if restoring_path(directory).exists():
        raise StorageUnfit(f"a restore into {directory} was interrupted: run `twitter restore` again")


def created_user_id(position: int, payload: bytes) -> int:
    """The id of the account that a UserCreated entry is about."""
    event = _decoded(Entry(position, BEGINNING, UserCreated.name, UserCreated.version, payload))
    return event.id or position if isinstance(event, UserCreated) else position


def _decoded(entry: Entry) -> Event | None:
    try:
        return decode(entry.name, entry.payload)
    except Malformed:
        return None


def _exists(connection: Connection, user_id: int) -> bool:
    return connection.execute(select(col(User.id)).where(col(User.id) == user_id)).first() is not None


def _open_database(database: Database, opened: ExitStack) -> Engine:
    engine = open_writer(database, "full")
    opened.callback(engine.dispose)
    with engine.begin() as connection:
        if not inspect(connection).has_table(Applied.__tablename__):
            projection.create_tables(connection)
        create_last_batch(connection)
    return engine
