"""Snapshots: consistent copies of the public database with their position and checksum.

The owner makes them beside its running writer, readers verify what arrived before they open it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import insert, select
from sqlalchemy.exc import DatabaseError

from services.common import faults, projection
from services.common.database import Database, open_reader, open_writer, vacuum_into
from services.common.errors import StorageUnfit
from services.common.fsync import fsync_path
from services.common.models import Public

_ROWS_PER_STEP: Final = 10_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A finished copy: where it is, the prefix of the log it holds, and how to tell that it arrived whole."""

    path: Path
    position: int
    projection_version: int
    sha256: str
    size_bytes: int


def make(database: Database, target: Path) -> Snapshot:
    """Copy a database that may be written meanwhile into a SQLite file, which appears only whole and durable.

    1. Copy to a temporary name, in one read transaction on a connection of its own: ``VACUUM INTO``, or from
       PostgreSQL table by table.
    2. Read the position and the checksum from the copy.
    3. fsync, rename, fsync the directory.

    A crash leaves at most ``{target}.tmp`` behind, which the next call replaces. Raises OSError or DBAPIError when
    the disk fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        _copy(database, temporary)
        faults.reach("snapshot:copied")
        state = _applied(temporary)
        made = Snapshot(
            target, state.position, state.projection_version, sha256_of(temporary), temporary.stat().st_size
        )
        fsync_path(temporary)
        temporary.replace(target)
        faults.reach("snapshot:after_rename")
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(target.parent)
    return made


def verify(path: Path, sha256: str, position: int) -> Snapshot:
    """Check that a received file is the snapshot it was said to be and that this code may use it.

    Raises StorageUnfit for another checksum, another position or another projection version.
    """
    found = sha256_of(path)
    if found != sha256:
        raise StorageUnfit(f"snapshot {path} has SHA-256 {found} instead of {sha256}: it did not arrive whole")
    state = _applied(path)
    if state.position != position:
        raise StorageUnfit(f"snapshot {path} holds position {state.position}, it was announced as {position}")
    return Snapshot(path, state.position, state.projection_version, found, path.stat().st_size)


def _copy(database: Database, target: Path) -> None:
    if isinstance(database, Path):
        vacuum_into(database, target)
        return
    source, copy = open_reader(database), open_writer(target, "off")
    try:
        with source.begin() as reading, copy.begin() as writing:
            Public.metadata.create_all(writing)
            for table in Public.metadata.sorted_tables:
                rows = reading.execution_options(yield_per=_ROWS_PER_STEP).execute(select(table))
                for some in rows.mappings().partitions():
                    writing.execute(insert(table), [dict(row) for row in some])
    finally:
        source.dispose()
        copy.dispose()


def _applied(path: Path) -> projection.AppliedState:
    engine = open_reader(path)
    try:
        with engine.begin() as connection:
            return projection.applied(connection)
    except DatabaseError as error:
        raise StorageUnfit(f"snapshot {path} cannot be read as a database: {error.orig}") from error
    finally:
        engine.dispose()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
