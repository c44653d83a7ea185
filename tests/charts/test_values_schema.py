"""The schemas of the values: strict, complete, and with the same words as the comments in values.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.charts import values_table
from tests.charts.rendering import APPLICATIONS, CHARTS, Renderer, default_values

NOT_OURS = ("redis", "cache")
"""In the umbrella: values of a chart that is not ours, which checks them itself."""


def _schema(chart: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((CHARTS / chart / "values.schema.json").read_text())
    return schema


def _objects(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if "properties" in schema:
        yield path, schema
        for name, below in schema["properties"].items():
            yield from _objects(below, (*path, name))


@pytest.mark.parametrize("chart", APPLICATIONS)
def test_every_value_is_in_the_schema_with_the_comment_as_its_description(chart: str) -> None:
    """One text for each value, in both places and in the README."""
    described = {
        ".".join((*path, name)): below.get("description")
        for path, schema in _objects(_schema(chart))
        for name, below in schema["properties"].items()
    }
    for value in values_table.read(CHARTS / chart / "values.yaml"):
        top, _, rest = value.name.partition(".")
        has_own_words = (chart == "twitter-clone" and top in NOT_OURS) or (top == "env" and rest)
        if not has_own_words:
            assert described[value.name] == value.description


@pytest.mark.parametrize("chart", APPLICATIONS)
def test_unknown_keys_are_refused_at_every_level(renderer: Renderer, chart: str) -> None:
    """A typo never passes in silence. ``global`` is shared with charts that are not ours, so it is open at its top."""
    levels = [path for path, _ in _objects(_schema(chart)) if path != ("global",) and not {*path[:1]} & {*NOT_OURS}]
    typos = {f"typo{number}": path for number, path in enumerate(levels)}
    refusal = renderer.refusal(
        chart, default_values(chart), settings=[".".join((*path, typo)) + "=1" for typo, path in typos.items()]
    )
    passed = {typo: path for typo, path in typos.items() if f"'{typo}'" not in refusal and f" {typo} " not in refusal}
    assert passed == {}


@pytest.mark.parametrize(
    ("chart", "setting"),
    [
        ("read-service", "replicaCount=many"),
        ("read-service", "image.pullPolicy=Sometimes"),
        ("read-service", "env.LOG_LEVEL=verbose"),
        ("read-service", "env.MIN_POSITION_WAIT_SECONDS=31"),
        ("read-service", "replica.sizeLimit=2 GB"),
        ("read-service", "env.CACHE_BYTES=1"),
        ("read-service", "env.REDIS_URL=redis://plain:6379"),
        ("read-service", "secretEnv.LOG_LEVEL=debug"),
        ("read-service", "secretEnv.CACHE_BYTES.name=secret,secretEnv.CACHE_BYTES.key=key"),
        ("read-service", "metrics.scrape=both"),
        ("read-service", "autoscaling.cpuUtilization=0"),
        ("write-service", "env.AUTH_REQUIRED=perhaps"),
        ("write-service", "env.LOG_DURABILITY=none"),
        ("db-updater", "replicaCount=-1"),
        ("db-updater", "persistence.accessMode=ReadOnlyMany"),
        ("db-updater", "env.SNAPSHOT_LEASE_SECONDS=1"),
        ("db-updater", "updateStrategy=RollingUpdate"),
        ("edge", "service.type=ExternalName"),
        ("edge", "trustedProxies={everybody}"),
        ("edge", "readService=http://read"),
        ("twitter-clone", "ingress.mode=magic"),
        ("twitter-clone", "ingress.host=https://example.com"),
        ("twitter-clone", "networkPolicy.externalRedis.port=0"),
        ("twitter-clone", "redis.image.tag=8"),
        ("twitter-clone", "read-service.env.LOG_LEVEL=verbose"),
        ("twitter-clone", "global.image.regsitry=x"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(renderer: Renderer, chart: str, setting: str) -> None:
    """Wrong types, unknown words, numbers out of range, shapes that are not on offer."""
    assert "don't meet the specifications of the schema" in renderer.refusal(
        chart, default_values(chart), settings=[setting]
    )


def test_the_bundled_redis_is_told_only_what_was_measured() -> None:
    """The keys whose effect on the real chart is known; another one needs another look at that chart."""
    values = yaml.safe_load((CHARTS / "twitter-clone" / "values.yaml").read_text())
    assert set(values["cache"]) == set(values["redis"]) - {"persistentVolumeClaimRetentionPolicy"}
    assert set(values["redis"]) == {
        "enabled",
        "architecture",
        "image",
        "auth",
        "config",
        "persistence",
        "persistentVolumeClaimRetentionPolicy",
        "resources",
        "initContainer",
        "podSecurityContext",
        "serviceAccount",
        "networkPolicy",
        "metrics",
    }
