"""The rendered charts, compared with what is committed: a change shows as a diff for the reviewer.

``UPDATE_GOLDEN=1 pytest tests/charts/test_golden.py`` writes the files anew.
"""

from __future__ import annotations

import os
from itertools import cycle
from pathlib import Path

import pytest
import yaml

from tests.charts.rendering import CI_CASES, KUBERNETES_VERSIONS, Case, Manifest, Renderer
from tests.charts.test_kubernetes_schema import EXAMPLES, SECRETS

GOLDEN = Path(__file__).parent / "golden"
SUBCHART_NAMES = ("read-service", "write-service", "db-updater", "edge", "redis", "cache")


def _own(case: Case, manifests: list[Manifest]) -> list[Manifest]:
    """Without the objects of subcharts, which have golden files of their own."""
    if case.chart != "twitter-clone":
        return manifests
    labels = [manifest["metadata"]["labels"]["app.kubernetes.io/name"] for manifest in manifests]
    return [manifest for manifest, name in zip(manifests, labels, strict=True) if name not in SUBCHART_NAMES]


@pytest.mark.parametrize("case", CI_CASES, ids=str)
def test_a_chart_renders_as_committed(renderer: Renderer, case: Case) -> None:
    """Each values file in a chart's ci directory has a golden file."""
    rendered = yaml.safe_dump_all(_own(case, renderer.render(case.chart, case.values)), sort_keys=False, width=120)
    path = GOLDEN / f"{case}.yaml"
    if "UPDATE_GOLDEN" in os.environ:
        path.write_text(rendered)
    assert rendered == path.read_text(), "if this is intended, write the golden files anew"


def test_every_golden_file_belongs_to_a_case() -> None:
    """None is left over from a values file that is gone."""
    assert {path.name for path in GOLDEN.glob("*")} == {f"{case}.yaml" for case in CI_CASES}


@pytest.mark.parametrize(
    ("case", "version"), list(zip(CI_CASES + EXAMPLES, cycle(KUBERNETES_VERSIONS), strict=False)), ids=str
)
def test_a_chart_renders_the_same_for_every_version_of_kubernetes(renderer: Renderer, case: Case, version: str) -> None:
    """What is served by 1.30 is served by all later ones, so nothing depends on the version. One version each."""
    settings = SECRETS if case in EXAMPLES else ()
    rendered = renderer.render(case.chart, case.values, settings=settings, version=version)
    assert rendered == renderer.render(case.chart, case.values, settings=settings)


def test_an_older_kubernetes_is_refused(renderer: Renderer) -> None:
    """The native sleep of preStop came with 1.30."""
    done = renderer.template("twitter-clone", CI_CASES[0].values, version="1.29.0")
    assert "incompatible with Kubernetes v1.29.0" in done.stderr
