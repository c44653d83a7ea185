"""Reports of recoveries that are there when an owner starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import StorageUnfit
from services.db_updater.reports import RecoveryReports

OLD = '{"epoch":2,"reason":"r","base_position":9,"log_head":5,"reported_position":9,"discarded_entries":3}'


def test_a_report_from_before_its_time_was_noted_is_read(tmp_path: Path) -> None:
    """What it says of losses counts all the same."""
    (tmp_path / "epoch-000002-log-5.ndjson").write_text(f'{{"position":4}}\n{OLD}\n')
    reports = RecoveryReports(tmp_path)
    assert reports.last is not None
    assert (reports.last.unix_ms, reports.discarded_entries) == (0, 3)


@pytest.mark.parametrize("content", [b"", b"{", b'{"epoch":2}', b'{"reason": "\xff"}'])
def test_a_report_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    """An operator has to look; no traceback."""
    (tmp_path / "epoch-000002-log-5.ndjson").write_bytes(content)
    with pytest.raises(StorageUnfit, match="epoch-000002-log-5"):
        RecoveryReports(tmp_path)
