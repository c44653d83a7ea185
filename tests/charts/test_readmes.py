"""What the READMEs say of the charts, and what is said in two places."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
import yaml

from tests.charts import chart_lock, values_table
from tests.charts.rendering import APPLICATIONS, CHARTS, REDIS_STAND_IN
from tests.support.process import REPOSITORY

LIBRARY = "common"


def _metadata(chart: str) -> dict[str, Any]:
    metadata: dict[str, Any] = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    return metadata


@pytest.mark.parametrize("chart", APPLICATIONS)
def test_the_table_of_values_is_up_to_date(chart: str) -> None:
    """``python -m tests.charts.values_table`` writes it."""
    readme = (CHARTS / chart / "README.md").read_text()
    assert readme == values_table.replaced(readme, chart)


@pytest.mark.parametrize("chart", APPLICATIONS)
def test_every_value_has_a_comment(chart: str) -> None:
    """A leaf is explained by itself or, in a free-form value, by what holds it."""
    explained = {value.name for value in values_table.read(CHARTS / chart / "values.yaml")}

    def unexplained(values: dict[str, Any], path: str) -> list[str]:
        found = []
        for key, value in values.items():
            name = f"{path}.{key}" if path else key
            if name in explained and not (
                isinstance(value, dict) and any(one.startswith(f"{name}.") for one in explained)
            ):
                continue
            found += unexplained(value, name) if isinstance(value, dict) and value else [name]
        return found

    assert unexplained(yaml.safe_load((CHARTS / chart / "values.yaml").read_text()), "") == []


def test_versions_are_the_same_everywhere() -> None:
    """The charts' appVersion is the project's, and each dependency asks for the version that is there."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    versions = {chart: _metadata(chart)["version"] for chart in (*APPLICATIONS, LIBRARY)}
    for chart in APPLICATIONS:
        assert _metadata(chart)["appVersion"] == project["version"]
        for dependency in _metadata(chart)["dependencies"]:
            if dependency["repository"].startswith("file://"):
                assert dependency["version"] == versions[dependency["name"]]


def test_the_stand_in_for_the_redis_chart_has_its_name_and_version() -> None:
    """Helm would take another version too, and nobody would notice."""
    dependencies = _metadata("twitter-clone")["dependencies"]
    wanted = {dependency["version"] for dependency in dependencies if dependency["name"] == "redis"}
    stand_in = yaml.safe_load((REDIS_STAND_IN / "Chart.yaml").read_text())
    assert (stand_in["name"], {stand_in["version"]}) == ("redis", wanted)
    assert not (CHARTS / "twitter-clone" / "charts" / "redis").exists()


def test_the_lock_belongs_to_the_dependencies() -> None:
    """``python -m tests.charts.chart_lock`` writes it."""
    assert yaml.safe_load(chart_lock.LOCK.read_text()) | {"generated": ""} == chart_lock.content() | {"generated": ""}


def test_schemas_are_written_as_the_formatter_would() -> None:
    """Two spaces, one key a line: a change shows as one line."""
    for chart in APPLICATIONS:
        text = (CHARTS / chart / "values.schema.json").read_text()
        assert text == json.dumps(json.loads(text), indent=2) + "\n"
