"""The nodes of the cluster: those that take pods, and one that is drained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from kubernetes import client as kubernetes
from kubernetes.client.exceptions import ApiException

from tests.e2e.release import READY_SECONDS_MAX, Release
from tests.e2e.wait import eventually


def schedulable() -> list[str]:
    """The names of the nodes that take pods."""
    core: Any = kubernetes.CoreV1Api()
    return [
        node.metadata.name for node in core.list_node().items if not node.spec.unschedulable and not node.spec.taints
    ]


@contextmanager
def drained(release: Release, node: str) -> Iterator[list[str]]:
    """Do to the pods of a release what ``kubectl drain`` does, and ``uncordon`` in the end; the pods that had to go.

    The owner goes last: a reader needs it to start, so with it gone the disruption budget keeps the last reader there.
    """
    release.core.patch_node(node, {"spec": {"unschedulable": True}})
    try:
        pods = [one for one in release.core.list_namespaced_pod(release.namespace).items if one.spec.node_name == node]
        for pod in sorted(pods, key=_is_owner):
            eventually(partial(_evicted, release, pod), READY_SECONDS_MAX, release.describe)
        uids = {pod.metadata.uid for pod in pods}
        eventually(lambda: not uids & _uids(release), READY_SECONDS_MAX, release.describe)
        yield [pod.metadata.labels["app.kubernetes.io/name"] for pod in pods]
    finally:
        release.core.patch_node(node, {"spec": {"unschedulable": None}})


def _is_owner(pod: Any) -> bool:
    name: str = pod.metadata.labels["app.kubernetes.io/name"]
    return name == "db-updater"


def _evicted(release: Release, pod: Any) -> bool:
    """Whether it was told to go; not yet, if its disruption budget says so."""
    eviction = {"metadata": {"name": pod.metadata.name, "namespace": pod.metadata.namespace}}
    try:
        release.core.create_namespaced_pod_eviction(pod.metadata.name, pod.metadata.namespace, eviction)
    except ApiException as error:
        if error.status not in (404, 429):
            raise
        is_gone: bool = error.status == 404
        return is_gone
    return True


def _uids(release: Release) -> set[str]:
    return {pod.metadata.uid for pod in release.core.list_namespaced_pod(release.namespace).items}
