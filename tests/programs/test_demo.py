"""``twitter demo`` on the sample that ships with the project."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from services.cli.demo.command import sample_inputs
from services.cli.importing.rows import BadRow, read_rows
from tests.support.process import REPOSITORY, Program


@pytest.mark.timeout(180)
def test_the_demo_holds_on_the_sample(tmp_path: Path) -> None:
    """A system of its own, everything imported, liked, read back and verified; nothing is left behind."""
    demo = Program(
        "demo",
        [sys.executable, "-m", "services.cli", "demo", "--json"],
        tmp_path,
        # The demo must not touch what the environment points at.
        {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:1"},
    )
    demo.start()
    try:
        assert demo.wait(150) == 0, demo.log_tail
    finally:
        demo.close()
    summary = json.loads(demo.log[demo.log.index("{\n") :])
    rows = [source.row for source in read_rows(sample_inputs())]
    assert not any(isinstance(row, BadRow) for row in rows)
    assert (summary["rows"]["users"], summary["rows"]["follows"], summary["rows"]["tweets"]) == (24, 128, 60)
    assert summary["log_entries"] == sum(summary["events"].values())
    assert 0 < summary["append_calls"] < summary["log_entries"]
    assert 0 < summary["cache_hit_ratio"] < 1
    assert summary["verify_holds"]
    assert summary["disagreements"] == []
    assert summary["owner_lag_entries"] == summary["reader_lag_entries"] == 0
    assert not list(tmp_path.glob("twitter-*"))
