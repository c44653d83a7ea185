"""What the pods need when nobody asks for anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client as kubernetes
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity

from tests.e2e.figures import Figures
from tests.e2e.release import Release
from tests.e2e.wait import eventually

MIB = 2**20
LOOKS_BACK = timedelta(seconds=20)
"""How long before it looks the time that metrics-server measures begins."""

quantity: Any = parse_quantity  # which says nothing of its types


def test_each_pod_fits_its_requests_at_rest(release: Release, figures: Figures) -> None:
    """So the scheduler knows what it promises. Measured by metrics-server, over a time that began with this test."""
    started_at = datetime.now(UTC)

    def measured() -> list[dict[str, Any]]:
        found = _measurements(release.namespace)
        at_rest = all(datetime.fromisoformat(one["timestamp"]) > started_at + LOOKS_BACK for one in found)
        return found if at_rest and len(found) == len(_pods(release)) else []

    if not _measurements_exist(release.namespace):
        pytest.skip("no metrics-server on this cluster")
    requests = {pod.metadata.name: pod.spec.containers[0].resources.requests for pod in _pods(release)}
    for one in eventually(measured, 120, lambda: _measurements(release.namespace)):
        name, [container] = one["metadata"]["name"], one["containers"]
        cpu, memory = (quantity(container["usage"][kind]) for kind in ("cpu", "memory"))
        figures(f"{name}: {memory / MIB:.0f} MiB, {1000 * cpu:.1f} m CPU")
        assert cpu < quantity(requests[name]["cpu"]), name
        assert memory < quantity(requests[name]["memory"]), name


def _pods(release: Release) -> list[Any]:
    return [pod for pod in release.core.list_namespaced_pod(release.namespace).items if pod.status.phase == "Running"]


def _measurements(namespace: str) -> list[dict[str, Any]]:
    metrics: Any = kubernetes.CustomObjectsApi()
    found = metrics.list_namespaced_custom_object("metrics.k8s.io", "v1beta1", namespace, "pods")
    return list(found["items"])


def _measurements_exist(namespace: str) -> bool:
    try:
        _measurements(namespace)
    except ApiException as error:
        if error.status not in (404, 503):
            raise
        return False
    return True
