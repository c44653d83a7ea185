"""Counting in this process what a limit lets pass."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.common import keys
from services.common.cache import Flights
from services.common.limits.leases import Lease, Wanted

SHARES: Final = 10
"""A quota is leased in this many parts."""
SUBJECTS_MAX: Final = 100_000
"""More than so many in one window, and what was counted is forgotten: memory comes first (about 25 MB)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``quota`` requests of each subject in each window; windows begin at multiples of ``window_seconds`` since 1970.

    ``share`` is what a process admits in a window without asking, and what it leases then.
    """

    name: str
    quota: int
    window_seconds: int

    @property
    def share(self) -> int:
        """A tenth; of a limit a second, which has windows of ten, that is a second's."""
        return max(1, self.quota // SHARES)

    @property
    def alone_max(self) -> int:
        """What a process admits in a window while Redis does not answer, and nobody knows of the others."""
        return max(self.share, self.quota // 2)


class Admission(NamedTuple):
    """Whether a request may pass, and what its subject has left, as far as this process knows, until when."""

    is_admitted: bool
    remaining: int
    reset_seconds: int


@dataclass(slots=True)
class _Count:
    """Of one subject in one window: what may still pass, what has passed without Redis knowing, what Redis has left."""

    left: int
    untold: int
    elsewhere: int
    admitted: int = 0
    is_exhausted: bool = False


class Limiter:
    """One limit in one process, for the thread of the event loop.

    All processes together admit at most ``quota`` and one ``share`` for each process: the share that each gives
    without asking, so that whoever asks little costs Redis nothing. What is given so is reported with the first lease.
    ``take`` asks for a lease; ``now`` gives Unix seconds. Clocks that differ only move the windows of their processes.
    """

    def __init__(
        self, limit: Limit, take: Callable[[Wanted], Awaitable[Lease | None]], now: Callable[[], float] = time.time
    ) -> None:
        self.limit = limit
        self._share = limit.share
        self._window_seconds = limit.window_seconds
        self._take = take
        self._now = now
        self._window = 0
        self._counts: dict[str, _Count] = {}
        self._flights = Flights()

    async def admit(self, subject: str) -> Admission:
        """Count a request of this subject, if it may pass. Waits for a lease where a share is used up."""
        count = self._count(subject, int(self._now()))
        while not count.left and not count.is_exhausted:
            await self._flights.share((self._window, subject), lambda: self._lease(subject), is_good_enough=bool)
            count = self._count(subject, int(self._now()))
        is_admitted = count.left > 0
        if is_admitted:
            _use(count)
        return Admission(is_admitted, count.left + count.elsewhere, self._reset_seconds(int(self._now())))

    def admit_now(self, subject: str) -> tuple[int, int] | None:
        """What remains, and until when, for a request that passes without a lease; None for others, not counted."""
        now = int(self._now())
        count = self._count(subject, now)
        if not count.left:
            return None
        _use(count)
        return count.left + count.elsewhere, self._reset_seconds(now)

    def _reset_seconds(self, now: int) -> int:
        return self._window_seconds - now % self._window_seconds

    def _count(self, subject: str, now: int) -> _Count:
        window = now // self._window_seconds
        if window != self._window or len(self._counts) > SUBJECTS_MAX:
            self._window = window
            self._counts = {}
        count = self._counts.get(subject)
        if count is None:
            count = self._counts[subject] = _Count(self._share, self._share, self.limit.quota - self._share)
        return count

    async def _lease(self, subject: str) -> bool:
        """Take a lease for the present window; if that has ended when it comes, it is of no use."""
        limit, count = self.limit, self._count(subject, int(self._now()))
        key = keys.limit(limit.name, self._window, subject)
        untold = count.untold
        lease = await self._take(Wanted(key, untold, self._share, limit.quota, 2 * limit.window_seconds))
        if lease is None:
            granted = min(self._share, limit.alone_max - count.admitted)
            count.untold += max(0, granted)
        else:
            granted = lease.granted
            count.untold -= untold
            count.elsewhere = max(0, limit.quota - lease.used)
        count.left += max(0, granted)
        count.is_exhausted = granted <= 0
        return True


def _use(count: _Count) -> None:
    count.left -= 1
    count.admitted += 1
