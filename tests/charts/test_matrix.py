"""Versions of Kubernetes and features of the umbrella, each with each: what they render fits that version's schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations, product
from typing import Final

import kubernetes_validate
import pytest

from tests.charts.rendering import KUBERNETES_VERSIONS, Renderer, default_values, of_kind
from tests.charts.test_kubernetes_schema import CUSTOM_RESOURCES

Settings = tuple[str, ...]

OFF: Final[Settings] = ()
FEATURES: Final[Mapping[str, Mapping[str, Settings]]] = {
    "version": dict.fromkeys(KUBERNETES_VERSIONS, OFF),
    "ingress": {
        "edge": OFF,
        "hosts": (
            "ingress.mode=hosts",
            "ingress.hosts.read=read.example.com",
            "ingress.hosts.write=write.example.com",
            "ingress.tlsSecret=tls",
            "edge.enabled=false",
        ),
        "httpRoute": ("ingress.mode=httpRoute", "ingress.gateway.name=public", "edge.enabled=false"),
        "none": ("ingress.mode=none",),
    },
    "monitoring": {
        "none": OFF,
        "annotations": ("global.metrics.scrape=annotations",),
        "monitors": ("global.metrics.scrape=serviceMonitor", "redis.metrics.enabled=true"),
        "all": ("global.metrics.scrape=serviceMonitor", "alerts.enabled=true", "dashboards.enabled=true"),
    },
    "backup": {
        "none": OFF,
        "made": ("db-updater.backup.enabled=true",),
        "restored": (
            "db-updater.backup.enabled=true",
            "db-updater.backup.existingClaim=backups",
            "db-updater.replicaCount=0",
            "db-updater.restore.backup=newest",
        ),
    },
    "redis": {
        "ours": OFF,
        "external": ("redis.enabled=false", "global.redis.existingSecret=managed", "global.redis.caSecret=managed-ca"),
    },
    "cache": {
        "none": OFF,
        "ours": ("cache.enabled=true", "cache.auth.existingSecret=cache", "global.cache.existingSecret=cache"),
    },
    "policies": {"on": OFF, "off": ("networkPolicy.enabled=false",)},
    "scaling": {
        "automatic": ("read-service.autoscaling.requestsPerSecond=100",),
        "by hand": ("read-service.autoscaling.enabled=false", "write-service.autoscaling.enabled=false"),
    },
}

Row = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def _pairs(row: Row) -> set[Pair]:
    return set(combinations(row.items(), 2))


def _rows() -> Iterator[Row]:
    """Few rows in which each choice meets each choice of every other feature. The first two features span them."""
    first, second, *others = FEATURES
    missing = {
        pair
        for one, other in combinations(FEATURES, 2)
        for pair in product(product([one], FEATURES[one]), product([other], FEATURES[other]))
    }
    for start in product(FEATURES[first], FEATURES[second]):
        row = dict(zip((first, second), start, strict=True))
        for feature in others:
            row |= {feature: max(FEATURES[feature], key=lambda name: len(_pairs({**row, feature: name}) & missing))}
        missing -= _pairs(row)
        yield row
    assert not missing, f"no row has {missing}"


@pytest.fixture(scope="module", autouse=True)
def quick_schemas() -> Iterator[None]:
    """It would read and parse megabytes of schemas again for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
        yield


@pytest.mark.parametrize("row", list(_rows()), ids=lambda row: "-".join(row.values()))
def test_every_pair_of_features_renders_what_its_kubernetes_takes(renderer: Renderer, row: Row) -> None:
    """Unknown fields are refused, too, and each object is there once."""
    settings = [setting for feature, name in row.items() for setting in FEATURES[feature][name]]
    version = row["version"]
    manifests = renderer.render("twitter-clone", default_values("twitter-clone"), settings=settings, version=version)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names))
    assert bool(of_kind(manifests, "ServiceMonitor")) == (row["monitoring"] in {"monitors", "all"})
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM_RESOURCES:
            kubernetes_validate.validate(manifest, version.removesuffix(".0"), strict=True)
