"""Reads go on when Redis or the owner is down, say how old they are, and recover without a restart."""

from __future__ import annotations

import time

import httpx

from services.common.log.client import EventLog
from tests.support.system import System
from tests.support.wait import PROMPT_SECONDS, eventually


def stale_seconds(system: System) -> int | None:
    """What a reader says of the age of its answers."""
    text = system.read.get("/").headers.get("X-Stale-Seconds")
    return None if text is None else int(text)


def test_reads_go_on_without_redis_and_say_how_old_they_are(fresh_system: System) -> None:
    """What is applied is served, marked; what might be newer is a 503 within a second; then all is as before."""
    ada = fresh_system.create_user("ada").json()["id"]
    tweet = fresh_system.create_tweet(ada, "hello").json()["id"]
    fresh_system.wait_until_applied(tweet)
    assert stale_seconds(fresh_system) is None
    fresh_system.redis.kill()

    assert (eventually(lambda: stale_seconds(fresh_system)) or 0) >= 2
    assert fresh_system.read.get(f"/tweets/{tweet}").json()["content"] == "hello"
    assert fresh_system.read.get(f"/users/{ada}/home").json()[0]["id"] == tweet
    assert fresh_system.read.get(f"/tweets/{tweet - 1}").status_code == httpx.codes.NOT_FOUND
    started_at = time.monotonic()
    unknown = fresh_system.read.get(f"/tweets/{tweet + 1}")
    assert time.monotonic() - started_at < PROMPT_SECONDS
    assert (unknown.status_code, unknown.json()["code"]) == (503, "log_unavailable")
    assert "Retry-After" in unknown.headers
    assert fresh_system.readers[0].is_ready

    fresh_system.redis.start()
    eventually(lambda: stale_seconds(fresh_system) is None)
    again = eventually(lambda: _created(fresh_system, ada), 20) or 0
    fresh_system.wait_until_applied(again)
    assert fresh_system.read.get(f"/tweets/{again}").status_code == httpx.codes.OK


def test_reads_stay_fresh_without_the_owner_and_a_new_reader_waits_for_it(fresh_system: System) -> None:
    """The owner is needed to start a reader, not to run one."""
    ada = fresh_system.create_user("ada").json()["id"]
    fresh_system.owner.kill()
    tweet = fresh_system.create_tweet(ada, "while the owner is down").json()["id"]
    read = fresh_system.read.get(f"/tweets/{tweet}", headers={"X-Min-Position": str(tweet)})
    assert read.json()["content"] == "while the owner is down"

    late = fresh_system.new_reader("late")
    late.start()
    try:
        eventually(lambda: "follower_waits" in late.log and '"listening"' in late.log, 20, lambda: late.log_tail)
        assert not late.is_ready
        starting = late.http.get(f"/tweets/{tweet}")
        assert (starting.status_code, starting.json()["code"]) == (503, "starting")
        fresh_system.owner.start()
        late.wait_ready()
        read = late.http.get(f"/tweets/{tweet}", headers={"X-Min-Position": str(tweet)})
        assert read.json()["content"] == "while the owner is down"
    finally:
        late.close()


def test_a_reader_that_slept_past_the_horizon_takes_a_snapshot(fresh_system: System) -> None:
    """It is stalled while others write and the log is trimmed; when it wakes it misses nothing."""
    ada = fresh_system.create_user("ada").json()["id"]
    fresh_system.wait_until_applied(ada)
    reader = fresh_system.readers[0]
    reader.pause()
    missed = [fresh_system.create_tweet(ada, "missed").json()["id"] for _ in range(3)]
    log = EventLog(fresh_system.redis.url)
    eventually(lambda: fresh_system.owner.http.get("/internal/position").json()["position"] >= missed[-1])
    log.trim(missed[1], fence=log.status().fence)
    log.close()
    reader.resume()
    fresh_system.wait_until_applied(missed[-1])
    read = fresh_system.read.get(f"/users/{ada}/tweets", headers={"X-Min-Position": str(missed[-1])})
    assert [tweet["id"] for tweet in read.json()] == missed[::-1]
    assert "snapshots_taken_total 2.0" in reader.metrics()


def test_a_reader_leaves_as_it_is_told_and_takes_its_files_along(fresh_system: System) -> None:
    """SIGTERM: exit code 0, and nothing but the lock stays in REPLICA_DIR."""
    reader = fresh_system.readers[0]
    assert reader.terminate() == 0
    assert [path.name for path in (reader.directory / "replica").iterdir()] == ["lock"]


def _created(system: System, user_id: int) -> int | None:
    """A new tweet's id, None while nothing can be written."""
    answer = system.write.post("/tweets", json={"user_id": user_id, "content": "after"})
    return int(answer.json()["id"]) if answer.status_code == httpx.codes.CREATED else None
