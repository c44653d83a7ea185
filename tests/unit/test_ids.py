"""Positions, entry ids and times are one thing in three notations."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.common import ids

positions = st.integers(min_value=1, max_value=ids.POSITION_MAX)


@given(positions)
def test_a_position_survives_its_notation_as_entry_id(position: int) -> None:
    """Whatever position the log can make, its entry id leads back to it exactly."""
    assert ids.position_from_entry_id(ids.entry_id(position)) == position


@given(positions, positions)
def test_entry_ids_order_as_positions_do(one: int, other: int) -> None:
    """Redis compares the two numbers of an entry id; positions must give the same order."""

    def as_redis_compares(position: int) -> tuple[int, ...]:
        return tuple(map(int, ids.entry_id(position).split("-")))

    assert (one < other) == (as_redis_compares(one) < as_redis_compares(other))


def test_the_beginning_is_before_every_entry() -> None:
    """Position 0 reads a stream from its start."""
    assert ids.entry_id(ids.BEGINNING) == "0-0"


def test_created_at_is_the_millisecond_of_the_position() -> None:
    """A tweet's time is in its id; no other clock is asked."""
    assert ids.created_at(ids.position_at(1_763_817_660_123, 7)) == "2025-11-22T13:21:00.123Z"


@given(st.integers(0, ids.POSITION_MAX))
def test_created_at_is_written_as_the_calendar_has_it(position: int) -> None:
    """It is put together from a day and the rest of it; the standard library takes three times as long."""
    moment = datetime.fromtimestamp(ids.unix_ms_of(position) / 1000, UTC)
    assert ids.created_at(position) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_positions_are_safe_json_numbers_for_decades() -> None:
    """A JavaScript client reads ids exactly until 2094."""
    year_2090_ms = 3_786_912_000_000
    assert ids.position_at(year_2090_ms, 4095) < 2**53
