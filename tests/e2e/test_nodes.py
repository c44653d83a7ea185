"""A node is drained under load: its pods come back on the other one, but for one whose volume is bound to the node."""

from __future__ import annotations

import pytest

from tests.e2e.figures import Figures
from tests.e2e.load import REQUESTS_PER_SECOND, Load, check_only_writes_failed
from tests.e2e.nodes import drained, schedulable
from tests.e2e.prometheus import Prometheus
from tests.e2e.release import Release
from tests.e2e.wait import eventually


def test_the_owners_node_is_drained(release: Release, url: str, figures: Figures, prometheus: Prometheus) -> None:
    """First with a volume that goes wherever its pod goes, then with one that is bound to its node.

    One test, as a volume that was bound to a node stays so. No read fails; a write only while Redis moves, too.
    """
    if len(schedulable()) < 2:
        pytest.skip(f"needs two nodes that take pods, and there are: {schedulable()}")
    with Load(url, asks_for_newest=False) as load:
        load.go_on(5 * REQUESTS_PER_SECOND)
        with drained(release, _owners_node(release)) as moved:
            assert "db-updater" in moved
            release.wait_ready()
            load.wait_for_calm()
    check_only_writes_failed(load, figures)

    _bind_volume(release, node := _owners_node(release))
    with Load(url, asks_for_newest=False) as load:
        load.go_on(5 * REQUESTS_PER_SECOND)
        with drained(release, node):
            eventually(lambda: "node affinity" in _why_pending(release), 60, lambda: _why_pending(release))
            eventually(lambda: "TwitterNoOwner" in prometheus.alerts(), 60, prometheus.alerts)
            load.wait_for_calm()  # without an owner
        release.wait_ready()
        eventually(lambda: "TwitterNoOwner" not in prometheus.alerts(), 60, prometheus.alerts)
        load.wait_for_calm()
    check_only_writes_failed(load, figures)


def _owners_node(release: Release) -> str:
    name: str = release.pod("db-updater").spec.node_name
    return name


def _bind_volume(release: Release, node: str) -> None:
    """What storage on a node's own disk has from the start."""
    claim = release.core.read_namespaced_persistent_volume_claim(f"data-{release.name}-db-updater-0", release.namespace)
    only_there = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [only_there]}]}}
    release.core.patch_persistent_volume(claim.spec.volume_name, {"spec": {"nodeAffinity": affinity}})


def _why_pending(release: Release) -> str:
    """What the scheduler says of the owner's pod."""
    [pod] = release.pods("db-updater") or [None]
    conditions = pod.status.conditions or () if pod is not None else ()
    return " ".join(one.message for one in conditions if one.type == "PodScheduled" and one.status == "False")
