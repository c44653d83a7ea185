"""Chart.lock of the umbrella, which helm writes only with access to every repository it names.

``python -m tests.charts.chart_lock`` writes it anew.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from tests.charts.rendering import CHARTS

LOCK = CHARTS / "twitter-clone" / "Chart.lock"
REQUESTED = ("name", "version", "repository", "condition", "alias")
LOCKED = ("name", "version", "repository")


def content() -> dict[str, Any]:
    """What Chart.lock must say for Chart.yaml, all of whose versions are exact."""
    dependencies = yaml.safe_load((CHARTS / "twitter-clone" / "Chart.yaml").read_text())["dependencies"]
    locked = [_only(dependency, LOCKED) for dependency in dependencies]
    requested = [_only(dependency, REQUESTED) for dependency in dependencies]
    digest = hashlib.sha256(json.dumps([requested, locked], separators=(",", ":")).encode()).hexdigest()
    # helm's order of keys; it asks for the time but does not use it.
    ordered = [{key: dependency[key] for key in ("name", "repository", "version")} for dependency in locked]
    return {"dependencies": ordered, "digest": f"sha256:{digest}", "generated": "2026-01-01T00:00:00Z"}


def _only(dependency: dict[str, str], keys: tuple[str, ...]) -> dict[str, str]:
    return {key: dependency[key] for key in keys if key in dependency}


def main() -> None:
    """Write the file."""
    LOCK.write_text(yaml.safe_dump(content(), sort_keys=False))


if __name__ == "__main__":
    main()
