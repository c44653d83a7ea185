"""PostgreSQL, through psycopg: how a database is opened, and what its errors mean.

One session writes a schema: it holds an advisory lock on it for as long as it lives. The public tables are in the
first schema of the search path; the private ones are in a schema of their own, which a reader's role need not see.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event

from services.common.errors import StorageUnfit

PRIVATE_SCHEMA: Final = "private"
CONNECT_SECONDS: Final = 2
SILENCE_MS_MAX: Final = 5_000
"""Either side takes the other for gone when nothing was acknowledged for so long."""
OTHER_WRITER_MS_MAX: Final = 5_000
"""The server takes a moment to notice that a writer was killed; one that holds its lock for longer is alive."""
READERS_MAX: Final = 16

# SQLSTATE classes and codes: connection, roll-back (deadlock), resources, operator (shutdown, time-out), system;
# a lock that was not to be had; a server that has become a standby.
_FAULT_STATES: Final = ("08", "40", "53", "57", "58", "55P03", "25006")
_KEEPALIVES: Final = {"idle": 2, "interval": 1, "count": 3}


def is_fault(error: object) -> bool:
    """Whether the server, its disk or the way to it failed, so that the same may succeed later; all else is a bug."""
    psycopg: Any = sys.modules.get("psycopg")  # 6 MB, which nobody holds who has no PostgreSQL
    if psycopg is None or not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # not the server's word: the connection is lost, or none could be made
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return bool(error.sqlstate.startswith(_FAULT_STATES))


def open_writer(url: URL, durability: str) -> Engine:
    """Open the public schema for its one writer: one session, which nobody else has while this one lives."""
    return _open_writer(url, f"-c synchronous_commit={'on' if durability == 'full' else 'off'}")


def open_private_writer(url: URL) -> Engine:
    """Open the private schema for its one writer, and make it if there is none."""
    admin = _engine(url)
    try:
        with admin.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {PRIVATE_SCHEMA}")
    finally:
        admin.dispose()
    return _open_writer(url, f"-c synchronous_commit=on -c search_path={PRIVATE_SCHEMA}")


def open_reader(url: URL) -> Engine:
    """Open a database for reading only; all that a transaction reads belongs to one state.

    A connection that is used without SQLAlchemy commits each statement by itself.
    """
    engine = _engine(url, r"-c default_transaction_read_only=on -c default_transaction_isolation=repeatable\ read")
    event.listen(engine, "connect", _commit_each_statement)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _open_writer(url: URL, options: str) -> Engine:
    engine = _engine(url, options, connections_max=1)
    event.listen(engine, "connect", _become_the_writer)
    return engine


def _engine(url: URL, options: str = "", connections_max: int = READERS_MAX) -> Engine:
    try:
        import psycopg  # noqa: F401, PLC0415 - the extra `postgresql`
    except ImportError as error:
        raise StorageUnfit(
            "DATABASE_URL names PostgreSQL: run `pip install 'twitter-clone[postgresql]'` first"
        ) from error
    given = url.query.get("options", "")
    noticing = " ".join(f"-c tcp_keepalives_{name}={value}" for name, value in _KEEPALIVES.items())
    return create_engine(
        url.difference_update_query(["options"]),
        pool_size=connections_max,
        max_overflow=0,
        connect_args={
            "application_name": "twitter-clone",
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": SILENCE_MS_MAX,
            "options": f"{given} {noticing} {options}",
            **{f"keepalives_{name}": value for name, value in _KEEPALIVES.items()},
        },
    )


def _become_the_writer(connection: Any, _record: object) -> None:
    """Take the lock of the session's schema. Raises StorageUnfit while another session holds it."""
    import psycopg  # noqa: PLC0415 - it is connected by

    connection.autocommit = True
    try:
        connection.execute(f"SET lock_timeout = {OTHER_WRITER_MS_MAX}")
        connection.execute("SELECT pg_advisory_lock(hashtext('twitter-clone writes ' || current_schema()))")
        connection.execute("RESET lock_timeout")
    except psycopg.errors.LockNotAvailable as error:
        connection.close()
        raise StorageUnfit(
            "the database already has an owner, perhaps on another machine: stop that one first, there must be one only"
        ) from error
    connection.autocommit = False


def _commit_each_statement(connection: Any, _record: object) -> None:
    connection.autocommit = True  # SQLAlchemy says BEGIN, not the driver
