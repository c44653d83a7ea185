"""What the write service counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


class AppendMetrics:
    """How the group commit fares."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batch_entries = Histogram(
            "append_batch_entries", "Entries in one call to the log.", buckets=_BATCH_BUCKETS, registry=registry
        )
        self.seconds = Histogram(
            "append_seconds", "Time from a call's start to its outcome.", buckets=_SECONDS_BUCKETS, registry=registry
        )
        self.queue_entries = Gauge("append_queue_entries", "Writes that wait for a call.", registry=registry)
        self._results = _ByResult("appends_total", "Writes by outcome.", registry)

    def count(self, result: str, entries: int = 1) -> None:
        """Count entries by their outcome: ``appended``, or the code of the refusal or failure."""
        self._results.count(result, entries)


class LogMetrics:
    """How the log is and how much memory it takes, as of the last look at it."""

    def __init__(self, registry: CollectorRegistry, is_full: Callable[[], bool]) -> None:
        self.bytes = Gauge("log_bytes", "Memory that the entries of the log take in Redis.", registry=registry)
        self.bytes_max = Gauge("log_bytes_max", "The log's budget; past 70 % writes are refused.", registry=registry)
        full = Gauge("log_full", "1 while writes are refused because the log is full, else 0.", registry=registry)
        full.set_function(is_full)
        self.is_writable = Gauge(
            "log_writable", "1 while the log takes writes, full or not, else 0: readiness says why.", registry=registry
        )
        self.is_halted = Gauge(
            "log_halted", "1 while the log is halted, because it has lost entries, else 0.", registry=registry
        )
        self.durability_findings = Gauge(
            "log_durability_findings", "Settings of Redis that may lose acknowledged writes.", registry=registry
        )


class ExistenceMetrics:
    """How often the read service had to be asked, and what it knew."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._results = _ByResult("existence_checks_total", "Whether a tweet or user exists, by finding.", registry)

    def count(self, result: str) -> None:
        """Count a finding: ``known`` (without asking), ``exists``, ``absent`` or ``unknown``."""
        self._results.count(result)


class _ByResult(Collector):
    """A counter by result, for the event loop's thread alone: without prometheus_client's locks."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._counts: dict[str, int] = {}
        registry.register(self)

    def count(self, result: str, number: int = 1) -> None:
        self._counts[result] = self._counts.get(result, 0) + number

    def collect(self) -> Iterator[Metric]:
        total = CounterMetricFamily(self._name, self._documentation, labels=["result"])
        for result, number in tuple(self._counts.items()):
            total.add_metric([result], number)
        yield total
