"""Putting the files of a backup in an owner's place: all of them, or an owner that refuses to start."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy.exc import DatabaseError

from services.cli.history import archived_log
from services.common import backup as backups
from services.common import projection
from services.common.archive import segment_paths
from services.common.backup import Backup, OwnersFiles, Restored, restored_path, restoring_path
from services.common.database import open_reader, open_writer
from services.common.errors import StorageUnfit
from services.common.fsync import fsync_path
from services.common.ids import BEGINNING

STAGED: Final = "restore-staged"
SIDECARS: Final = ("-wal", "-shm")


def is_empty(files: OwnersFiles) -> bool:
    """Whether an owner has kept nothing here yet; one that refused to start may have left files without content."""
    if restoring_path(files.directory).exists():
        return True  # what an interrupted restore has put there
    if segment_paths(files.archive):
        return False
    if not files.database.exists():
        return not files.private.exists()
    engine = open_reader(files.database)
    try:
        with engine.begin() as connection:
            return projection.applied(connection).position == BEGINNING
    except (DatabaseError, StorageUnfit):
        return False
    finally:
        engine.dispose()


def put_in_place(
    backup: Backup, files: OwnersFiles, decided: Restored, on_entries: Callable[[int], None]
) -> Path | None:
    """Replace an owner's files by those of a verified backup; returns where the old ones are, None without any.

    1. Make the directory that keeps every owner from starting.
    2. Copy everything beside its place, and apply to the database what the archive holds after it.
    3. Move what is in the way aside, then the copies into place.
    4. Remove that directory.

    After a crash, run it again: it begins anew, and moves aside what it finds.
    """
    mark = restoring_path(files.directory)
    mark.mkdir(parents=True, exist_ok=True)
    fsync_path(files.directory)
    moves = list(_moves(backup, files))
    for directory in {target.parent for _, target in moves}:
        shutil.rmtree(directory / STAGED, ignore_errors=True)
        (directory / STAGED).mkdir(parents=True)
    for source, target in moves:
        backups.copy_file(source, _staged(target))
    database = _staged(files.database)
    _replay(database, files.archive / STAGED, on_entries)
    if (reached := _position(database)) != backup.manifest.position:
        raise StorageUnfit(f"backup {backup.path} leads to position {reached}, not {backup.manifest.position}")
    aside = _move_aside(files)
    for _, target in moves:
        _staged(target).rename(target)
    restored_path(files.directory).write_bytes(msgspec.json.encode(decided))
    fsync_path(restored_path(files.directory))
    for directory in {target.parent for _, target in moves}:
        shutil.rmtree(directory / STAGED)
        fsync_path(directory)
    mark.rmdir()
    fsync_path(files.directory)
    return aside


def _moves(backup: Backup, files: OwnersFiles) -> Iterator[tuple[Path, Path]]:
    """Each file of the backup, and its place; the database last."""
    for directory, place in ((backups.ARCHIVE, files.archive), (backups.RECOVERIES, files.recoveries)):
        for path in sorted((backup.path / directory).iterdir()):
            yield path, place / path.name
    yield backup.path / backups.PRIVATE, files.private
    yield backup.path / backups.DATABASE, files.database


def _staged(target: Path) -> Path:
    return target.parent / STAGED / target.name


def _replay(database: Path, archive: Path, on_entries: Callable[[int], None]) -> None:
    engine = open_writer(database, "full")
    try:
        with engine.begin() as connection:
            position = projection.applied(connection).position
        for entries in archived_log(archive, position):
            with engine.begin() as connection:
                projection.apply(connection, entries)
            on_entries(len(entries))
    finally:
        engine.dispose()


def _position(database: Path) -> int:
    engine = open_reader(database)
    try:
        with engine.begin() as connection:
            return projection.applied(connection).position
    finally:
        engine.dispose()


def _move_aside(files: OwnersFiles) -> Path | None:
    databases = [path.with_name(path.name + suffix) for path in (files.database, files.private) for suffix in SIDECARS]
    old = [
        *(path for path in (*databases, files.database, files.private) if path.exists()),
        *segment_paths(files.archive),
        *files.recoveries.glob("*.ndjson"),
    ]
    if not old:
        return None
    name = f"before-restore-{time.strftime('%Y%m%dT%H%M%S')}"
    for path in old:
        aside = path.parent / name
        aside.mkdir(exist_ok=True)
        path.rename(aside / path.name)
    return files.database.parent / name
