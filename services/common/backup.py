"""Backups: everything that an owner keeps, at one position, verified, and there as a whole or not at all (ADR 15).

Format
    A directory named by its time (UTC), which stands for itself and may be copied anywhere:

    ==================  ===============================================================================
    ``twitter.db``      the public tables, at ``database_position`` or a little before ``position``
    ``private.db``      the private tables, at ``position``
    ``archive/``        every entry up to ``position``; segments that two backups share are one file
    ``recoveries/``     the reports of recoveries
    ``manifest.json``   positions, and size and SHA-256 of every file; written last
    ==================  ===============================================================================

    The archive and the private tables say all; the database only saves the time to fold the archive again.

Crash
    A backup is made, and an old one removed, under a name that ends with ``.partial``; the next one clears it away.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy.exc import DatabaseError

from services.common import faults, projection
from services.common.archive import check_archive, segment_paths
from services.common.database import open_reader, private_path, vacuum_into
from services.common.errors import InvariantError, StorageUnfit
from services.common.fsync import fsync_path
from services.common.projection import AppliedState
from services.common.snapshot import sha256_of

DATABASE: Final = "twitter.db"
PRIVATE: Final = "private.db"
ARCHIVE: Final = "archive"
RECOVERIES: Final = "recoveries"
MANIFEST: Final = "manifest.json"
PARTIAL: Final = ".partial"
FORMAT: Final = 1
_CHUNK_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class OwnersFiles:
    """Where an owner whose database is a file keeps what a backup holds."""

    database: Path
    directory: Path
    archive: Path

    @property
    def private(self) -> Path:
        """The private tables."""
        return private_path(self.database)

    @property
    def recoveries(self) -> Path:
        """The reports of recoveries."""
        return self.directory / RECOVERIES


def restoring_path(directory: Path) -> Path:
    """What is in an owner's directory while a restore is under way, or was interrupted: no owner may start."""
    return directory / "restoring"


def restored_path(directory: Path) -> Path:
    """What the last restore into an owner's directory has decided."""
    return directory / "restored.json"


class FileRecord(msgspec.Struct, frozen=True):
    """One file of a backup, by which it is known again."""

    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds: the log up to ``position``, which is in ``epoch`` and has ``entries`` up to there."""

    format: int
    made_at: str
    unix_seconds: float
    position: int
    database_position: int
    epoch: int
    entries: int
    projection_version: int
    files: dict[str, FileRecord]

    @property
    def size_bytes(self) -> int:
        """The size of all files, those that it shares with other backups too."""
        return sum(record.size_bytes for record in self.files.values())


class Restored(msgspec.Struct, frozen=True):
    """That the files were restored from a backup, up to a position.

    ``accepts_loss``: what the log no longer has of what follows there is given up; the owner starts an epoch.
    """

    backup: str
    position: int
    accepts_loss: bool


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup."""

    path: Path
    manifest: Manifest


def make(source: OwnersFiles, directory: Path, between_batches: AbstractContextManager[Any]) -> Backup:
    """Make and verify a backup in a directory of backups. One at a time.

    ``between_batches`` lets no batch be applied while it is entered.

    1. Copy the public database, in one read transaction (HAZARDS 18).
    2. Between two batches copy the private tables, and look how far the database and each segment are.
    3. Copy the archive up to there; segments that the newest backup has are linked.
    4. Verify what was written: every page, every frame, the positions. Note size and hash of each file.
    5. fsync and rename.

    Raises StorageUnfit when what was copied is damaged or does not fit together, OSError or DBAPIError when a disk
    fails. What was half-made is removed.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clear_partial(directory)
    newest = newest_backup(directory)
    now = time.time()
    target = directory / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
    partial = target.with_name(target.name + PARTIAL)
    try:
        partial.mkdir(mode=0o700)
        vacuum_into(source.database, partial / DATABASE)
        with between_batches:
            vacuum_into(source.private, partial / PRIVATE)
            state = _applied(source.database)
            sizes = {path: path.stat().st_size for path in segment_paths(source.archive)}
        _copy_archive(sizes, partial / ARCHIVE, newest.path / ARCHIVE if newest else None)
        _copy_reports(source.recoveries, partial / RECOVERIES)
        manifest = _verified_manifest(partial, state, now)
        (partial / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        _fsync_tree(partial)
        faults.reach("backup:before_rename")
        partial.rename(target)
        faults.reach("backup:after_rename")
        fsync_path(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Backup(target, manifest)


def newest_backup(directory: Path) -> Backup | None:
    """The newest of a directory of backups, None without any."""
    return max(_backups(directory), key=lambda backup: backup.path.name, default=None)


def prune(directory: Path, keep: int, made: Backup) -> list[Path]:
    """Remove all but the newest ``keep`` backups, and never the one just made; returns what was removed."""
    others = sorted((backup.path for backup in _backups(directory) if backup.path != made.path), reverse=True)
    surplus = others[max(keep - 1, 0) :]
    for path in surplus:
        shutil.rmtree(path.rename(path.with_name(path.name + PARTIAL)))
    return surplus


def find_backup(path: Path) -> Backup:
    """The backup at a path, or the newest in a directory of backups. Raises StorageUnfit where there is none."""
    newest = None if (path / MANIFEST).exists() else newest_backup(path)
    return newest or read_backup(path)


def read_backup(path: Path) -> Backup:
    """A backup, which must be a whole one of this format. Raises StorageUnfit; its files are not read (see verify)."""
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise StorageUnfit(f"there is no backup at {path}: name one, or a directory of backups") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageUnfit(f"backup {path} is damaged: {MANIFEST} cannot be read ({error}); use another one") from error
    if manifest.format != FORMAT:
        raise StorageUnfit(f"backup {path} has format {manifest.format}, this program reads {FORMAT}")
    return Backup(path, manifest)


def verify(backup: Backup) -> None:
    """Compare every file with the manifest. Raises StorageUnfit that names the file which is not as it was made."""
    for name, record in backup.manifest.files.items():
        path = backup.path / name
        if not path.is_file():
            found = "is missing"
        elif path.stat().st_size != record.size_bytes:
            found = f"has {path.stat().st_size} bytes instead of {record.size_bytes}"
        elif (sha256 := sha256_of(path)) != record.sha256:
            found = f"has SHA-256 {sha256} instead of {record.sha256}"
        else:
            continue
        raise StorageUnfit(f"backup {backup.path} is damaged: {name} {found}; use another one")


def copy_file(source: Path, target: Path, size_bytes: int | None = None) -> None:
    """Copy a file, or its first bytes, durably, to where there is none."""
    left = source.stat().st_size if size_bytes is None else size_bytes
    with source.open("rb") as reading, target.open("xb") as writing:
        while left and (chunk := reading.read(min(left, _CHUNK_BYTES))):
            writing.write(chunk)
            left -= len(chunk)
        writing.flush()
        os.fsync(writing.fileno())


def _backups(directory: Path) -> Iterator[Backup]:
    """Those that are whole; a directory whose manifest cannot be read is none of them, and nobody's to remove."""
    for path in directory.glob(f"*/{MANIFEST}"):
        if path.parent.suffix != PARTIAL:
            try:
                yield read_backup(path.parent)
            except StorageUnfit:
                continue


def _clear_partial(directory: Path) -> None:
    for path in directory.glob(f"*{PARTIAL}"):
        shutil.rmtree(path)


def _copy_archive(sizes: dict[Path, int], target: Path, previous: Path | None) -> None:
    target.mkdir(mode=0o700)
    for path, size_bytes in sizes.items():
        kept = previous / path.name if previous else None
        if kept and kept.exists() and kept.stat().st_size == size_bytes and sha256_of(kept) == sha256_of(path):
            _link(kept, target / path.name)
        else:
            copy_file(path, target / path.name, size_bytes)


def _link(existing: Path, target: Path) -> None:
    try:
        target.hardlink_to(existing)
    except OSError:  # a file system without hard links
        copy_file(existing, target)


def _copy_reports(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for path in source.glob("*.ndjson"):
        copy_file(path, target / path.name)


def _verified_manifest(path: Path, state: AppliedState, now: float) -> Manifest:
    for name in (DATABASE, PRIVATE):
        _check_integrity(path / name)
    copied = _applied(path / DATABASE)
    archived_position = check_archive(path / ARCHIVE)
    if archived_position != state.position:
        raise StorageUnfit(
            f"the archive ends at {archived_position}, the database at {state.position}: the owner sets that right "
            "when it can write its volume; then try again"
        )
    if copied.position > state.position:
        raise InvariantError(f"the database went back from {copied.position} to {state.position} during a backup")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return Manifest(
        format=FORMAT,
        made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        unix_seconds=now,
        position=state.position,
        database_position=copied.position,
        epoch=state.epoch,
        entries=state.entries,
        projection_version=copied.projection_version,
        files={str(file.relative_to(path)): FileRecord(file.stat().st_size, sha256_of(file)) for file in files},
    )


def _applied(database: Path) -> AppliedState:
    engine = open_reader(database)
    try:
        with engine.begin() as connection:
            return projection.applied(connection)
    finally:
        engine.dispose()


def _check_integrity(database: Path) -> None:
    engine = open_reader(database)
    try:
        with engine.begin() as connection:
            found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check")]
    except DatabaseError as error:
        found = [str(error.orig)]
    finally:
        engine.dispose()
    if found != ["ok"]:
        raise StorageUnfit(f"the copy {database} is damaged ({found[0]}): look at the disks, and `twitter verify`")


def _fsync_tree(path: Path) -> None:
    for entry in (*path.rglob("*"), path):
        fsync_path(entry)
