"""Charts rendered by helm, as Python objects."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.charts import tools
from tests.support.process import REPOSITORY

CHARTS = REPOSITORY / "charts"
REDIS_STAND_IN = REPOSITORY / "tests" / "fixtures" / "redis-chart"
APPLICATIONS = ("read-service", "write-service", "db-updater", "edge", "twitter-clone")
WORKLOADS = ("Deployment", "StatefulSet", "Job", "Pod")
KUBERNETES_VERSIONS = ("1.30.0", "1.31.0", "1.32.0", "1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0")

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A chart with a values file to render it with."""

    chart: str
    values: Path

    def __str__(self) -> str:
        return f"{self.chart}-{self.values.name.removesuffix('.yaml').removesuffix('-values')}"


CI_CASES = [Case(chart, path) for chart in APPLICATIONS for path in sorted((CHARTS / chart / "ci").glob("*.yaml"))]


class Renderer:
    """Renders charts that were built in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.helm = tools.find("helm")
        self.directory = directory
        self._done: dict[tuple[str, ...], subprocess.CompletedProcess[str]] = {}
        build = [CHARTS / "build", directory, REDIS_STAND_IN]
        subprocess.run(build, env={"HELM": self.helm, "PATH": "/usr/bin:/bin", "HOME": str(directory)}, check=True)

    def template(
        self, chart: str, *values: Path, settings: Sequence[str] = (), version: str = "", release: str = "rel"
    ) -> subprocess.CompletedProcess[str]:
        """Run ``helm template``, each command once; a setting looks like ``--set key=value`` does."""
        command = [self.helm, "template", release, str(self.directory / chart), "--namespace", "tw"]
        command += [f"--values={path}" for path in values]
        command += [f"{'--set-literal' if '{{' in setting else '--set'}={setting}" for setting in settings]
        command += [f"--kube-version={version}"] if version else []
        if (done := self._done.get(tuple(command))) is None:
            done = self._done[tuple(command)] = subprocess.run(command, capture_output=True, text=True, check=False)
        return done

    def render(
        self, chart: str, *values: Path, settings: Sequence[str] = (), version: str = "", release: str = "rel"
    ) -> list[Manifest]:
        """The objects of a release, in a stable order."""
        done = self.template(chart, *values, settings=settings, version=version, release=release)
        assert done.returncode == 0, done.stderr
        manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
        return sorted(manifests, key=lambda manifest: (manifest["kind"], manifest["metadata"]["name"]))

    def refusal(self, chart: str, *values: Path, settings: Sequence[str] = ()) -> str:
        """What helm says instead of rendering."""
        done = self.template(chart, *values, settings=settings)
        assert done.returncode != 0, f"{chart} rendered with {settings}"
        return done.stderr


def default_values(chart: str) -> Path:
    """The values file with the least that the chart needs."""
    return CHARTS / chart / "ci" / "default-values.yaml"


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    """The objects of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    """The one object of this kind and name."""
    [found] = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


def pods(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Name, metadata and spec of every pod that these objects make."""
    for manifest in of_kind(manifests, *WORKLOADS):
        pod = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
        yield manifest["metadata"]["name"], pod["metadata"], pod["spec"]


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector's labels are all among these."""
    return selector.items() <= labels.items()
