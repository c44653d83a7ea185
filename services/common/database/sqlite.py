"""SQLite: which library, how a file is opened, and what its pragmas mean.

SQLite before 3.51.3 (3.50.7, 3.44.6) can corrupt a WAL file when two connections write or checkpoint at once.
So one connection writes a file, and it alone checkpoints; all others are ``query_only`` and never checkpoint.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from services.common.database.driver import driver_errors
from services.common.errors import StorageUnfit

try:
    from pysqlite3 import dbapi2 as _bundled  # a current SQLite, where there is a wheel
except ImportError:
    _bundled = None

NAME: Final = "sqlite"
SQLITE_VERSION_MIN: Final = (3, 37, 0)  # VACUUM INTO, WITHOUT ROWID, upsert, RETURNING, row values
_ENVIRONMENT_FAULTS: Final = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)
BUSY_TIMEOUT_MS: Final = 5_000
READER_BUSY_TIMEOUT_MS: Final = 250  # a writer in WAL mode locks no reader out, so this is a fault, and somebody waits
CACHE_KIB: Final = 16_384
COPY_CACHE_KIB: Final = 2_048
"""Of each connection to a copy that can be lost. With 16 MB batches were no cheaper: the kernel has the pages."""
MAPPED_BYTES_MAX: Final = 2**40
"""More than any file. The library has a bound of its own, by default 2 GB; what is beyond, it reads as ever."""


def sqlite_library() -> ModuleType:
    """The DB-API module in use: pysqlite3 where it is installed, else the standard library's."""
    return _bundled if _bundled is not None else sqlite3


def check_sqlite(version: tuple[int, ...] | None = None) -> str:
    """Return the SQLite version in use. Raises StorageUnfit when it lacks what this project needs."""
    found = version or sqlite_library().sqlite_version_info
    text = ".".join(map(str, found))
    if tuple(found) < SQLITE_VERSION_MIN:
        needed = ".".join(map(str, SQLITE_VERSION_MIN))
        raise StorageUnfit(
            f"SQLite {text} is too old, {needed} or newer is needed: run `pip install 'pysqlite3>=0.6.1'`, "
            "or use a Python built with a newer SQLite"
        )
    return text


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """Whether this SQLite has the fix for WAL corruption by concurrent writers or checkpoints."""
    fixed_series = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}
    return version >= fixed_series.get((version[0], version[1]), (3, 51, 3))


def is_fault(error: object) -> bool:
    """Whether disk, memory or a lock failed, so that the same may succeed later; all else is a bug or damage."""
    return _code(error) in _ENVIRONMENT_FAULTS


def is_damage(error: object) -> bool:
    """Whether the file is not, or no longer, a database as SQLite writes it."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: object) -> int:
    """The primary result code, of which the extended ones are kinds."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def open_writer(path: Path, durability: str) -> Engine:
    """Open a file for its one writer: one connection, ``BEGIN IMMEDIATE``, WAL, automatic checkpoints."""
    check_sqlite()
    engine = create_engine(
        f"sqlite:///{path}",
        module=sqlite_library(),
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )
    cache_kib = CACHE_KIB if durability == "full" else COPY_CACHE_KIB
    _on_connect(
        engine, "PRAGMA journal_mode=WAL", f"PRAGMA synchronous={durability}", f"PRAGMA cache_size=-{cache_kib}"
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def open_reader(path: Path, *, is_mapped: bool = False) -> Engine:
    """Open a file for reading only: ``query_only``, no checkpoints, a small pool of connections.

    ``is_mapped`` reads pages where the kernel holds them, not copies; an error of the disk is then a SIGBUS.
    """
    check_sqlite()
    engine = create_engine(
        f"sqlite:///{path}",
        module=sqlite_library(),
        poolclass=QueuePool,
        connect_args={"check_same_thread": False, "timeout": READER_BUSY_TIMEOUT_MS / 1000},
    )
    _on_connect(
        engine,
        "PRAGMA query_only=1",
        "PRAGMA wal_autocheckpoint=0",
        f"PRAGMA cache_size=-{COPY_CACHE_KIB if is_mapped else CACHE_KIB}",
        f"PRAGMA mmap_size={MAPPED_BYTES_MAX if is_mapped else 0}",
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def open_private_writer(database: Path) -> Engine:
    """Open the file for what is in no snapshot, beside the file of ``open_writer``.

    Deleted rows are overwritten in it, instead of being left on free pages.
    """
    engine = open_writer(private_path(database), "full")
    _run(engine, "PRAGMA secure_delete=ON")
    return engine


def private_path(database: Path) -> Path:
    """Where the private tables of a database are: ``twitter.db`` -> ``twitter.private.db``."""
    return database.with_name(f"{database.stem}.private.db")


def purge(engine: Engine) -> None:
    """Bring the file of ``open_writer`` up to date and cut its WAL to nothing: that holds what pages were before."""
    _run(engine, "PRAGMA wal_checkpoint(TRUNCATE)")


def vacuum_into(path: Path, target: Path) -> None:
    """Copy a file that may be written meanwhile, in one read transaction (HAZARDS 18)."""
    engine = open_reader(path)
    try:
        with engine.connect() as connection:
            # query_only forbids VACUUM INTO too, although it writes nothing to the database it reads.
            connection.exec_driver_sql("PRAGMA query_only=0")
            connection.exec_driver_sql("COMMIT")  # what SQLAlchemy began: VACUUM makes a transaction of its own
            connection.exec_driver_sql("VACUUM INTO ?", (str(target),))
    finally:
        engine.dispose()


def _run(engine: Engine, pragma: str) -> None:
    """Run a pragma outside of any transaction, which SQLAlchemy would begin."""
    connection = engine.raw_connection()
    try:
        with driver_errors(engine):
            connection.driver_connection.execute(pragma).fetchall()  # type: ignore[union-attr]  # there is one
    finally:
        connection.close()


def _on_connect(engine: Engine, *pragmas: str) -> None:
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy says BEGIN, not the driver
        for pragma in pragmas:
            connection.execute(pragma)

    event.listen(engine, "connect", configure)
