"""A real Prometheus in a pod of the monitoring namespace, so that the network policies see it as what it is.

Debian builds its Prometheus without the discovery of pods. So the targets are read from the Kubernetes API here, by the
annotations as everybody's configuration reads them, and handed over as a file.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from tests.charts import tools
from tests.e2e.release import VALUES, Release, kubectl
from tests.e2e.wait import eventually

HOME: Final = "/tmp/prometheus"  # noqa: S108 - in the pod
ANNOTATION: Final = "prometheus.io/"
CONFIGURATION: Final = {
    "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
    "rule_files": [f"{HOME}/rules.yaml"],
    "scrape_configs": [{"job_name": "pods", "file_sd_configs": [{"files": [f"{HOME}/targets.json"]}]}],
}
ASK: Final = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
SECRETS_OF_A_RENDERING: Final = (
    "global.redis.existingSecret=any",
    "redis.auth.existingSecret=any",
    "global.authKeys.existingSecret=any",
    "write-service.emailHashKey.existingSecret=any",
)


class Prometheus:
    """Debian's program, copied into a pod that the network policies know as monitoring."""

    def __init__(self, release: Release, namespace: str) -> None:
        self._release = release
        self._pod = release.run_pod("prometheus", namespace)

    def start(self, directory: Path) -> None:
        """Give it what it needs, and wait until it answers."""
        program = tools.find("prometheus")
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(CONFIGURATION))
        (directory / "rules.yaml").write_text(yaml.safe_dump(_rules(self._release)))
        self._run("mkdir", HOME)
        self.discover()
        for path in (Path(program), directory / "prometheus.yaml", directory / "rules.yaml"):
            copy = [f"--namespace={self._pod.metadata.namespace}", str(path), f"prometheus:{HOME}/{path.name}"]
            kubectl("cp", *copy)
        options = f"--config.file={HOME}/prometheus.yaml --storage.tsdb.path={HOME}/data"
        log = f">{HOME}/log 2>&1 </dev/null"
        self._run("sh", "-c", f"setsid {HOME}/prometheus --web.listen-address=127.0.0.1:9090 {options} {log} &")
        eventually(self._is_up, 60, lambda: self._run("tail", f"{HOME}/log"))

    def discover(self) -> None:
        """Tell it of the pods that there are now."""
        file = f"{HOME}/targets.json"
        self._run(
            "sh", "-c", f'echo "$1" >{file}.new && mv {file}.new {file}', "sh", json.dumps(_targets(self._release))
        )

    def targets(self) -> dict[str, str]:
        """The health of each target by the name of its pod: ``up``, or what is wrong."""
        found = self._get("targets?state=active")["activeTargets"]
        return {one["labels"]["pod"]: one["lastError"] or one["health"] for one in found}

    def alerts(self) -> dict[str, str]:
        """State by name of the alerts whose condition holds: ``pending`` until it has held long enough."""
        return {one["labels"]["alertname"]: one["state"] for one in self._get("alerts")["alerts"]}

    def values(self, metric: str) -> list[float]:
        """The newest value of each series of a metric."""
        return [float(one["value"][1]) for one in self._get(f"query?query={metric}")["result"]]

    def _get(self, path: str) -> Any:
        return json.loads(self._run("python", "-c", ASK, f"http://127.0.0.1:9090/api/v1/{path}"))["data"]

    def _is_up(self) -> bool:
        ask = ["python", "-c", ASK, "http://127.0.0.1:9090/-/ready"]
        namespace = f"--namespace={self._pod.metadata.namespace}"
        done = subprocess.run(
            ["kubectl", "exec", namespace, "prometheus", "--", *ask], capture_output=True, check=False
        )
        return done.returncode == 0

    def _run(self, *command: str) -> str:
        return self._release.execute(self._pod, *command)


def _targets(release: Release) -> list[dict[str, Any]]:
    """Pods with the usual annotations. The job is named as a ServiceMonitor would, which the alerts expect."""
    found = []
    for pod in release.core.list_namespaced_pod(release.namespace).items:
        asks = {key.removeprefix(ANNOTATION): value for key, value in (pod.metadata.annotations or {}).items()}
        if asks.get("scrape") == "true" and pod.status.pod_ip and pod.metadata.deletion_timestamp is None:
            job = "-".join(pod.metadata.labels[f"app.kubernetes.io/{key}"] for key in ("instance", "name"))
            labels = {"namespace": release.namespace, "pod": pod.metadata.name, "job": job}
            target = f"{pod.status.pod_ip}:{asks['port']}"
            found.append({"targets": [target], "labels": labels | {"__metrics_path__": asks["path"]}})
    return found


def _rules(release: Release) -> dict[str, Any]:
    """The chart's alerts, as they would be installed where there is an operator for them."""
    rendered = release.helm(
        "template",
        release.name,
        str(release.charts / "twitter-clone"),
        f"--values={VALUES}",
        "--set=alerts.enabled=true",
        "--set=global.metrics.scrape=serviceMonitor",
        *(f"--set={setting}" for setting in SECRETS_OF_A_RENDERING),
        "--show-only=templates/prometheusrule.yaml",
    )
    spec: dict[str, Any] = yaml.safe_load(rendered)["spec"]
    return spec
