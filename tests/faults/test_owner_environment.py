"""The owner waits out faults of Redis and of its disk, and goes on by itself: nothing is lost or applied twice."""

from __future__ import annotations

import errno
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from services.common.database import is_environment_fault, open_private_writer, purge
from services.common.log.append import AppendItem
from services.common.log.client import EventLog
from services.db_updater.applier import Step
from tests.support.limits import files_limited_to
from tests.support.owner import (
    Nonsense,
    append,
    archived,
    credentials,
    database_path,
    following,
    rebuilt_hashes,
    started,
    table_hashes,
    tweet,
    user,
)
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually

EVERYDAY_STEPS = [step for step in Step if step is not Step.EPOCH_STARTED and not step.startswith("recovery:")]


def test_redis_gone_and_back(tmp_path: Path, fresh_redis: RedisServer) -> None:
    """The owner waits, says so, and goes on by itself with what was appended before and after."""
    with closing(EventLog(fresh_redis.url)) as log, following(tmp_path, fresh_redis.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        fresh_redis.kill()
        owner.wait_until_refused("log_unavailable: Redis:")
        assert owner.metric("applying") == 0
        fresh_redis.start()
        (last,) = append(log, tweet(ada))
        owner.wait_until_applied(last)
        owner.wait_until_ready()
        assert owner.metric("applying") == 1
        assert owner.metric("applying_faults_total", reason="log_unavailable") == 1


def test_owner_starts_before_redis(tmp_path: Path, fresh_redis: RedisServer) -> None:
    """The order in which parts start does not matter."""
    fresh_redis.terminate()
    with following(tmp_path, fresh_redis.url) as owner:
        owner.wait_until_refused("log_unavailable")
        fresh_redis.start()
        owner.wait_until_ready()


def test_stalled_redis_is_a_fault_that_passes(tmp_path: Path, fresh_redis: RedisServer) -> None:
    """Connections stay open and nothing is answered: the owner gives up waiting and comes back."""
    with following(tmp_path, fresh_redis.url) as owner:
        owner.wait_until_ready()
        fresh_redis.pause()
        owner.wait_until_refused("log_unavailable")
        fresh_redis.resume()
        owner.wait_until_ready()


@pytest.mark.parametrize("failing_step", EVERYDAY_STEPS)
def test_fault_of_the_environment_passes(
    tmp_path: Path, redis_server: RedisServer, log: EventLog, failing_step: Step
) -> None:
    """A step that fails once, as a full disk would make it, is tried again: no entry is lost or applied twice."""
    ada, _ = started(tmp_path, log, redis_server)
    last = append(log, AppendItem(Nonsense()), user("bob"), tweet(ada))[-1]
    faults = [OSError(errno.ENOSPC, "No space left on device")]

    def fail_once(step: Step) -> None:
        if step is failing_step and faults:
            raise faults.pop()

    with following(tmp_path, redis_server.url, at=fail_once) as owner:
        owner.wait_until_applied(last)
        eventually(lambda: not faults and owner.owner.readiness() is None, describe=owner.owner.readiness)
        assert owner.volume.applied.entries == 6
        assert owner.metric("applying_faults_total", reason="volume_unavailable") == 1
    assert table_hashes(database_path(tmp_path)) == rebuilt_hashes(archived(tmp_path), tmp_path / "rebuilt.db")
    assert len(credentials(tmp_path)) == 2


def test_full_disk_is_waited_out(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """SQLite cannot write: the owner says so, rolls back, and applies everything once there is room again."""
    ada, _ = started(tmp_path, log, redis_server)
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        before = owner.owner.position
        with files_limited_to(128 * 1024):
            tweets = append(log, *(tweet(ada, "x" * 280) for _ in range(1000)))
            owner.wait_until_refused("volume_unavailable")
            assert owner.owner.position == before
        owner.wait_until_applied(tweets[-1])
        owner.wait_until_ready()
    assert table_hashes(database_path(tmp_path)) == rebuilt_hashes(archived(tmp_path), tmp_path / "rebuilt.db")


def test_a_full_disk_is_no_bug_where_a_pragma_meets_it(tmp_path: Path) -> None:
    """To cut the file of what is confidential down to what is kept is done outside of SQLAlchemy, and fails alike."""
    engine = open_private_writer(tmp_path / "twitter.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (bytes BLOB)")
        connection.exec_driver_sql("INSERT INTO kept VALUES (zeroblob(262144))")
    with files_limited_to(128 * 1024), pytest.raises(DBAPIError) as failed:
        purge(engine)
    assert is_environment_fault(failed.value)
    purge(engine)
    engine.dispose()
