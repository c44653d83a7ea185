"""A read-only connection that runs compiled statements at the driver's speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn, Self, cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Engine,
    Integer,
    Select,
    bindparam,
    literal_column,
    select,
)
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from services.common.database import is_damage, is_environment_fault, paramstyle
from services.common.errors import StorageUnfit, StoreUnavailable
from services.common.models import Applied

Row = tuple[Any, ...]
Statement = Select[Any] | CompoundSelect[Any]
"""A query; what varies in it is a ``bindparam``."""

ROWS_MAX: Final[ColumnElement[int]] = bindparam("rows_max", type_=Integer()) + literal_column("0")
"""For ``limit()``. With nothing but a parameter there, SQLite plans the statement anew each time: 70 µs.

A number is a parameter, too; ``literal_column`` makes it a part of the statement.
"""

_POSITION = select(col(Applied.position))


def id_parameters(count: int) -> list[BindParameter[int]]:
    """For ``in_()``, in a statement that ``rows_of`` runs."""
    return [bindparam(f"id_{number}") for number in range(count)]


class Reader:
    """One connection of an engine made by ``open_reader``, for one thread at a time.

    Statements are SQLAlchemy selects, compiled once an engine and then run on the driver's own connection, which
    keeps them prepared: a primary-key look-up takes 10 µs so, and 100 µs through ``Connection.execute``.

    Everything raises StoreUnavailable where disk, memory or a lock failed, and StorageUnfit where the file is damaged.
    """

    def __init__(self, engine: Engine) -> None:
        try:
            self._checked_out = engine.raw_connection()
        except DBAPIError as error:
            if is_environment_fault(error):
                raise StoreUnavailable(str(error.orig)) from error
            raise
        self._connection = cast("Any", self._checked_out.driver_connection)
        self._cursor = self._connection.cursor()  # all rows are taken at once, so one is enough
        dialect: Any = type(engine.dialect)
        self._dialect = dialect(paramstyle=paramstyle(engine))
        self._error: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._compiled: dict[Statement, tuple[str, dict[str, object]]] = {}
        self.is_held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, statement: Statement, **parameters: object) -> list[Row]:
        """All rows of a statement."""
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = self._compile(statement)
        text, constants = compiled
        try:
            found: list[Row] = self._cursor.execute(
                text, constants | parameters if constants else parameters
            ).fetchall()
        except self._error as error:
            _raise_as_ours(error)
        return found

    def rows_of(self, statement_of: Callable[[int], Statement], ids: Sequence[int]) -> list[Row]:
        """All rows of the statement about so many ids (``id_parameters``); none if there are no ids."""
        if not ids:
            return []
        size = 1 << (len(ids) - 1).bit_length()  # a few sizes, so that each statement is made and prepared once
        padded = {f"id_{number}": ids[min(number, len(ids) - 1)] for number in range(size)}
        return self.rows(statement_of(size), **padded)

    def position(self) -> int:
        """The position that the rows read now belong to."""
        position: int = self.rows(_POSITION)[0][0]
        return position

    @contextmanager
    def transaction(self) -> Iterator[int]:
        """Everything read inside belongs to one state; yields its position."""
        if self.is_held:
            yield self.position()
            return
        self._begin()
        try:
            yield self.position()
        finally:
            self._end()

    def hold(self) -> None:
        """Let everything that is read until ``release`` belong to one state."""
        self._begin()
        self.is_held = True

    def release(self) -> None:
        """Let what is read from here on be of the newest state; harmless where none is held."""
        if self.is_held:
            self.is_held = False
            self._end()

    def close(self) -> None:
        """Give the connection back to the engine."""
        self._checked_out.close()

    def discard(self) -> None:
        """Close the connection, which nobody may use again."""
        self._checked_out.invalidate()
        self._checked_out.close()

    def _begin(self) -> None:
        try:
            self._cursor.execute("BEGIN")
        except self._error as error:
            _raise_as_ours(error)

    def _end(self) -> None:
        """End the transaction, which a failing disk may have ended already; of a damaged file a commit would fail."""
        try:
            self._connection.rollback()  # nothing was written
        except self._error as error:
            _raise_as_ours(error)

    def _compile(self, statement: Statement) -> tuple[str, dict[str, object]]:
        """The text and the values that are part of the statement itself (SQLAlchemy binds an OFFSET 0, for one)."""
        compiled = statement.compile(dialect=self._dialect)
        return str(compiled), {name: bind.value for name, bind in compiled.binds.items() if not bind.required}


def _raise_as_ours(error: Exception) -> NoReturn:
    if is_environment_fault(error):
        raise StoreUnavailable(str(error)) from error
    if is_damage(error):
        raise StorageUnfit(f"the database is damaged: {error}") from error
    raise error
