"""Snapshots: consistent copies of the public database with their position and checksum.

The owner makes them beside its running writer, readers verify what arrived before they open it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from services.common import projection
from services.common.database import open_reader
from services.common.errors import StorageUnfit
from services.common.fsync import fsync_path


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A finished copy: where it is, the prefix of the log it holds, and how to tell that it arrived whole."""

    path: Path
    position: int
    projection_version: int
    sha256: str
    size_bytes: int


def make(database: Path, target: Path) -> Snapshot:
    """Copy a database that may be written meanwhile; ``target`` appears only whole and durable.

    1. ``VACUUM INTO`` a temporary name, one read transaction on a connection of its own (HAZARDS 18).
    2. Read the position and the checksum from the copy.
    3. fsync, rename, fsync the directory.

    A crash leaves at most ``{target}.tmp`` behind, which the next call replaces. Raises OSError or DBAPIError when
    the disk fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        _vacuum_into(database, temporary)
        state = _applied(temporary)
        made = Snapshot(target, state.position, state.projection_version, _sha256(temporary), temporary.stat().st_size)
        fsync_path(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(target.parent)
    return made


def verify(path: Path, sha256: str, position: int) -> Snapshot:
    """Check that a received file is the snapshot it was said to be and that this code may use it.

    Raises StorageUnfit for another checksum, another position or another projection version.
    """
    found = _sha256(path)
    if found != sha256:
        raise StorageUnfit(f"snapshot {path} has SHA-256 {found} instead of {sha256}: it did not arrive whole")
    state = _applied(path)
    if state.position != position:
        raise StorageUnfit(f"snapshot {path} holds position {state.position}, it was announced as {position}")
    return Snapshot(path, state.position, state.projection_version, found, path.stat().st_size)


def _vacuum_into(database: Path, target: Path) -> None:
    engine = open_reader(database)
    try:
        with engine.connect() as connection:
            # query_only forbids VACUUM INTO too, although it writes nothing to the database it reads.
            connection.exec_driver_sql("PRAGMA query_only=0")
            connection.exec_driver_sql("COMMIT")  # what SQLAlchemy began: VACUUM makes a transaction of its own
            connection.exec_driver_sql("VACUUM INTO ?", (str(target),))
    finally:
        engine.dispose()


def _applied(path: Path) -> projection.AppliedState:
    engine = open_reader(path)
    try:
        with engine.begin() as connection:
            return projection.applied(connection)
    except DatabaseError as error:
        raise StorageUnfit(f"snapshot {path} cannot be read as a database: {error.orig}") from error
    finally:
        engine.dispose()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
