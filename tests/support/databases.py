"""Which database a test's owner writes: a SQLite file, or with TEST_DATABASE=postgresql one of a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from services.common.database import Database, database_of, open_reader
from services.common.database.postgresql import PRIVATE_SCHEMA
from services.common.database.sqlite import private_path
from tests.support.postgresql_server import PostgresqlServer

USES_POSTGRESQL: Final = os.environ.get("TEST_DATABASE") == "postgresql"

READ_STORE: Final = os.environ.get("TEST_READ_STORE", "replica")
"""What the readers of systems are told."""

NOTE: Final = "postgresql-url"
"""The file in an owner's directory that names its database, where that is not a SQLite file beside it."""

servers: list[PostgresqlServer] = []
"""The one that all owners use, if any."""


def use_postgresql(directory: Path, server: PostgresqlServer) -> None:
    """Let the owner of a directory write a new database of this server. Other processes find a note of it there."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / NOTE).write_text(server.new_database())


def database_url(directory: Path) -> str:
    """What the owner of a directory is told."""
    note = directory / NOTE
    if servers and not note.exists():
        use_postgresql(directory, servers[0])
    return note.read_text() if note.exists() else str(directory / "twitter.db")


def database_in(directory: Path) -> Database:
    """The database of the owner of a directory."""
    return database_of(database_url(directory))


def open_private_reader(database: Database) -> Engine:
    """Read what an owner keeps in confidence."""
    if isinstance(database, Path):
        return open_reader(private_path(database))
    return open_reader(database).execution_options(schema_translate_map={None: PRIVATE_SCHEMA})


@contextmanager
def connected(database: Database) -> Iterator[Connection]:
    """A connection for looking into a database while its owner runs."""
    engine = open_reader(database)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
