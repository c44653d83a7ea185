"""`make torture-k8s`: the clients and the checker of tests/torture against the Ingress, with pods as victims."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from kubernetes import client as kubernetes
from kubernetes.client.exceptions import ApiException

from tests.e2e.figures import Figures
from tests.e2e.release import Release
from tests.e2e.wait import eventually
from tests.torture import copies
from tests.torture.check import text
from tests.torture.checker import check
from tests.torture.clients import Client, World
from tests.torture.history import Copy, Fault, History, HistoryFile, LogEntry, Run, read_records
from tests.torture.summary import summary

SECONDS: Final = float(os.environ.get("TORTURE_SECONDS", "0"))
SEED: Final = int(os.environ.get("TORTURE_SEED", "1"))
CLIENTS: Final = 12
WORKLOADS: Final = ("redis", "db-updater", "read-service", "write-service", "edge")
SETTLED_SECONDS_MAX: Final = 120.0
DRAINED_SECONDS: Final = 20.0

pytestmark = [
    pytest.mark.skipif(not SECONDS, reason="torture of the cluster is a run of its own: make torture-k8s"),
    pytest.mark.timeout(SECONDS + 1200),
]


Deed = Callable[[], tuple[str, str]]
"""Does something; says what, and to whom."""


class Ingress:
    """Where everything is reached; which process answers, nobody can tell."""

    process = ""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or 80


class PodKiller:
    """Removes pods without notice, and waits until what replaces them is ready: each kind once, then by chance."""

    def __init__(self, release: Release, history: HistoryFile) -> None:
        self._release = release
        self._history = history
        self._chance = Random(SEED)
        kills: list[Deed] = [partial(self._kill, chart) for chart in WORKLOADS]
        self._deeds = [*kills, self._restart, self._drain]
        self._first = deque[Deed]([self._drain, *kills])

    def strike(self) -> None:
        """The next fault."""
        deed = self._first.popleft() if self._first else self._chance.choice(self._deeds)
        began = time.monotonic()
        kind, victim = deed()
        self._release.wait_ready()
        self._history.add(Fault(kind, victim, began, time.monotonic()))

    def _kill(self, chart: str) -> tuple[str, str]:
        self._delete(self._chance.choice(self._release.pods(chart)))
        return "kill", chart.replace("-", "_")

    def _restart(self) -> tuple[str, str]:
        chart = self._chance.choice(WORKLOADS[1:4])
        self._release.restart(chart)
        return "restart", chart.replace("-", "_")

    def _drain(self) -> tuple[str, str]:
        """Cordon the owner's node and remove our pods from it, as ``kubectl drain`` does."""
        node = self._release.pod("db-updater").spec.node_name
        core = self._release.core
        core.patch_node(node, {"spec": {"unschedulable": True}})
        try:
            for pod in core.list_namespaced_pod(self._release.namespace).items:
                if pod.spec.node_name == node:
                    self._delete(pod)
            until = time.monotonic() + DRAINED_SECONDS
            while self._release.unready() and time.monotonic() < until:
                time.sleep(0.5)  # a volume may bind its pod to this node
        finally:
            core.patch_node(node, {"spec": {"unschedulable": False}})
        return "drain", "node"

    def _delete(self, pod: Any) -> None:
        try:
            self._release.core.delete_namespaced_pod(pod.metadata.name, self._release.namespace, grace_period_seconds=0)
        except ApiException as error:
            if error.status != 404:
                raise


def test_cluster_under_torture(release: Release, url: str, figures: Figures, tmp_path: Path) -> None:
    """Nothing is lost, doubled or shown wrong while pods are removed without notice and the owner's node is drained."""
    ingresses: Any = kubernetes.NetworkingV1Api().list_ingress_for_all_namespaces()
    others = {one.metadata.namespace for one in ingresses.items}
    assert others == {release.namespace}, f"at this address other releases answer, too: {others}"
    path = tmp_path / "history.ndjson"
    with HistoryFile(path) as history:
        before = max(record.position for record in _ending(release))
        history.add(Run(SEED, SECONDS, f"make torture-k8s SECONDS={SECONDS:.0f} SEED={SEED}", before))
        asyncio.run(_torture(release, Ingress(url), history))
        for record in _ending(release):
            history.add(record)
    judged = History.of(read_records(path))
    figures(f"{path}\n{text(list(summary(judged)))}")
    assert check(judged) == []


async def _torture(release: Release, ingress: Ingress, history: HistoryFile) -> None:
    world = World()
    killer = PodKiller(release, history)
    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            name = f"k{number}_{os.getpid()}"
            client = Client(
                name, SEED, world, history, writers=[ingress], readers=[ingress], host=ingress.host, needs_tokens=True
            )
            tasks.create_task(client.run())
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            await asyncio.to_thread(killer.strike)
        world.is_over = True


def _ending(release: Release) -> Iterator[Copy | LogEntry]:
    """The whole log, which the owner has archived when nothing happens any more, and every copy."""
    lines = eventually(lambda: _settled(release), SETTLED_SECONDS_MAX, lambda: "not all copies are at one position")
    for line in lines:
        yield Copy(**line) if "holder" in line else LogEntry(**line)


def _settled(release: Release) -> list[dict[str, Any]]:
    """What all of them hold, empty while they are not at one position."""
    pods = [("owner", release.pod("db-updater")), *(("reader", pod) for pod in release.pods("read-service"))]
    lines = [line for service, pod in pods for line in _described(release, service, pod)]
    positions = {line["position"] for line in lines if "holder" in line}
    last = max(line["position"] for line in lines if "event" in line)
    return lines if positions == {last} else []


def _described(release: Release, service: str, pod: Any) -> Iterator[dict[str, Any]]:
    for line in release.execute(pod, "python", "-c", inspect.getsource(copies), service).splitlines():
        described = json.loads(line)
        yield described | ({"holder": f"{pod.metadata.name} {described['holder']}"} if "holder" in described else {})
