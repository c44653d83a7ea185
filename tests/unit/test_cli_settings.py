"""Where the commands find the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.dev.state import DevState, running_state, sole_supervisor, write_state
from services.cli.errors import CommandFailed
from services.cli.settings import CliSettings, find_system

VARIABLES = (
    "REDIS_URL",
    "READ_SERVICE_URL",
    "WRITE_SERVICE_URL",
    "OWNER_URL",
    "DATABASE_URL",
    "ARCHIVE_DIR",
    "AUTH_KEYS_FILE",
)
STATE = DevState(
    redis_url="redis://127.0.0.1:7001",
    read_url="http://127.0.0.1:7002",
    write_url="http://127.0.0.1:7003",
    owner_url="http://127.0.0.1:7004",
    database_url="/somewhere/twitter.db",
    volume_dir="/somewhere",
    auth_keys_file="/somewhere/keys/auth_keys.json",
    pids={"read": 42},
)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_anything_the_usual_ports_are_used(tmp_path: Path) -> None:
    """As the README has them."""
    system = find_system(tmp_path)
    assert (system.redis_url, system.read_url) == ("redis://localhost:6379", "http://localhost:8000")
    assert (system.write_url, system.owner_url) == ("http://localhost:8001", "http://localhost:8002")
    assert (system.database, system.archive_dir) == (tmp_path / "twitter.db", tmp_path / "archive")


def test_a_running_dev_is_found_without_settings(tmp_path: Path) -> None:
    """Through what it published."""
    with sole_supervisor(tmp_path):
        write_state(tmp_path, STATE)
        system = find_system(tmp_path)
    assert (system.redis_url, system.write_url) == (STATE.redis_url, STATE.write_url)
    assert system.archive_dir == Path("/somewhere/archive")


def test_what_a_killed_dev_left_behind_is_not_believed(tmp_path: Path) -> None:
    """The lock went with the process; the file says nothing any more."""
    with sole_supervisor(tmp_path):
        pass
    write_state(tmp_path, STATE)
    assert running_state(tmp_path) is None
    assert find_system(tmp_path).redis_url == "redis://localhost:6379"


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable by itself; the rest is still found."""
    monkeypatch.setenv("OWNER_URL", "http://elsewhere:1/")
    monkeypatch.setenv("DATABASE_URL", "sqlite:////data/other.db")
    with sole_supervisor(tmp_path):
        write_state(tmp_path, STATE)
        system = find_system(tmp_path)
    assert system.owner_url == "http://elsewhere:1"
    assert (system.database, system.archive_dir) == (Path("/data/other.db"), Path("/data/archive"))
    assert system.read_url == STATE.read_url


def test_a_wrong_variable_is_named_without_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold a password."""
    monkeypatch.setenv("REDIS_URL", "http://:hunter2@redis")
    with pytest.raises(CommandFailed, match="REDIS_URL: must look like redis://") as failure:
        find_system(tmp_path)
    assert "hunter2" not in str(failure.value)
    assert failure.value.exit_code == 2


def test_a_second_supervisor_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """It says where the first one is, and leaves its file alone."""
    with sole_supervisor(tmp_path):
        write_state(tmp_path, STATE)
        with pytest.raises(CommandFailed, match=r"already runs on .*7002"), sole_supervisor(tmp_path):
            pass
        assert running_state(tmp_path) == STATE


def test_a_new_supervisor_does_not_lend_its_lock_to_an_old_file(tmp_path: Path) -> None:
    """The parts of a killed one are gone; until the new ones are ready there is nothing to be found."""
    write_state(tmp_path, STATE)
    with sole_supervisor(tmp_path):
        assert running_state(tmp_path) is None


def test_every_setting_says_what_it_is() -> None:
    """The table in the docs is made of it."""
    assert all(field.description for field in CliSettings.model_fields.values())
