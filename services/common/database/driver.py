"""What is asked of a database's driver itself, past SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError


@contextmanager
def driver_errors(of: Connection | Engine) -> Iterator[None]:
    """Raise what the driver raises as SQLAlchemy does, its DBAPIError."""
    error_of_driver = of.dialect.loaded_dbapi.Error
    try:
        yield
    except error_of_driver as error:
        raise DBAPIError.instance(None, None, error, error_of_driver) from error
