"""Waiting for a position: woken in order, bounded, and nothing left behind."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import PositionNotReached
from services.common.ids import position_at
from services.read import applied_position
from services.read.applied_position import AppliedPosition

NOW_MS = 1_800_000_000_000


def at(position: int) -> AppliedPosition:
    """Applied up to a position, on a clock that stands still."""
    applied = AppliedPosition(clock_ms=lambda: NOW_MS)
    applied.advance(position)
    return applied


@pytest.mark.anyio
async def test_waiters_wake_as_soon_as_their_position_is_applied_and_not_before() -> None:
    """Three waiters, asked in another order than their positions."""
    applied = at(10)
    waiters = {
        position: asyncio.create_task(applied.reach(position, timeout_seconds=30)) for position in (13, 11, 12, 12)
    }
    await asyncio.sleep(0)
    applied.advance(12)
    await waiters[11]
    await waiters[12]
    assert not waiters[13].done()
    applied.advance(20)
    await waiters[13]


@pytest.mark.anyio
async def test_a_position_that_is_not_reached_in_time_is_refused_and_forgotten() -> None:
    """Redis is down and clients go on asking: the waiters must not pile up."""
    applied = at(10)
    with pytest.raises(PositionNotReached):
        await applied.reach(11, timeout_seconds=0)
    assert applied._waiters == []


@pytest.mark.anyio
async def test_a_client_that_leaves_is_forgotten() -> None:
    """Cancelled while it waits."""
    applied = at(10)
    waiter = asyncio.create_task(applied.reach(11, timeout_seconds=30))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert applied._waiters == []
    applied.advance(11)


@pytest.mark.anyio
async def test_the_number_of_waiters_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than may wait is refused at once."""
    monkeypatch.setattr(applied_position, "WAITERS_MAX", 1)
    applied = at(10)
    waiter = asyncio.create_task(applied.reach(11, timeout_seconds=30))
    await asyncio.sleep(0)
    with pytest.raises(PositionNotReached):
        await applied.reach(11, timeout_seconds=30)
    applied.advance(11)
    await waiter


def test_the_applied_position_never_goes_back() -> None:
    """Clients have seen it already."""
    applied = at(10)
    applied.advance(9)
    assert applied.value == 10


def test_a_position_a_minute_ahead_of_now_lies_in_the_future() -> None:
    """By our clock, or by the log's where that is ahead of ours."""
    ours, logs = at(10), at(position_at(NOW_MS + 1_800_000))
    assert not ours.lies_ahead(position_at(NOW_MS + 59_999))
    assert ours.lies_ahead(position_at(NOW_MS + 60_000))
    assert not logs.lies_ahead(position_at(NOW_MS + 1_859_999))
    assert logs.lies_ahead(position_at(NOW_MS + 1_860_000))
