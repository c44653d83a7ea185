"""Each chart as a release of its own, on a Redis that is none of ours."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.e2e import tls_redis
from tests.e2e.release import READY_SECONDS_MAX, Release, image_values
from tests.support.process import REPOSITORY

REDIS: Final = {"existingSecret": tls_redis.NAME, "key": "url", "caSecret": tls_redis.CA_SECRET}
BY_SENTINEL: Final = REDIS | {"key": "sentinel_url"}
ONE_POD: Final[dict[str, Any]] = {"autoscaling": {"enabled": False}, "replicaCount": 1}
DOOR: Final = "http://door-edge"
CHARTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "owner": ("db-updater", {"redis": REDIS}),
    "reader": ("read-service", {"redis": REDIS, "env": {"OWNER_URL": "http://owner-db-updater:8002"}, **ONE_POD}),
    "writer": (
        "write-service",
        {
            "redis": BY_SENTINEL,
            "env": {"READ_SERVICE_URL": "http://reader-read-service:8000", "AUTH_REQUIRED": False},
            **ONE_POD,
        },
    ),
    "door": (
        "edge",
        {"readService": "reader-read-service:8000", "writeService": "writer-write-service:8001", "replicaCount": 1},
    ),
}
"""Each release's chart, and the values that tell it where the others are. The writer finds Redis by its Sentinel."""


@pytest.fixture
def place(make_namespace: Callable[..., str], tmp_path: Path) -> Release:
    """A namespace of its own with that Redis: reached by TLS alone, its addresses in a Secret."""
    place = Release(make_namespace())
    tls_redis.start(place, tmp_path)
    return place


def test_each_chart_installs_alone_and_passes_its_own_test(place: Release, tmp_path: Path) -> None:
    """In whatever order they start; and together they are a system."""

    def install(name: str) -> None:
        chart, values = CHARTS[name]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values | image_values()))
        wait = ["--wait", f"--timeout={READY_SECONDS_MAX:.0f}s"]
        place.helm("install", name, str(place.charts / chart), f"--values={tmp_path / name}.yaml", *wait)

    def test(name: str) -> str:
        return place.helm("test", name)

    with ThreadPoolExecutor() as threads:
        list(threads.map(install, CHARTS))
        for output in threads.map(test, CHARTS):
            assert output.count("Phase:          Succeeded") == 1, output
    smoke = (REPOSITORY / "charts" / "twitter-clone" / "files" / "smoke.py").read_text()
    [pod] = Release(place.namespace, "reader").pods("read-service")
    place.execute(pod, "env", f"READ_URL={DOOR}", f"WRITE_URL={DOOR}", "python", "-c", smoke)
