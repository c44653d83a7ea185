"""The projection's tables as a whole: making them, their position, and hashes to compare copies by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, inspect, select
from sqlmodel import col

from services.common.errors import StorageUnfit
from services.common.events import PROJECTION_VERSION
from services.common.models import Applied, Public

_ROWS_PER_STEP = 10_000


@dataclass(frozen=True, slots=True)
class AppliedState:
    """Which prefix of the log a copy holds, under which fence and epoch, made by which projection version."""

    position: int
    fence: int
    epoch: int
    entries: int
    projection_version: int


COPIED: Final = {
    table.name: select(table).order_by(*table.primary_key.columns)
    for table in Public.metadata.sorted_tables
    if table.name != Applied.__tablename__
}
"""All rows, by table, that are equal on every copy of one log. ``applied`` is left out: its fence differs by copy."""
_STATE: Final = select(*(col(getattr(Applied, field.name)) for field in fields(AppliedState)))


def create_tables(connection: Connection) -> None:
    """Create the public tables with an empty projection at position 0; harmless if they exist."""
    Public.metadata.create_all(connection)
    if connection.execute(select(col(Applied.id))).first() is None:
        connection.execute(insert(Applied).values(id=1, projection_version=PROJECTION_VERSION))


def is_made(connection: Connection) -> bool:
    """Whether there is a projection of the log, of whichever version."""
    return inspect(connection).has_table(Applied.__tablename__)


def made_by(connection: Connection) -> AppliedState | None:
    """What this copy holds, whichever version made it; None if it is no projection of the log."""
    return read_state(connection) if is_made(connection) else None


def read_state(connection: Connection) -> AppliedState:
    """What a copy holds that is known to be a projection of the log."""
    return AppliedState(*connection.execute(_STATE).one())


def applied(connection: Connection) -> AppliedState:
    """What this copy holds. Raises StorageUnfit if another projection version made it, or none at all."""
    state = made_by(connection)
    if state is None:
        raise StorageUnfit("this file holds no projection of the log")
    if state.projection_version != PROJECTION_VERSION:
        raise StorageUnfit(
            f"this database was made by projection version {state.projection_version}, this program is version "
            f"{PROJECTION_VERSION}: run `twitter rebuild`, or start the matching version of the program"
        )
    return state


def table_hashes(connection: Connection, on_rows: Callable[[int], None] = lambda _rows: None) -> dict[str, str]:
    """SHA-256 of every public table's rows in primary-key order, by table name.

    Equal logs give equal hashes on every copy, as of the rows that are ``COPIED``.
    ``on_rows`` is told how many more rows were read.
    """
    hashes = {}
    for name, statement in COPIED.items():
        digest = hashlib.sha256()
        rows = connection.execution_options(yield_per=_ROWS_PER_STEP).execute(statement)
        for partition in rows.partitions():
            digest.update(msgspec.json.encode([tuple(row) for row in partition])[1:-1] + b",")
            on_rows(len(partition))
        hashes[name] = digest.hexdigest()
    return hashes
