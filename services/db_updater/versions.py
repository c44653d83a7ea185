"""A database of another projection version gives way to one of this version, and is kept beside it.

A file ``twitter.db`` of version 1 becomes ``twitter.db.version-1``. In its place comes ``twitter.db.version-2`` where
an earlier upgrade has left one, else an empty one; either is then filled up from the archive, like every database that
is behind it. So an upgrade and a roll back are the same. A crash between the two steps leaves no ``twitter.db``, which
the next start meets in the second step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from services.common import projection
from services.common.archive import Archive
from services.common.database import open_writer
from services.common.errors import StorageUnfit
from services.common.events import PROJECTION_VERSION
from services.common.fsync import fsync_path
from services.db_updater.last_batch import archive_last_batch

_SIDECARS: Final = ("-wal", "-shm")
_logger = structlog.get_logger()


def put_own_version_in_place(database: Path, archive: Archive) -> None:
    """Let a file be of this program's version, or not be there.

    Raises StorageUnfit where a database of another version holds what the archive does not.
    """
    if database.exists() and (version := _archived_version(database, archive)) not in (None, PROJECTION_VERSION):
        kept = _kept(database, version)
        for suffix in (*_SIDECARS, ""):
            file = database.with_name(database.name + suffix)
            if file.exists():
                file.replace(kept.with_name(kept.name + suffix))
        fsync_path(database.parent)
        _logger.warning("database_put_aside", path=str(kept), version=version, needed_version=PROJECTION_VERSION)
    own = _kept(database, PROJECTION_VERSION)
    if own.exists() and not database.exists():
        own.replace(database)
        fsync_path(database.parent)
        _logger.warning("database_put_back", path=str(own), version=PROJECTION_VERSION)


def _kept(database: Path, version: int | None) -> Path:
    return database.with_name(f"{database.name}.version-{version}")


def _archived_version(database: Path, archive: Archive) -> int | None:
    """The version that made a file, None for an empty one. If it is not ours, all that it holds is in the archive."""
    engine = open_writer(database, "full")
    try:
        with engine.begin() as connection:
            made = projection.made_by(connection)
            if made is None:
                return None
            if made.projection_version == PROJECTION_VERSION:
                return PROJECTION_VERSION
            archive_last_batch(connection, archive)
    finally:
        engine.dispose()  # the last connection to it: nothing is left in its -wal
    if archive.position < made.position:
        raise StorageUnfit(
            f"{database} is of projection version {made.projection_version} and at {made.position}, but the archive "
            f"ends at {archive.position}: let the program of that version archive the rest first"
        )
    return made.projection_version
