"""The dead letters, for those who have to decide about them."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy import select
from sqlmodel import col

from services.common.database import Database, open_reader
from services.common.ids import created_at
from services.common.models import DeadLetter


class DeadLetterReport(BaseModel):
    """An entry that was refused for good. ``payload`` is shown as text, with what is none escaped."""

    position: int
    created_at: str
    name: str
    version: int
    reason: str
    payload: str


def read_dead_letters(database: Database, after_position: int, letters_max: int) -> list[DeadLetterReport]:
    """The dead letters after a position, oldest first; for any thread."""
    statement = select(DeadLetter).where(col(DeadLetter.position) > after_position)
    engine = open_reader(database)
    try:
        with engine.begin() as connection:
            rows = connection.execute(statement.order_by(col(DeadLetter.position)).limit(letters_max)).all()
    finally:
        engine.dispose()
    return [
        DeadLetterReport(
            position=row.position,
            created_at=created_at(row.position),
            name=row.name,
            version=row.version,
            reason=row.reason,
            payload=row.payload.decode(errors="backslashreplace"),
        )
        for row in rows
    ]
