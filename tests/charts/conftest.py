"""What the tests of the charts share."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Renderer


@pytest.fixture(scope="session")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """The charts of this repository, built offline."""
    return Renderer(tmp_path_factory.mktemp("charts") / "built")
