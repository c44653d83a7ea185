"""The dashboards: what they ask for exists, and they are what their description says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts import metrics, tools
from tests.charts.rendering import Renderer, default_values, of_kind
from tests.support.process import REPOSITORY

SETTINGS = ("dashboards.enabled=true", "global.metrics.scrape=serviceMonitor")


@pytest.fixture
def dashboards(renderer: Renderer) -> dict[str, dict[str, Any]]:
    """What Grafana's sidecar finds, by the name of the file."""
    manifests = renderer.render("twitter-clone", default_values("twitter-clone"), settings=SETTINGS)
    labelled = [one for one in of_kind(manifests, "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"]]
    return {name: json.loads(text) for one in labelled for name, text in one["data"].items()}


def _panels(dashboards: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [panel for dashboard in dashboards.values() for panel in dashboard["panels"]]


def _queries(dashboards: dict[str, dict[str, Any]]) -> list[str]:
    """As Grafana sends them for a release named rel in the namespace tw."""
    values = {"$namespace": "tw", "$release": "rel", "$__rate_interval": "5m"}
    asked = [target["expr"] for panel in _panels(dashboards) for target in panel["targets"]]
    return [re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], query) for query in asked]


def test_they_are_what_their_description_says() -> None:
    """``script/dashboards`` writes them."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / "script" / "dashboards", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_file_is_rendered(dashboards: dict[str, dict[str, Any]]) -> None:
    """Each under a uid and a title of its own, which Grafana tells them apart by."""
    assert set(dashboards) == {"overview.json", "log-and-owner.json", "readers-and-caches.json"}
    for key in ("uid", "title"):
        assert len({dashboard[key] for dashboard in dashboards.values()}) == len(dashboards)


def test_every_query_asks_for_what_exists(dashboards: dict[str, dict[str, Any]]) -> None:
    """Metrics and labels of the targets it names."""
    assert {query: found for query in _queries(dashboards) if (found := metrics.problems(query, "rel"))} == {}


def test_every_query_is_understood(tmp_path: Path, dashboards: dict[str, dict[str, Any]]) -> None:
    """Prometheus' own parser reads them, as if they were rules."""
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(_queries(dashboards))]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    command = [tools.find("promtool"), "check", "rules", "rules.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_panel_asks_the_prometheus_that_was_chosen(dashboards: dict[str, dict[str, Any]]) -> None:
    """And has a place of its own."""
    for panel in _panels(dashboards):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for dashboard in dashboards.values():
        assert {variable["name"] for variable in dashboard["templating"]["list"]} == {
            "datasource",
            "namespace",
            "release",
        }
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not taken & cells, panel["title"]
            taken |= cells


def test_every_legend_names_labels_of_its_query(dashboards: dict[str, dict[str, Any]]) -> None:
    """Of its grouping, or of the targets where nothing is summed up."""
    for panel in _panels(dashboards):
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
            assert named <= (grouped or metrics.TARGET_LABELS), panel["title"]
