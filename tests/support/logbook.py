"""Logs made up in memory: entries with an unbroken chain, for tests that need no Redis."""

from __future__ import annotations

from collections.abc import Iterable

from services.common import events
from services.common.events import Event
from services.common.ids import position_at
from services.common.log.entry import Entry

FIRST_MS = 1_763_817_660_000


def chained(records: Iterable[Event | tuple[str, bytes]], after_position: int = 0) -> list[Entry]:
    """Entries a millisecond apart, each continuing from the one before; a tuple is a raw (type, payload)."""
    entries: list[Entry] = []
    prev = after_position
    start = max(position_at(FIRST_MS), after_position)
    for number, record in enumerate(records, start=1):
        name, payload = (record.name, events.encode(record)) if isinstance(record, Event) else record
        position = start + number * 4096
        entries.append(Entry(position, prev, name, 1, payload))
        prev = position
    return entries
