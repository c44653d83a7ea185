"""What operators do while clients send requests all the time, each of them once: no request fails."""

from __future__ import annotations

import pytest

from tests.e2e.figures import Figures
from tests.e2e.load import REQUESTS_PER_SECOND, Load, check_nothing_failed, check_only_writes_failed
from tests.e2e.release import WORKLOADS, Release
from tests.e2e.wait import eventually

EAGER = {
    "enabled": True,
    "minReplicas": 1,
    "maxReplicas": 4,
    "cpuUtilization": 3,
    "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0}},
}
"""Of an autoscaler that wants as many pods as it may have when readers have anything to do."""


def test_an_upgrade_that_replaces_every_pod(release: Release, url: str, figures: Figures) -> None:
    """A changed setting of each service, a changed configuration of the edge."""
    settings = {f"{chart}.podAnnotations": {"e2e": "upgraded"} for chart in WORKLOADS}
    with Load(url) as load:
        release.apply("upgrade", settings)
        load.go_on()
    check_nothing_failed(load, figures)


@pytest.mark.parametrize("chart", WORKLOADS)
def test_a_restart_of_each_service(release: Release, url: str, chart: str, figures: Figures) -> None:
    """As `kubectl rollout restart` does it. While the owner is away, readers and writers go on."""
    with Load(url) as load:
        release.restart(chart)
        load.go_on()
    check_nothing_failed(load, figures)


def test_a_pod_of_each_service_is_deleted(release: Release, url: str, figures: Figures) -> None:
    """Gracefully, one after the other, as a drained node or an autoscaler does it."""
    with Load(url) as load:
        for chart in WORKLOADS:
            release.delete_pods(release.pod(chart).metadata.name)
        load.go_on()
    check_nothing_failed(load, figures)


def test_a_pod_of_each_service_is_killed(release: Release, url: str, figures: Figures) -> None:
    """Without any notice. Reads under way go to another pod; of writes under way it is said that nobody knows."""
    with Load(url) as load:
        for chart in ("read-service", "write-service", "db-updater"):
            release.delete_pods(release.pod(chart).metadata.name, grace_period_seconds=0)
        load.go_on()
    check_only_writes_failed(load, figures)
    assert all("outcome_unknown" in one.reason for one in load.failures), load.report


def test_readers_are_scaled_by_hand_and_by_load(release: Release, url: str, figures: Figures) -> None:
    """To one; from one to four, as the autoscaler finds them busy; and to one again."""
    one = {"read-service.autoscaling.enabled": False, "read-service.replicaCount": 1}
    with Load(url) as load:
        release.apply("upgrade", one)
        load.go_on()
        release.apply("upgrade", {"read-service.autoscaling": EAGER})
        eventually(lambda: len(release.pods("read-service")) == 4, 120, release.describe)
        release.wait_ready()
        load.go_on()
        release.apply("upgrade", one)
        load.go_on()
        release.apply("upgrade")
    check_nothing_failed(load, figures)


def test_redis_is_deleted(release: Release, url: str, figures: Figures) -> None:
    """No read fails. A write gets a 503 that says when to come back, or that its outcome is unknown."""
    with Load(url, asks_for_newest=False) as load:
        load.go_on(5 * REQUESTS_PER_SECOND)
        release.delete_pods(release.pod("redis").metadata.name)
        load.wait_for_calm()
    check_only_writes_failed(load, figures)
