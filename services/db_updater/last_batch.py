"""The entries of the batch committed last, in one row of the owner's database.

No part of the projection: what a crash kept from the archive, and a log that lost it, is still here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    insert,
    inspect,
    select,
    update,
)

from services.common.archive import Archive
from services.common.log.entry import Entry
from services.common.projection.statements import change

_table = Table(
    "last_batch", MetaData(), Column("id", Integer, primary_key=True), Column("entries", LargeBinary, nullable=False)
)
_KEEP: Final = update(_table).values(entries=bindparam("kept"))
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[Entry])


def create_last_batch(connection: Connection) -> None:
    """Make the row, of no entries; harmless if there is one."""
    if not inspect(connection).has_table(_table.name):
        _table.create(connection)
        connection.execute(insert(_table).values(id=1, entries=_encode([])))


def keep_last_batch(connection: Connection, entries: Sequence[Entry]) -> None:
    """Keep these entries instead of those before, in the transaction that applies them; within ``driver_errors``."""
    change(connection, _KEEP, kept=_encode([entry.kept for entry in entries]))


def archive_last_batch(connection: Connection, archive: Archive) -> None:
    """Archive the batch committed last, if a crash came between the two."""
    entries = _decoder.decode(connection.execute(select(_table.c.entries)).scalar_one())
    if entries and entries[0].prev <= archive.position:
        archive.append(entries)
