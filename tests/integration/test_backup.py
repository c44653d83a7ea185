"""Backups beside an owner that writes: consistent, whole or not there, pruned, and refused when they are damaged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from services.common import backup
from services.common.backup import Backup
from services.common.database import open_reader
from services.common.errors import OwnerUnavailable, StorageUnfit
from services.common.events import AccountDeleted
from services.common.log.append import AppendItem
from services.common.log.client import EventLog
from services.db_updater.backups import HELD_INTERVALS, BackupSchedule
from services.db_updater.metrics import OwnerMetrics
from tests.support.backups import back_up, owners_files, restored
from tests.support.databases import USES_POSTGRESQL
from tests.support.limits import files_limited_to
from tests.support.owner import (
    RunningOwner,
    append,
    archived,
    credentials,
    database_path,
    following,
    rebuilt_hashes,
    table_hashes,
    tweet,
    user,
)
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually

pytestmark = pytest.mark.skipif(USES_POSTGRESQL, reason="backups are of SQLite")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Where the owner is."""
    return tmp_path / "owner"


@pytest.fixture
def owner(volume: Path, redis_server: RedisServer) -> Iterator[RunningOwner]:
    """An owner that follows the log."""
    with following(volume, redis_server.url, batch_entries_max=7) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def made(tmp_path: Path, volume: Path, owner: RunningOwner, log: EventLog) -> Backup:
    """A backup of an account and a tweet."""
    (ada,) = append(log, user("ada"))
    owner.wait_until_applied(append(log, tweet(ada))[0])
    return back_up(owner, volume, tmp_path / "backups")


def schedule(owner: RunningOwner, volume: Path, directory: Path, registry: CollectorRegistry) -> BackupSchedule:
    """One that makes a backup at once and none again."""
    return BackupSchedule(
        owner.volume, owners_files(volume), directory, OwnerMetrics(registry), interval_seconds=3600, keep=2
    )


def test_backups_taken_while_writes_go_on_hold_one_position(
    tmp_path: Path, volume: Path, owner: RunningOwner, log: EventLog
) -> None:
    """Accounts come and go in every batch; rows, credentials and archive of each backup are of the same moment."""
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            ada, bob = append(log, user(f"ada{number}"), user(f"bob{number}"))
            append(log, tweet(ada), tweet(bob), AppendItem(AccountDeleted(user_id=ada)))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: owner.owner.position > 0)
        backups = [back_up(owner, volume, tmp_path / "backups") for _ in range(4)]
    finally:
        done.set()
        writer.join()
    assert len({made.manifest.position for made in backups}) > 1
    for number, made in enumerate(backups):
        directory = restored(made, tmp_path / f"restored-{number}")
        entries = archived(directory)
        assert (entries[-1].position, len(entries)) == (made.manifest.position, made.manifest.entries)
        assert table_hashes(database_path(directory)) == rebuilt_hashes(entries, tmp_path / f"rebuilt-{number}.db")
        engine = open_reader(database_path(directory))
        with engine.begin() as connection:
            users = {row.id: row.username for row in connection.execute(text("SELECT id, username FROM users"))}
        engine.dispose()
        held = credentials(directory).keys()
        assert held <= users.keys()
        # Redis had forgotten some of those that are deleted a little later before the owner could copy them.
        assert all(users[user_id].startswith("ada") for user_id in users.keys() - held)


def test_a_backup_is_for_few_eyes(made: Backup) -> None:
    """It holds e-mail addresses and hashes."""
    assert made.path.stat().st_mode & 0o077 == 0
    assert made.path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["twitter.db", "private.db", "archive", "manifest.json"])
def test_a_damaged_backup_is_refused(made: Backup, name: str) -> None:
    """One byte is enough; the line names the file and says what to do."""
    path = next(path for path in made.path.rglob("*") if path.is_file() and name in str(path.relative_to(made.path)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)
    with pytest.raises(StorageUnfit, match=rf"is damaged: .*{path.name}.*use another one"):
        backup.verify(backup.read_backup(made.path))


def test_a_backup_that_lacks_a_file_is_refused(made: Backup) -> None:
    """Copied by somebody who forgot a directory."""
    next((made.path / "archive").iterdir()).unlink()
    with pytest.raises(StorageUnfit, match="is missing; use another one"):
        backup.verify(made)


def test_what_is_copied_is_verified(tmp_path: Path, volume: Path, owner: RunningOwner, made: Backup) -> None:
    """A disk that returns something else than was written: the backup is not made, and the earlier one stays."""
    owner.owner.stop()
    owner.wait_until_left()
    segment = next((volume / "archive").iterdir())
    content = bytearray(segment.read_bytes())
    content[40] ^= 0x01
    segment.write_bytes(content)
    with pytest.raises(StorageUnfit, match="damaged"):
        back_up(owner, volume, tmp_path / "backups")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [made.path.name]


def test_segments_are_shared_and_the_last_one_is_copied_up_to_the_position(
    tmp_path: Path, volume: Path, owner: RunningOwner, log: EventLog
) -> None:
    """A second backup needs room for what is new only; the first one stays what it was."""
    owner.volume.archive._segment_bytes_max = 1
    for _ in range(4):
        owner.wait_until_applied(append(log, user(f"user{owner.owner.position}"))[0])
    first = back_up(owner, volume, tmp_path / "backups")
    owner.volume.archive._segment_bytes_max = 2**20
    owner.wait_until_applied(append(log, user("later"))[0])
    second = back_up(owner, volume, tmp_path / "backups")
    names = sorted(path.name for path in (first.path / "archive").iterdir())
    assert len(names) > 2
    shared = [
        (first.path / "archive" / name).stat().st_ino == (second.path / "archive" / name).stat().st_ino
        for name in names
    ]
    assert shared == [True] * (len(names) - 1) + [False]
    backup.verify(first)
    assert archived(restored(first, tmp_path / "restored"))[-1].position == first.manifest.position


@pytest.mark.usefixtures("made")
def test_an_archive_that_is_behind_its_database_makes_no_backup(
    tmp_path: Path, volume: Path, owner: RunningOwner
) -> None:
    """A crash between commit and archive: the owner knows how to set that right, the backup does not."""
    owner.owner.stop()
    owner.wait_until_left()
    segment = next((volume / "archive").iterdir())
    segment.write_bytes(segment.read_bytes()[:-1])
    with pytest.raises(StorageUnfit, match="the archive ends at"):
        backup.make(owners_files(volume), tmp_path / "backups", nullcontext())


def test_old_backups_are_pruned_and_what_a_crash_left_is_cleared_away(
    tmp_path: Path, volume: Path, owner: RunningOwner, made: Backup
) -> None:
    """By count; never the one just made, and nothing that is no backup."""
    directory = tmp_path / "backups"
    (directory / "20200101T000000.000Z.partial").mkdir()
    (directory / "notes").mkdir()
    second = back_up(owner, volume, directory)
    third = back_up(owner, volume, directory)
    assert backup.newest_backup(directory) == third
    assert backup.prune(directory, 2, third) == [made.path]
    assert backup.prune(directory, 1, second) == [third.path]
    assert {path.name for path in directory.iterdir()} == {second.path.name, "notes"}


def test_a_schedule_backs_up_at_once_and_when_asked(
    tmp_path: Path, volume: Path, owner: RunningOwner, log: EventLog
) -> None:
    """What it made is in the metrics; the log is held back to the newest one, but not for ever."""
    owner.wait_until_applied(append(log, user("ada"))[0])
    registry = CollectorRegistry()
    now = 0.0
    with closing(schedule(owner, volume, tmp_path / "backups", registry)) as backups:
        assert backups.held_position() is None
        backups.start()
        eventually(backups.held_position)
        assert backups.held_position() == owner.owner.position
        owner.wait_until_applied(append(log, user("bob"))[0])
        made = backups.request().result(30)
        assert made.manifest.position == owner.owner.position == backups.held_position()
        now = made.manifest.unix_seconds
        assert registry.get_sample_value("backup_success_timestamp_seconds") == now
        assert registry.get_sample_value("backup_seconds_count") == 2
        assert registry.get_sample_value("backup_interval_seconds") == 3600
    later = BackupSchedule(
        owner.volume,
        owners_files(volume),
        tmp_path / "backups",
        OwnerMetrics(CollectorRegistry()),
        interval_seconds=3600,
        keep=2,
        clock=lambda: now + HELD_INTERVALS * 3600 + 1,
    )
    assert later.held_position() is None


def test_a_failed_backup_is_loud_and_stops_nobody(
    tmp_path: Path, volume: Path, owner: RunningOwner, log: EventLog
) -> None:
    """The disk is full: nothing half-made stays, it is counted, the owner goes on, and the next one succeeds."""
    (ada,) = append(log, user("ada"))
    owner.wait_until_applied(append(log, *(tweet(ada, "x" * 280) for _ in range(500)))[-1])
    registry = CollectorRegistry()
    directory = tmp_path / "backups"
    with closing(schedule(owner, volume, directory, registry)) as backups:
        with files_limited_to(100_000):
            backups.start()
            eventually(lambda: registry.get_sample_value("backup_failures_total"))
            with pytest.raises(OwnerUnavailable, match="the backup failed: "):
                backups.request().result(30)
        assert list(directory.iterdir()) == []
        owner.wait_until_applied(append(log, tweet(ada))[0])
        assert backups.request().result(30).manifest.position == owner.owner.position
        assert registry.get_sample_value("backup_failures_total") == 2
