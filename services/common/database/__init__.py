"""The databases this project runs on, and the only place where one is told from the other.

A ``Database`` is the path of a SQLite file, or the URL of a PostgreSQL database. Either is written through one
connection, its writer's, and read through others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import DBAPIError

from services.common.database import postgresql, sqlite
from services.common.database.driver import driver_errors
from services.common.database.sqlite import check_sqlite, has_wal_fix, private_path, sqlite_library, vacuum_into
from services.common.database_url import is_postgresql, postgresql_url, sqlite_path

__all__ = [
    "Database",
    "Durability",
    "check_sqlite",
    "database_of",
    "driver_errors",
    "has_wal_fix",
    "is_damage",
    "is_environment_fault",
    "open_private_writer",
    "open_reader",
    "open_writer",
    "paramstyle",
    "private_path",
    "purge",
    "shown",
    "sqlite_library",
    "vacuum_into",
]

Database = Path | URL
Durability = Literal["full", "off"]


def database_of(database_url: str) -> Database:
    """The database that a DATABASE_URL names. Raises ValueError."""
    if is_postgresql(database_url):
        return make_url(postgresql_url(database_url))
    return sqlite_path(database_url)


def shown(database: Database) -> str:
    """A database for people to read, without its password."""
    return str(database) if isinstance(database, Path) else database.render_as_string(hide_password=True)


def open_writer(database: Database, durability: Durability) -> Engine:
    """Open a database for its one writer, through one connection.

    ``full`` survives a power cut (the owner); ``off`` is for copies that are thrown away at a crash (replicas).
    """
    if isinstance(database, Path):
        return sqlite.open_writer(database, durability)
    return postgresql.open_writer(database, durability)


def open_reader(database: Database, *, is_mapped: bool = False) -> Engine:
    """Open a database for reading only; all that a transaction reads belongs to one state.

    ``is_mapped`` is for a file that can be lost: it is read as memory, and where the disk fails the process ends.
    """
    if isinstance(database, Path):
        return sqlite.open_reader(database, is_mapped=is_mapped)
    return postgresql.open_reader(database)


def open_private_writer(database: Database) -> Engine:
    """Open, for its one writer, the place for what is in no snapshot of a database (ADR 3)."""
    if isinstance(database, Path):
        return sqlite.open_private_writer(database)
    return postgresql.open_private_writer(database)


def purge(engine: Engine) -> None:
    """Leave nothing in the file of ``open_private_writer`` of what was deleted or replaced.

    PostgreSQL vacuums by itself, and what its disk and its own log keep of such rows is for that server to settle.
    """
    if engine.dialect.name == sqlite.NAME:
        sqlite.purge(engine)


def paramstyle(engine: Engine) -> Literal["named", "pyformat"]:
    """How the driver's own connection wants parameters to be named in a statement."""
    return "named" if engine.dialect.name == sqlite.NAME else "pyformat"


def is_environment_fault(error: BaseException | None) -> bool:
    """Whether disk, memory, a lock or a server failed, so that the same may succeed later; all else is a bug.

    Takes the driver's error, or SQLAlchemy's around it.
    """
    if isinstance(error, DBAPIError):
        error = error.orig
    return sqlite.is_fault(error) or postgresql.is_fault(error)


def is_damage(error: BaseException | None) -> bool:
    """Whether the driver says that its file is no longer a database; PostgreSQL sees to its own files.

    Takes the driver's error, or SQLAlchemy's around it.
    """
    return sqlite.is_damage(error.orig if isinstance(error, DBAPIError) else error)
