"""Two databases that should hold the same rows: table by table, and where they differ, which keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Table, func, select

from services.common import projection
from services.common.database import open_reader
from services.common.models import Applied, Public

DIFFERENCES_MAX: Final = 5
ROWS_PER_STEP: Final = 1_000


class TableReport(msgspec.Struct, frozen=True):
    """One table of both databases. ``differences`` names the first keys that are not alike, and how."""

    rows: int
    sha256: str
    is_equal: bool
    differences: list[str]


def compare(found: Path, expected: Path, on_rows: Callable[[int], None]) -> dict[str, TableReport]:
    """Compare the public tables by hash, and those that differ row by row. ``on_rows`` hears of rows read."""
    found_engine, expected_engine = open_reader(found), open_reader(expected)
    try:
        with found_engine.begin() as left, expected_engine.begin() as right:
            found_hashes = projection.table_hashes(left, on_rows)
            expected_hashes = projection.table_hashes(right, on_rows)
            return {
                table.name: _report(table, left, right, found_hashes[table.name], expected_hashes[table.name])
                for table in public_tables()
            }
    finally:
        found_engine.dispose()
        expected_engine.dispose()


def public_tables() -> list[Table]:
    """The tables that are a function of the log."""
    return [table for table in Public.metadata.sorted_tables if table.name != Applied.__tablename__]


def count_rows(connection: Connection, table: Table) -> int:
    """How many rows a table has."""
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _report(table: Table, left: Connection, right: Connection, found_hash: str, expected_hash: str) -> TableReport:
    is_equal = found_hash == expected_hash
    differences = [] if is_equal else list(islice(_differences(table, left, right), DIFFERENCES_MAX))
    return TableReport(count_rows(left, table), found_hash, is_equal, differences)


def _differences(table: Table, left: Connection, right: Connection) -> Iterator[str]:
    """Walk both tables in the order of their keys, side by side."""
    found_rows, expected_rows = _rows(table, left), _rows(table, right)
    found, expected = next(found_rows, None), next(expected_rows, None)
    while found is not None or expected is not None:
        if expected is None or (found is not None and found[0] < expected[0]):
            assert found is not None  # noqa: S101 - the loop's condition
            yield f"{_key(table, found[0])}: not in the rebuilt database"
            found = next(found_rows, None)
        elif found is None or expected[0] < found[0]:
            yield f"{_key(table, expected[0])}: only in the rebuilt database"
            expected = next(expected_rows, None)
        else:
            if found[1] != expected[1]:
                yield f"{_key(table, found[0])}: {_columns(found[1], expected[1])}"
            found, expected = next(found_rows, None), next(expected_rows, None)


def _rows(table: Table, connection: Connection) -> Iterator[tuple[tuple[Any, ...], Row[Any]]]:
    keys = table.primary_key.columns
    statement = select(table).order_by(*keys)
    for row in connection.execution_options(yield_per=ROWS_PER_STEP).execute(statement):
        yield tuple(getattr(row, column.name) for column in keys), row


def _key(table: Table, key: tuple[Any, ...]) -> str:
    return " ".join(f"{column.name}={value}" for column, value in zip(table.primary_key.columns, key, strict=True))


def _columns(found: Row[Any], expected: Row[Any]) -> str:
    """Which columns of a row differ: ``likes=2 instead of 3``."""
    return ", ".join(
        f"{name}={value!r} instead of {other!r}"
        for name, value, other in zip(found._fields, found, expected, strict=True)
        if value != other
    )
