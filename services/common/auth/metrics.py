"""What authentication counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class AuthMetrics:
    """One set for each registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.key_file_refused = Gauge(
            "auth_key_file_refused", "1 while the file of keys is unfit and the old keys are used.", registry=registry
        )
        self.refusals = Counter(
            "auth_refusals_total", "Tokens refused, by the code of the answer.", ["code"], registry=registry
        )
