"""Two clocks: our own, which nobody can turn back, and Redis's, seen from here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# The clock that also runs while the machine sleeps: BOOTTIME on Linux, MONOTONIC on macOS.
_ELAPSED_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_ms() -> int:
    """Milliseconds since some moment, also those in which the machine slept."""
    return time.clock_gettime_ns(_ELAPSED_CLOCK) // 1_000_000


class TrustedClock:
    """Unix time that never jumps: the wall clock at the start of the process plus what has elapsed since.

    The log compares it with Redis's TIME, so that a Redis host set far ahead cannot poison ids for ever.
    """

    def __init__(self, wall_ms: Callable[[], int] | None = None, elapsed: Callable[[], int] = elapsed_ms) -> None:
        self._elapsed = elapsed
        self._start_ms = (wall_ms or _wall_ms)() - elapsed()

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._start_ms + self._elapsed()


class LogView:
    """What this process knows of the log: its greatest acknowledged position, whether it is full, and Redis's clock.

    Seconds are those of the event loop's clock.
    """

    def __init__(self) -> None:
        self.head = 0
        self.is_full = False
        self._offset_ms = 0.0

    def observe_head(self, head: int) -> None:
        """Remember the greatest position ever seen; a smaller one means that the log lost entries."""
        self.head = max(self.head, head)

    def observe_time(self, time_ms: int, asked: float, answered: float) -> None:
        """Note that Redis's TIME was ``time_ms`` at some moment between question and answer."""
        self._offset_ms = time_ms - (asked + answered) * 500

    def redis_ms(self, moment: float) -> int:
        """What Redis's TIME says at a moment of the loop's clock, in milliseconds."""
        return int(moment * 1000 + self._offset_ms)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
