"""How much of Redis's memory the log may take before writes are refused."""

from __future__ import annotations

from typing import Final

import structlog

from services.common.log.client import LogStatus
from services.write.metrics import LogMetrics

FULL_SHARE: Final = 0.7
"""The rest is for what writes leave beside the log (names, credentials, idempotency keys) and for the owner."""

BYTES_MAX_UNLIMITED: Final = 2 * 2**30
"""The budget where neither we nor Redis were told one."""

log = structlog.get_logger(__name__)


class LogBudget:
    """A budget of ``bytes_max``; 0 means Redis's maxmemory, or BYTES_MAX_UNLIMITED where it has none."""

    def __init__(self, bytes_max: int, metrics: LogMetrics) -> None:
        self._bytes_max = bytes_max
        self._metrics = metrics
        self._is_spent = False

    def is_spent(self, status: LogStatus) -> bool:
        """Whether a log in this state takes no more writes."""
        bytes_max = self._bytes_max or status.memory_bytes_max or BYTES_MAX_UNLIMITED
        self._metrics.bytes.set(status.memory_bytes)
        self._metrics.bytes_max.set(bytes_max)
        is_spent = status.memory_bytes > FULL_SHARE * bytes_max
        if is_spent != self._is_spent:
            say = log.warning if is_spent else log.info
            say("log_budget_spent" if is_spent else "log_has_room", bytes=status.memory_bytes, bytes_max=bytes_max)
        self._is_spent = is_spent
        return is_spent
