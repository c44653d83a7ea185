"""script/init_db.py and script/test_services.sh with nothing running: they start what they need, and stop it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.dev.state import running_state, sole_supervisor
from services.common.database import open_reader
from tests.support.commands import run_script

pytestmark = pytest.mark.timeout(180)


def test_init_db_starts_the_system_and_leaves_the_data(tmp_path: Path) -> None:
    """In DATABASE_URL, as the seed has it or as a bare path; the second run finds everything there."""
    first = run_script("init_db.py", tmp_path, {"DATABASE_URL": "sqlite:///./elsewhere/seed.db"})
    assert first.returncode == 0, first.stderr
    assert "3 users and 5 tweets are there, 8 of them new" in first.stdout
    assert first.stderr == "nothing is running: starting the system for a moment ...\n"
    engine = open_reader(tmp_path / "elsewhere" / "seed.db")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM users").scalar_one() == 3
        assert connection.exec_driver_sql("SELECT count(*) FROM tweets").scalar_one() == 5
    engine.dispose()
    second = run_script("init_db.py", tmp_path, {"DATABASE_URL": "elsewhere/seed.db"})
    assert "3 users and 5 tweets are there, 0 of them new" in second.stdout
    assert running_state(tmp_path / "data") is None
    with sole_supervisor(tmp_path / "data"):
        pass


def test_the_tour_starts_the_services_and_leaves_nothing(tmp_path: Path) -> None:
    """With tokens, as these services have keys and require them."""
    tour = run_script("test_services.sh", tmp_path, {"AUTH_REQUIRED": "true", "TMPDIR": str(tmp_path)})
    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert tour.stdout.splitlines()[-1] == "20 passed, 0 failed"
    assert not list(tmp_path.iterdir())
