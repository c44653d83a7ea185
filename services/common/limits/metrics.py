"""What limits count."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class LimitMetrics:
    """One set for each registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._leases = Counter(
            "limit_leases_total", "Shares of limits asked for in Redis, by result.", ["result"], registry=registry
        )

    def count_lease(self, result: str) -> None:
        """Count a lease by its result: granted, exhausted, or unavailable where Redis did not answer."""
        self._leases.labels(result).inc()
