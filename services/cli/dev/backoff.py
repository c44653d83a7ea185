"""How long to wait before a part that died is started again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class BackOff:
    """Waits double with each death, up to a limit, and start anew once a part has stayed up long enough."""

    first_seconds: float = 0.5
    seconds_max: float = 30.0
    reset_after_seconds: float = 20.0
    _deaths: int = 0

    def after_death(self, uptime_seconds: float) -> float:
        """Seconds to wait now, for a part that was up for ``uptime_seconds``."""
        if uptime_seconds >= self.reset_after_seconds:
            self._deaths = 0
        wait_seconds: float = min(self.first_seconds * 2**self._deaths, self.seconds_max)
        if wait_seconds < self.seconds_max:
            self._deaths += 1
        return wait_seconds
