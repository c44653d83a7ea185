"""The few statements that every batch runs, at the driver's speed.

SQLAlchemy makes their text, once for each kind of database. The driver takes it with plain tuples: what
``Connection.execute`` does for each statement, row and key costs more than the database does. Use them within
``driver_errors``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from itertools import chain, islice
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Delete, Dialect, Insert, Table, Update, select, tuple_

KEYS_PER_QUERY: Final = 512

Key = TypeVar("Key")
Change = Insert | Update | Delete
"""What changes one row; all that varies in it is a ``bindparam``."""


class Text(NamedTuple):
    """A statement in the driver's words, and the names of its parameters in the order in which it takes them."""

    text: str
    names: tuple[str, ...]


def text_of(connection: Connection, change: Change, names: tuple[str, ...] = ()) -> Text:
    """A change with parameters of these names, beside those that it names itself."""
    dialect: Any = type(connection.dialect)
    return _text_of(dialect, change, names)


def change(connection: Connection, change: Change, **values: Any) -> int:
    """Run a change once, with these values for its parameters; returns how many rows it changed."""
    text, names = text_of(connection, change)
    changed: int = _cursor(connection).execute(text, tuple([values[name] for name in names])).rowcount
    return changed


def change_many(connection: Connection, text: Text, rows: list[tuple[Any, ...]]) -> None:
    """Run a change for each of these rows."""
    if rows:
        _cursor(connection).executemany(text.text, rows)


def rows_with(
    connection: Connection, table: Table, columns: tuple[str, ...], key: tuple[str, ...], wanted: Collection[Any]
) -> list[tuple[Any, ...]]:
    """These columns of the rows whose ``key``, of one column or several, is among those wanted.

    Asked for in the order of the keys, so that one query after another goes on where the one before was on disk.
    """
    dialect: Any = type(connection.dialect)
    cursor = _cursor(connection)
    rows: list[tuple[Any, ...]] = []
    for some in chunks(sorted(wanted)):
        size = 1 << (len(some) - 1).bit_length()
        padded = some + some[-1:] * (size - len(some))  # a few sizes, so that each text is made and prepared once
        values = padded if len(key) == 1 else chain.from_iterable(padded)
        rows += cursor.execute(_query(dialect, table, columns, key, size), tuple(values)).fetchall()
    return rows


def chunks(keys: Collection[Key]) -> Iterator[list[Key]]:
    """The keys, in lists that fit into one query."""
    remaining = iter(keys)
    while some := list(islice(remaining, KEYS_PER_QUERY)):
        yield some


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()


@cache
def _text_of(dialect: Any, change: Change, names: tuple[str, ...]) -> Text:
    compiled = change.compile(dialect=_positional(dialect), column_keys=names)
    return Text(str(compiled), tuple(compiled.positiontup or ()))


@cache
def _query(dialect: Any, table: Table, columns: tuple[str, ...], key: tuple[str, ...], size: int) -> str:
    statement = select(*(table.c[name] for name in columns))
    if len(key) == 1:
        statement = statement.where(table.c[key[0]].in_([0] * size))
    else:
        statement = statement.where(tuple_(*(table.c[name] for name in key)).in_([(0,) * len(key)] * size))
    return str(statement.compile(dialect=_positional(dialect), compile_kwargs={"render_postcompile": True}))


def _positional(dialect: Any) -> Dialect:
    """Of this class of dialects, the one whose statements take a tuple."""
    positional: Dialect = dialect(paramstyle="qmark" if dialect.name == "sqlite" else "format")
    return positional
