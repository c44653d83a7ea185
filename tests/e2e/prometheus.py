"""A real Prometheus in a pod of the monitoring namespace, so that the network policies see it as what it is.

Debian builds its Prometheus without the discovery of pods, but packages vmagent, which has it and reads the same
configuration: vmagent finds the pods through the Kubernetes API, scrapes them, and hands on what it reads.
Where E2E_PROMETHEUS names a Prometheus that has the discovery, that one does it all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client as kubernetes

from tests.charts import tools
from tests.e2e.release import VALUES, Release, kubectl
from tests.e2e.wait import eventually
from tests.support.process import REPOSITORY

HOME: Final = "/tmp/monitoring"  # noqa: S108 - in the pod
EVERY: Final = {"scrape_interval": "2s", "scrape_timeout": "2s"}
RULES: Final = {"global": EVERY | {"evaluation_interval": "2s"}, "rule_files": [f"{HOME}/rules.yaml"]}
SCRAPING: Final = REPOSITORY / "k8s" / "monitoring" / "prometheus.yaml"
FINDS_PODS: Final = os.environ.get("E2E_PROMETHEUS")
OPTIONS: Final = {
    "prometheus": f"--config.file={HOME}/prometheus.yaml --storage.tsdb.path={HOME}/data "
    "--web.listen-address=127.0.0.1:9090 --web.enable-remote-write-receiver --query.lookback-delta=20s",
    "vmagent": f"-promscrape.config={HOME}/scraping.yaml -promscrape.kubernetesSDCheckInterval=1s "
    "-promscrape.suppressDuplicateScrapeTargetErrors -httpListenAddr=127.0.0.1:8429 "
    f"-remoteWrite.url=http://127.0.0.1:9090/api/v1/write -remoteWrite.tmpDataPath={HOME}/queue",
}
"""The options of each. vmagent's word that a pod is gone may be older than its last sample, and Prometheus refuses it
then: only time takes such a pod from its answers."""

MAY_FIND_PODS: Final = {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]}
ASK: Final = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
SECRETS_OF_A_RENDERING: Final = (
    "global.redis.existingSecret=any",
    "redis.auth.existingSecret=any",
    "global.authKeys.existingSecret=any",
    "write-service.emailHashKey.existingSecret=any",
)


class Prometheus:
    """Debian's programs, copied into a pod that the network policies know as monitoring."""

    def __init__(self, release: Release, namespace: str) -> None:
        self._release = release
        _let_find_pods(release.namespace, namespace)
        self._pod = release.run_pod("prometheus", namespace)

    def start(self, directory: Path) -> None:
        """Give it what it needs, and wait until it answers."""
        scraping = yaml.safe_load(SCRAPING.read_text()) | {"global": EVERY}
        for job in scraping["scrape_configs"]:
            for discovery in job["kubernetes_sd_configs"]:
                discovery["namespaces"] = {"names": [self._release.namespace]}
        programs = {"prometheus": FINDS_PODS} if FINDS_PODS else {name: tools.find(name) for name in OPTIONS}
        prometheus = scraping | RULES if FINDS_PODS else RULES
        configurations = {"prometheus": prometheus, "scraping": scraping, "rules": _rules(self._release)}
        for name, content in configurations.items():
            (directory / f"{name}.yaml").write_text(yaml.safe_dump(content))
        for name, program in programs.items():
            shutil.copy(program, directory / name)
        kubectl("cp", f"--namespace={self._pod.metadata.namespace}", str(directory), f"prometheus:{HOME}")
        for name in programs:
            log = f">{HOME}/{name}.log 2>&1 </dev/null"
            self._run("sh", "-c", f"setsid {HOME}/{name} {OPTIONS[name]} {log} &")
        eventually(self._is_up, 60, self.log)

    def targets(self) -> dict[str, str]:
        """Whether each target was read at the last try, by the name of its pod: ``up`` or ``down``."""
        found = self._get("query?query=up")["result"]
        return {one["metric"]["pod"]: "up" if one["value"][1] == "1" else "down" for one in found}

    def log(self) -> str:
        """The last lines that the programs have logged."""
        return self._run("sh", "-c", f"tail -n 20 {HOME}/*.log")

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


def _let_find_pods(namespace: str, monitoring: str) -> None:
    """Let the pods of one namespace ask for those of another: what monitoring usually may do everywhere."""
    access: Any = kubernetes.RbacAuthorizationV1Api()
    metadata = {"metadata": {"name": monitoring}}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": monitoring}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": monitoring}
    access.create_namespaced_role(namespace, metadata | MAY_FIND_PODS)
    access.create_namespaced_role_binding(namespace, metadata | {"roleRef": role, "subjects": [subject]})


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
