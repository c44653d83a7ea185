"""``twitter doctor``: each thing that can be wrong is found, with what to do, and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.doctor.command import EXIT_CODE_MAX
from services.cli.doctor.log_checks import check_redis
from services.cli.doctor.machine_checks import check_keys, check_volume, lock_path
from services.cli.main import app
from services.common import keys
from services.common.auth import add_key
from services.common.database.sqlite import sqlite_library
from services.common.ids import position_at
from services.common.log.client import EventLog
from services.db_updater.lock import VolumeLock
from tests.support.commands import environment_of
from tests.support.redis_server import RedisServer
from tests.support.system import System

NOWHERE = "http://127.0.0.1:1"


def diagnose(environment: dict[str, str], directory: Path) -> tuple[int, dict[str, Any]]:
    """The exit code, and the findings that are not fine, by what was checked."""
    result = CliRunner().invoke(app, ["doctor", "--json", "--data", str(directory)], env=environment)
    diagnosis = json.loads(result.stdout)
    found = {each["check"]: each for each in diagnosis["findings"] if each["level"] != "fine"}
    assert diagnosis["actions"] == sum(each["level"] == "action" for each in found.values())
    assert all(each["remedy"] for each in found.values())
    return result.exit_code, found


def test_a_healthy_system_needs_nothing(system: System, tmp_path: Path) -> None:
    """Exit code 0; what is left is advice: its Redis has no limit, and this environment no keys."""
    code, found = diagnose(environment_of(system), tmp_path)
    assert (code, sorted(found)) == (0, ["auth keys", "e-mail key", "redis memory"])
    shown = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path)], env=environment_of(system))
    assert shown.stdout.splitlines()[-1] == "nothing needs action"


def test_findings_that_need_action_are_the_exit_code(tmp_path: Path) -> None:
    """Nothing runs: Redis, three services and the volume that nobody holds."""
    (tmp_path / "data").mkdir()
    environment = {"REDIS_URL": "redis://127.0.0.1:1", "OWNER_URL": NOWHERE, "READ_SERVICE_URL": NOWHERE}
    environment |= {"WRITE_SERVICE_URL": NOWHERE, "DATABASE_URL": str(tmp_path / "data" / "twitter.db")}
    code, found = diagnose(environment, tmp_path)
    actions = {check for check, each in found.items() if each["level"] == "action"}
    assert actions == {"redis", "db-updater", "read service", "write service", "owner's lock"}
    assert code == len(actions) < EXIT_CODE_MAX


def found_in_redis(redis_server: RedisServer) -> set[str]:
    """What of this Redis needs action."""
    return {finding.check for finding in check_redis(redis_server.url) if finding.level == "action"}


@pytest.fixture
def log(redis_server: RedisServer) -> Iterator[EventLog]:
    """A log that was started."""
    event_log = EventLog(redis_server.url)
    event_log.start_epoch(1, event_log.raise_fence(0), 0)
    yield event_log
    event_log.close()


@pytest.mark.parametrize(
    ("setting", "bad", "good", "check"),
    [
        ("appendfsync", "everysec", "always", "redis fsync_not_always"),
        ("maxmemory-policy", "allkeys-lru", "volatile-lru", "redis log_evictable"),
        ("maxmemory", "1mb", "0", "redis memory"),
    ],
)
def test_settings_of_redis_that_lose_data_are_found(
    redis_server: RedisServer, log: EventLog, setting: str, bad: str, good: str, check: str
) -> None:
    """As the write service judges them, and memory that is nearly full."""
    assert found_in_redis(redis_server) == set(), log.status()
    with redis_server.client() as redis:
        redis.config_set(setting, bad)
        try:
            assert found_in_redis(redis_server) == {check}
        finally:
            redis.config_set(setting, good)


def test_a_log_that_takes_no_writes_is_found(redis_server: RedisServer, log: EventLog) -> None:
    """Halted, or not started; and a newest entry of a time that has not come."""
    log.halt("a test", 0)
    assert found_in_redis(redis_server) == {"log"}
    redis_server.flush()
    assert found_in_redis(redis_server) == {"log"}
    with redis_server.client() as redis:
        redis.hset(keys.META, mapping={"head": str(position_at(4_000_000_000_000)), "epoch": "1"})
    assert found_in_redis(redis_server) == {"clock"}


def test_who_holds_the_volume_is_told(tmp_path: Path) -> None:
    """An owner that does not answer yet holds it all the same; one that has left does not."""
    path = lock_path(tmp_path / "twitter.db", tmp_path)

    def lock() -> tuple[str, str]:
        (found,) = [each for each in check_volume(tmp_path, path) if each.check == "owner's lock"]
        return found.level, found.what

    assert lock()[0] == "action"
    held = VolumeLock(path)
    assert lock()[0] == "fine"
    assert "held by pid" in lock()[1]
    held.close()
    assert lock()[0] == "action"
    assert {each.check for each in check_volume(tmp_path, None)} == {"volume", "volume space"}


def test_keys_are_looked_at_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, too short, unfit, or for everybody to read."""
    monkeypatch.delenv("EMAIL_HASH_KEY", raising=False)
    auth, email = tmp_path / "auth_keys.json", tmp_path / "email_hash_key"

    def levels() -> dict[str, str]:
        found = list(check_keys(auth, email))
        assert "a secret" not in repr(found)
        return {each.check: each.level for each in found}

    assert levels() == {"e-mail key": "advice", "auth keys": "advice"}
    add_key(auth, 0)
    email.write_text("a secret of enough characters")
    email.chmod(0o600)
    assert levels() == {"e-mail key": "fine", "auth keys": "fine"}
    for path, check in ((auth, "auth keys"), (email, "e-mail key")):
        path.chmod(0o644)
        assert levels()[check] == "action"
        path.chmod(0o600)
    auth.write_text('{"keys": "a secret"')
    monkeypatch.setenv("EMAIL_HASH_KEY", "secret")
    assert levels() == {"e-mail key": "action", "auth keys": "action"}


def test_an_old_sqlite_is_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the fix of WAL files it is advice, as one process writes; without what we need it is an action."""
    environment = {"OWNER_URL": NOWHERE, "READ_SERVICE_URL": NOWHERE, "WRITE_SERVICE_URL": NOWHERE}
    environment["REDIS_URL"] = "redis://127.0.0.1:1"
    library = sqlite_library()
    for version, level in (((3, 40, 1), "advice"), ((3, 8, 0), "action")):
        monkeypatch.setattr(library, "sqlite_version_info", version)
        _, found = diagnose(environment, tmp_path)
        assert found["sqlite"]["level"] == level
