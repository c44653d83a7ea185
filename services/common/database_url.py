"""Which database a DATABASE_URL names, as text: for settings, which load no SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_SQLITE_SCHEME: Final = "sqlite:///"
_POSTGRESQL_SCHEMES: Final = ("postgresql+psycopg", "postgresql", "postgres")


def sqlite_path(database_url: str) -> Path:
    """The file that ``sqlite:///relative``, ``sqlite:////absolute`` or a bare path names; ValueError for all else."""
    text = database_url.removeprefix(_SQLITE_SCHEME)
    is_file = text and not text.endswith("/") and not set(text) & set("?#\0") and ":memory:" not in text
    if "://" in text or not is_file:
        raise ValueError("must name a SQLite file: sqlite:///./data/twitter.db, sqlite:////abs/path.db or a bare path")
    return Path(text)


def is_postgresql(database_url: str) -> bool:
    """Whether it names a PostgreSQL database."""
    return database_url.startswith("postgres") and "://" in database_url


def postgresql_url(database_url: str) -> str:
    """The URL in the one form that SQLAlchemy knows our driver by. Raises ValueError."""
    parts = urlsplit(database_url)
    try:
        is_whole = parts.scheme in _POSTGRESQL_SCHEMES and len(parts.path) > 1 and (parts.port or 0) >= 0
    except ValueError:  # the port is none
        is_whole = False
    if not is_whole:
        raise ValueError("must look like postgresql+psycopg://user:password@host:5432/database")
    return parts._replace(scheme=_POSTGRESQL_SCHEMES[0]).geturl()


def check_database_url(database_url: str) -> str:
    """Return the URL as it is. Raises ValueError for one that names no database we could use."""
    if is_postgresql(database_url):
        postgresql_url(database_url)
    else:
        sqlite_path(database_url)
    return database_url
