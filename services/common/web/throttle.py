"""Says that the environment fails, without a log line for each of the requests that meet it."""

from __future__ import annotations

import time
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from services.common.errors import OperationalError

WARNING_INTERVAL_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


class OperationalErrors:
    """Counts each error by its code and warns of each code at most once an interval."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter(
            "operational_errors_total", "Requests refused because the environment failed.", ["code"], registry=registry
        )
        self._warned_at: dict[str, float] = {}

    def note(self, error: OperationalError) -> None:
        """Count an error; the first of its code, and then one an interval, is logged with its message."""
        self._total.labels(error.code).inc()
        now = time.monotonic()
        if now - self._warned_at.get(error.code, -WARNING_INTERVAL_SECONDS) >= WARNING_INTERVAL_SECONDS:
            self._warned_at[error.code] = now
            log.warning("request_unavailable", code=error.code, error=str(error))
