"""A release of the umbrella chart on a real cluster: installed by helm, looked at through the Kubernetes API."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from kubernetes import client as kubernetes
from kubernetes import config
from kubernetes.client.exceptions import ApiException

from tests.e2e.wait import eventually
from tests.support.process import REPOSITORY

READY_SECONDS_MAX: Final = 180.0
WORKLOADS: Final = ("edge", "read-service", "write-service", "db-updater")
VALUES: Final = REPOSITORY / "tests" / "e2e" / "values.yaml"


def image_values() -> dict[str, Any]:
    """Where the images to be tested are, as values of any of our charts."""
    return {"global": {"image": {"registry": os.environ["REGISTRY"], "tag": os.environ["E2E_TAG"]}}}


def load_configuration() -> None:
    """Use the cluster of KUBECONFIG. Raises if there is none."""
    config.load_kube_config()  # type: ignore[no-untyped-call]


@dataclass
class Release:
    """``name`` in ``namespace``; each method waits until what it asked for is so."""

    namespace: str
    name: str = "e2e"
    charts: Path = field(default_factory=lambda: Path(os.environ["E2E_CHARTS"]))

    def __post_init__(self) -> None:
        # Untyped: to the client's types every field of every object may be None.
        self.core: Any = kubernetes.CoreV1Api()
        self.apps: Any = kubernetes.AppsV1Api()

    # ---- helm ----

    def helm(self, *arguments: str) -> str:
        """Run helm in the namespace; its output."""
        command = ["helm", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{self.describe()}"
        return done.stdout

    def apply(self, action: str, settings: Mapping[str, Any] | None = None) -> None:
        """``helm install`` or ``helm upgrade`` with the values of the tests and these, and wait for it."""
        self.helm(
            action,
            self.name,
            str(self.charts / "twitter-clone"),
            f"--values={VALUES}",
            f"--set-json={json.dumps(image_values())}",
            *(f"--set-json={key}={json.dumps(value)}" for key, value in (settings or {}).items()),
            "--wait",
            f"--timeout={READY_SECONDS_MAX:.0f}s",
        )
        self.wait_ready()

    # ---- pods ----

    def pods(self, chart: str) -> list[Any]:
        """The pods of a chart that are not being deleted."""
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/name={chart}"
        found = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
        components = (pod for pod in found if pod.metadata.labels.get("app.kubernetes.io/component") != "test")
        return [pod for pod in components if pod.metadata.deletion_timestamp is None]

    def pod(self, chart: str) -> Any:
        """One of them that is ready."""
        return next(pod for pod in self.pods(chart) if is_ready(pod))

    def wait_ready(self) -> None:
        """Wait until every workload has just the pods it should have, all ready and of the newest revision."""
        eventually(lambda: self.unready() == [], READY_SECONDS_MAX, lambda: f"{self.unready()}\n{self.describe()}")

    def unready(self) -> list[str]:
        """What is not as ``wait_ready`` wants it."""
        deployments = self.apps.list_namespaced_deployment(self.namespace).items
        sets = self.apps.list_namespaced_stateful_set(self.namespace).items
        pods = self.core.list_namespaced_pod(self.namespace).items
        unready = [one.metadata.name for one in [*deployments, *sets] if not _is_rolled_out(one)]
        return unready + [pod.metadata.name for pod in pods if pod.metadata.deletion_timestamp is not None]

    def restart(self, chart: str) -> None:
        """What ``kubectl rollout restart`` does, until it is done."""
        stamp = {"kubectl.kubernetes.io/restartedAt": str(time.time_ns())}
        patch = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
        if chart == "db-updater":
            self.apps.patch_namespaced_stateful_set(f"{self.name}-{chart}", self.namespace, patch)
        else:
            self.apps.patch_namespaced_deployment(f"{self.name}-{chart}", self.namespace, patch)
        self.wait_ready()

    def delete_pods(self, *names: str, **options: int) -> None:
        """Delete pods, gracefully unless the options say otherwise, and wait until what replaces them is ready."""
        uids = {name: self.core.read_namespaced_pod(name, self.namespace).metadata.uid for name in names}
        for name in names:
            self.core.delete_namespaced_pod(name, self.namespace, **options)
        for name, uid in uids.items():
            eventually(partial(self._is_gone, name, uid), READY_SECONDS_MAX, partial("{} is there".format, name))
        self.wait_ready()

    def _is_gone(self, name: str, uid: str) -> bool:
        try:
            return bool(self.core.read_namespaced_pod(name, self.namespace).metadata.uid != uid)
        except ApiException as error:
            if error.status != 404:
                raise
            return True

    def execute(self, pod: Any, *command: str) -> str:
        """What a command prints in a pod."""
        return kubectl("exec", "--namespace", pod.metadata.namespace, pod.metadata.name, "--", *command)

    def run_pod(self, name: str, namespace: str) -> Any:
        """Start a pod that does nothing, which is none of ours; wait until it runs."""
        self.core.create_namespaced_pod(namespace, idle_pod(name))
        eventually(lambda: is_ready(self.core.read_namespaced_pod(name, namespace)), READY_SECONDS_MAX, self.describe)
        return self.core.read_namespaced_pod(name, namespace)

    # ---- when a test fails ----

    def describe(self) -> str:
        """The events of the namespace and the last lines that each pod has logged."""
        events = self.core.list_namespaced_event(self.namespace).items
        lines = [f"{event.involved_object.name}: {event.reason}: {event.message}" for event in events]
        for pod in self.core.list_namespaced_pod(self.namespace).items:
            lines += [f"--- {pod.metadata.name}: {pod.status.phase}", self.log(pod)]
        return "\n".join(lines)

    def log(self, pod: Any) -> str:
        """The last lines that a pod has logged, or why there are none."""
        try:
            text: str | None = self.core.read_namespaced_pod_log(pod.metadata.name, self.namespace, tail_lines=15)
        except ApiException as error:
            return f"no log: {error.reason}"
        return text or "nothing logged"


def kubectl(*arguments: str) -> str:
    """Run kubectl; its output."""
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def idle_pod(name: str) -> dict[str, Any]:
    """A hardened pod with bash in it."""
    container = {
        "name": "idle",
        "image": f"{os.environ['REGISTRY']}/read-service:{os.environ['E2E_TAG']}",
        "command": ["sleep", "3600"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [container], "securityContext": security, "terminationGracePeriodSeconds": 0},
    }


def is_ready(pod: Any) -> bool:
    """Whether its readiness probe has passed."""
    conditions = pod.status.conditions or ()
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)


def _is_rolled_out(workload: Any) -> bool:
    """For a Deployment and a StatefulSet alike."""
    status, wanted = workload.status, workload.spec.replicas
    counts = {status.replicas or 0, status.ready_replicas or 0, status.updated_replicas or 0}
    is_seen = status.observed_generation == workload.metadata.generation
    return is_seen and (counts == {wanted} or (wanted == 0 and counts == {0}))
