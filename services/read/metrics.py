"""What the read service counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.cache import Cache

_WAIT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class ReadMetrics:
    """How this reader follows the log, and what reads wait for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.applied_position = Gauge("applied_position", "Position of the last entry applied.", registry=registry)
        self.lag_seconds = Gauge(
            "replica_lag_seconds", "Time since the replica was last known to hold all of the log.", registry=registry
        )
        self.applied_entries = Counter(
            "applied_entries_total", "Entries of the log applied to the replica.", registry=registry
        )
        self.applied_batches = Counter(
            "applied_batches_total", "Transactions in which entries were applied to the replica.", registry=registry
        )
        self.snapshots_taken = Counter(
            "snapshots_taken_total", "Snapshots fetched from the owner and put into service.", registry=registry
        )
        self.min_position_wait = Histogram(
            "min_position_wait_seconds",
            "Time that reads with X-Min-Position waited for a position not yet applied.",
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        self._fresh_lookups = Counter(
            "fresh_lookups_total", "Look-ups in Redis of ids above the applied position.", ["result"], registry=registry
        )

        self._shared_cache_lookups = Counter(
            "shared_cache_lookups_total", "Look-ups in the cache that readers share.", ["result"], registry=registry
        )

    def count_shared_cache_lookup(self, result: str) -> None:
        """Count a look-up by its result: found (good or out of date), absent, or unavailable."""
        self._shared_cache_lookups.labels(result).inc()

    def count_fresh_lookup(self, result: str) -> None:
        """Count a look-up by its result: stream, absent or unknown."""
        self._fresh_lookups.labels(result).inc()


class CacheMetrics(Collector):
    """The cache's own integers: a prometheus_client Counter would cost more than a hit does."""

    def __init__(self, cache: Cache[Any], registry: CollectorRegistry) -> None:
        self._cache = cache
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the metrics as they are now."""
        cache = self._cache
        yield CounterMetricFamily("cache_hits", "Responses from the in-process cache.", cache.hits)
        yield CounterMetricFamily("cache_misses", "Responses that were not in it, or out of date.", cache.misses)
        yield CounterMetricFamily(
            "cache_fills_refused",
            "Responses not kept, as what they are made of changed meanwhile.",
            cache.fills_refused,
        )
        yield GaugeMetricFamily("cache_bytes", "Memory of the cached responses.", cache.size_bytes)
        yield GaugeMetricFamily("cache_entries", "Cached responses.", len(cache))
