"""Every rendered object, checked against the published schemas of every supported version of Kubernetes."""

from __future__ import annotations

import json
from functools import cache

import kubernetes_validate
import pytest

from tests.charts.rendering import CI_CASES, KUBERNETES_VERSIONS, Case, Manifest, Renderer
from tests.support.process import REPOSITORY

CUSTOM_RESOURCES = ("HTTPRoute", "PrometheusRule", "ServiceMonitor")
"""Their schemas come with their operators, not with Kubernetes."""

EXAMPLES = [
    Case("twitter-clone", path)
    for pattern in ("values/*.yaml", "*/twitter-clone.yaml")
    for path in sorted((REPOSITORY / "k8s").glob(pattern))
]
SECRETS = (
    "cache.auth.existingSecret=cache-credentials",
    "global.cache.existingSecret=cache-credentials",
    "global.redis.existingSecret=redis-credentials",
    "redis.auth.existingSecret=redis-credentials",
    "global.authKeys.existingSecret=auth-keys",
    "write-service.emailHashKey.existingSecret=email-hash-key",
)


@pytest.fixture(scope="module")
def manifests(renderer: Renderer) -> list[Manifest]:
    """Every object that some case renders, each once."""
    cases = [(case, ()) for case in CI_CASES] + [(case, SECRETS) for case in EXAMPLES]
    rendered = [
        manifest for case, settings in cases for manifest in renderer.render(case.chart, case.values, settings=settings)
    ]
    distinct = {json.dumps(manifest, sort_keys=True): manifest for manifest in rendered}
    return [manifest for manifest in distinct.values() if manifest["kind"] not in CUSTOM_RESOURCES]


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_fits_the_schema(manifests: list[Manifest], version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown fields are refused, too."""
    # It would read and parse megabytes of schemas again for each object.
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version.removesuffix(".0"), strict=True)
