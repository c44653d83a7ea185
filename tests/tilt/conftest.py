"""Charts built once, and the Tiltfile evaluated once for all tests that only look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.charts.rendering import Renderer
from tests.tilt.evaluation import Tilt, evaluate


@pytest.fixture(scope="session")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What charts/build makes of the charts, with the stand-in for Redis'."""
    return Renderer(tmp_path_factory.mktemp("charts") / "built").directory


@pytest.fixture(scope="session")
def tilt(charts: Path) -> Tilt:
    """What Tilt is asked for without any setting."""
    asked = Tilt(charts)
    evaluate(asked)
    return asked
