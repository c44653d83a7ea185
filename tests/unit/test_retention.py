"""How far the log may be trimmed: the nearest of three bounds."""

from __future__ import annotations

import pytest

from services.common.ids import position_at
from services.db_updater.retention import trim_position

NOW_MS = 1_763_817_660_000
NOW = position_at(NOW_MS)
MINUTE_AGO = position_at(NOW_MS - 60_000)


@pytest.mark.parametrize(
    ("archived", "leased", "expected"),
    [
        pytest.param(MINUTE_AGO - 5000, None, MINUTE_AGO - 5000, id="never past what is archived"),
        pytest.param(NOW, None, MINUTE_AGO - 1, id="never into the retention window"),
        pytest.param(NOW, MINUTE_AGO - 7000, MINUTE_AGO - 7000, id="never past a snapshot on offer"),
        pytest.param(NOW, NOW, MINUTE_AGO - 1, id="a newer snapshot holds nothing back"),
        pytest.param(0, NOW, 0, id="nothing archived, nothing trimmed"),
    ],
)
def test_log_is_trimmed_to_the_nearest_bound(archived: int, leased: int | None, expected: int) -> None:
    """Archived, outlived and not leased: only then does nobody need an entry in the log."""
    assert trim_position(archived, NOW_MS, 60, leased) == expected
