"""The network policies, tried: every arrow of the design works, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.charts.arrows import ARROWS, METRICS_PORTS
from tests.e2e.release import Release
from tests.e2e.wait import eventually

DOORS = {(target, port) for _, target, port in ARROWS} | set(METRICS_PORTS.items())
OURS = ("edge", "read-service", "write-service", "db-updater", "redis")


def _open_doors(release: Release, pod: Any) -> set[tuple[str, int]]:
    """To which ports of other pods of ours this pod can connect. Silence for two seconds is a no."""
    others = {
        target: [one.status.pod_ip for one in release.pods(target) if one.metadata.name != pod.metadata.name]
        for target in OURS
    }
    tries = [
        f"(timeout 2 bash -c '</dev/tcp/{others[target][0]}/{port}' 2>/dev/null && echo {target} {port}) &"
        for target, port in sorted(DOORS)
        if others[target]
    ]
    lines = release.execute(pod, "bash", "-c", "\n".join([*tries, "wait"])).splitlines()
    return {(target, int(port)) for target, port in (line.split() for line in lines)}


def _wait_for_doors(release: Release, pod: Any, expected: set[tuple[str, int]]) -> None:
    """A policy takes a moment to reach a new pod's node."""
    found: list[set[tuple[str, int]]] = []

    def is_as_expected() -> bool:
        found.append(_open_doors(release, pod))
        return found[-1] == expected

    eventually(is_as_expected, 20, lambda: f"open: {found[-1]}, should be: {expected}")


@pytest.mark.parametrize("source", OURS)
def test_a_pod_of_ours_reaches_what_the_design_says(release: Release, source: str) -> None:
    """And no other pod or port, not even the metrics."""
    expected = {(target, port) for one, target, port in ARROWS if one in (source, "anybody")}
    # Default deny: what has no arrow to it does not even reach the edge, which is open to anybody outside.
    expected.discard(("edge", 8080))
    _wait_for_doors(release, release.pod(source), expected)


def test_a_stranger_reaches_the_edge_only(release: Release, make_namespace: Callable[..., str]) -> None:
    """Whether it is in our namespace or in another one."""
    for namespace in (release.namespace, make_namespace()):
        pod = release.run_pod("stranger", namespace)
        _wait_for_doors(release, pod, {("edge", 8080)})
        release.core.delete_namespaced_pod("stranger", namespace)


def test_monitoring_reaches_the_metrics_too(release: Release, make_namespace: Callable[..., str]) -> None:
    """From the namespaces that networkPolicy.monitoring selects."""
    pod = release.run_pod("monitor", make_namespace(e2e="monitoring"))
    _wait_for_doors(release, pod, {("edge", 8080), *METRICS_PORTS.items()})
