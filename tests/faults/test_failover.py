"""Redis with a replica and a Sentinel, for real: what was acknowledged outlives the server that acknowledged it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from services.common.log.client import EventLog
from tests.integration.test_write_service import ADA, entries, start, write_service
from tests.support.databases import USES_POSTGRESQL
from tests.support.owner import archived, rebuilt_hashes, reported, table_hashes
from tests.support.redis_server import RedisServer
from tests.support.replication import Replica, ReplicatedSystem
from tests.support.wait import eventually

pytestmark = [pytest.mark.timeout(150), pytest.mark.skipif(USES_POSTGRESQL, reason="the same with any database")]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ReplicatedSystem]:
    """Redis with a replica, and the services that find it through a Sentinel."""
    with ReplicatedSystem(tmp_path) as running:
        yield running


def created(system: ReplicatedSystem, user_id: int) -> int:
    """A new tweet's id, 0 while nothing can be written."""
    answer = system.write.post("/tweets", json={"user_id": user_id, "content": "after"})
    return int(answer.json()["id"]) if answer.status_code == httpx.codes.CREATED else 0


def test_what_was_acknowledged_is_kept_over_a_failover(system: ReplicatedSystem) -> None:
    """Only Redis had it, and the master's file is gone: the replica has it all, so nothing had to be recovered."""
    ada = system.create_user("ada").json()["id"]
    system.wait_until_applied(ada)
    system.owner.pause()
    tweets = [system.create_tweet(ada, f"tweet {number}").json()["id"] for number in range(10)]
    system.fail_over()
    system.owner.resume()
    after = eventually(lambda: created(system, ada))
    system.wait_until_applied(after)
    assert all(system.read.get(f"/tweets/{id_}").status_code == httpx.codes.OK for id_ in (*tweets, after))
    assert not reported(system.owner_directory)
    assert system.owner.http.get("/internal/position").json()["epoch"] == 1


def test_failover_to_a_replica_that_lags_is_found_and_reported(system: ReplicatedSystem, tmp_path: Path) -> None:
    """HAZARDS 16. Nobody was told that it was written; who has seen it all the same says so: an epoch settles it."""
    ada = system.create_user("ada").json()["id"]
    kept = system.create_tweet(ada, "on both").json()["id"]
    system.wait_until_applied(kept)
    system.owner.pause()
    with system.redis.client() as redis:  # who waits for entries is gone: what the owner waits for would be sent to it
        for waiting in [one["id"] for one in redis.client_list() if one["cmd"] == "xread"]:
            redis.client_kill_filter(_id=waiting)
    system.replica.lag(system.redis)
    refused = system.write.post("/tweets", json={"user_id": ada, "content": "on one"})
    assert (refused.status_code, refused.json()["code"]) == (503, "outcome_unknown")
    assert "it is in the log, " in system.writers[0].log
    with closing(EventLog(system.redis.url)) as log:
        lost = log.head()
    eventually(lambda: int(system.read.get("/").headers["X-Log-Position"]) == lost > kept)
    system.fail_over()
    system.owner.resume()

    after = eventually(lambda: created(system, ada))
    assert after > lost
    system.wait_until_applied(after)
    (summary,) = reported(system.owner_directory)
    assert summary == system.owner.http.get("/internal/position").json()["last_recovery"]
    assert (summary["base_position"], summary["log_head"], summary["reported_position"]) == (kept, kept, lost)
    assert "recoveries_total 1.0" in system.owner.metrics()
    statuses = {id_: system.read.get(f"/tweets/{id_}").status_code for id_ in (kept, lost, after)}
    assert [id_ for id_, status in statuses.items() if status == httpx.codes.OK] == [kept, after]
    hashes = table_hashes(system.database)
    assert hashes == rebuilt_hashes(archived(system.owner_directory), tmp_path / "rebuilt.db")


@pytest.mark.anyio
async def test_an_answer_known_before_is_not_given_before_the_replica_has_it(
    fresh_redis: RedisServer, tmp_path: Path
) -> None:
    """A repetition writes nothing by itself, and may be about an entry that only the master has."""
    replica = Replica(tmp_path / "replica")
    replica.follow(fresh_redis)
    with closing(EventLog(fresh_redis.url)) as log, closing(replica):
        start(log)
        replica.start()
        replica.wait_until_in_sync(fresh_redis)
        async with write_service(fresh_redis.url, LOG_REPLICAS_MIN=1) as write:
            headers = {"Idempotency-Key": "once"}
            replica.pause()
            for _ in range(2):
                answer = await write.post("/users", json=ADA, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
            assert len(entries(log)) == 1
            replica.resume()
            answer = await write.post("/users", json=ADA, headers=headers)
            while answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                answer = await write.post("/users", json=ADA, headers=headers)
            assert answer.status_code == httpx.codes.CREATED
            assert (log.head(), len(entries(log))) == (answer.json()["id"], 1)
