"""One integer for an entry, its place in the log and what it created.

``position = (unix_ms - EPOCH_MS) * 4096 + sequence``; the stream entry id is ``unix_ms-sequence``.
Positions stay below 2^53 until the year 2094, so they are safe JSON numbers. append.lua does the same sum.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

EPOCH_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
SEQUENCES_PER_MS = 4096
POSITION_MAX = 2**53 - 1
FIXTURE_ID_MAX = 2**20 - 1  # explicit ids of fixtures; the log never makes one this small
BEGINNING = 0  # the position before the first entry
# Numbers as text: to write one takes longer than to find it here.
_IN_HOUR = tuple(f"{second // 60:02}:{second % 60:02}." for second in range(3600))
_THREE_DIGITS = tuple(f"{number:03}" for number in range(1000))


def position_from_entry_id(entry_id: str) -> int:
    """Turn a stream entry id (``"1763818000000-3"``) into its position."""
    unix_ms, _, sequence = entry_id.partition("-")
    return position_at(int(unix_ms), int(sequence))


def position_at(unix_ms: int, sequence: int = 0) -> int:
    """The position of the given sequence number within a millisecond of Unix time."""
    return (unix_ms - EPOCH_MS) * SEQUENCES_PER_MS + sequence


def entry_id(position: int) -> str:
    """The stream entry id of a position; ``0-0`` for the beginning, before every entry."""
    if position <= BEGINNING:
        return "0-0"
    return f"{unix_ms_of(position)}-{position % SEQUENCES_PER_MS}"


def unix_ms_of(position: int) -> int:
    """The millisecond of Unix time in which a position was made."""
    return position // SEQUENCES_PER_MS + EPOCH_MS


def created_at(position: int) -> str:
    """When a position was made, as ``time_of`` says it."""
    return time_of(unix_ms_of(position))


def time_of(unix_ms: int) -> str:
    """A time as RFC 3339 in UTC with milliseconds: ``2026-11-22T13:21:00.123Z``."""
    return f"{_hour(unix_ms // 3_600_000)}{_IN_HOUR[unix_ms // 1_000 % 3_600]}{_THREE_DIGITS[unix_ms % 1_000]}Z"


@lru_cache(8192)
def _hour(hours: int) -> str:
    """The hour so many after the beginning of 1970-01-01: what takes longest of a time, and there are few."""
    days, hour = divmod(hours, 24)
    return f"{(date(1970, 1, 1) + timedelta(days)).isoformat()}T{hour:02}:"
