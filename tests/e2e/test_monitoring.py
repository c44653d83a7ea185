"""What a Prometheus in the monitoring namespace sees.

Its traffic passes the network policies by networkPolicy.monitoring alone, which test_network_policies.py holds against
other namespaces. Not shown: an operator that makes its configuration out of ServiceMonitors.
"""

from __future__ import annotations

from tests.e2e.prometheus import Prometheus
from tests.e2e.release import Release
from tests.e2e.wait import eventually

SCRAPED = ("read-service", "write-service", "db-updater")


def test_every_pod_is_found_by_its_annotations_and_is_up(release: Release, prometheus: Prometheus) -> None:
    """Each once, on its port of metrics; the edge and Redis have none."""

    def is_up() -> bool:
        pods = [pod.metadata.name for chart in SCRAPED for pod in release.pods(chart)]
        return prometheus.targets() == dict.fromkeys(pods, "up")

    eventually(is_up, 60, prometheus.targets)
    eventually(lambda: prometheus.values("applied_position") != [], describe=prometheus.targets)


def test_nothing_alerts_where_all_is_well(release: Release, prometheus: Prometheus) -> None:
    """The rules meet the metrics they name: an owner, readers and writers are seen."""
    missing = {"TwitterNoOwner", "TwitterServiceDown"}
    eventually(lambda: not missing & prometheus.alerts().keys(), 60, lambda: (prometheus.alerts(), release.describe()))
