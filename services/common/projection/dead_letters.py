"""The entries that were refused for good, as rows."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select
from sqlmodel import col

from services.common.log.entry import Entry
from services.common.models import DeadLetter


def take_dead_letter(connection: Connection, position: int) -> Entry | None:
    """Remove a dead letter; returns the entry that it was, but for what came before it. None if there is none."""
    entry = dead_letter(connection, position)
    connection.execute(delete(DeadLetter).where(col(DeadLetter.position) == position))
    return entry


def dead_letter(connection: Connection, position: int) -> Entry | None:
    """The entry that a dead letter was, but for what came before it. None if there is none."""
    columns = (col(DeadLetter.name), col(DeadLetter.version), col(DeadLetter.payload))
    row = connection.execute(select(*columns).where(col(DeadLetter.position) == position)).first()
    return Entry(position, -1, *row) if row else None
