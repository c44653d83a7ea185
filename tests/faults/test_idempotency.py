"""Idempotency-Key when something dies in between: one tweet, and the answer that it had or would have had."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
import pytest

from services.common.log.client import EventLog
from tests.support.faulty_network import Fault, FaultyNetwork
from tests.support.system import System
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(150)


def post_tweet(http: httpx.Client, body: Mapping[str, object], key: str) -> httpx.Response:
    """POST /tweets under a key."""
    return http.post("/tweets", json=body, headers={"Idempotency-Key": key})


def tweets_in(log: EventLog) -> list[int]:
    """The positions of all tweets that the log holds."""
    return [entry.position for entry in log.read(0, entries_max=100_000) if entry.name == "tweet_created"]


@pytest.mark.anyio
async def test_a_writer_is_killed_between_append_and_answer(fresh_system: System) -> None:
    """kill -9: the client heard nothing. The same request to another process is answered with what was done."""
    system = fresh_system
    ada = system.create_user("ada").json()["id"]
    system.wait_until_applied(ada)
    body = {"content": "once", "user_id": ada}
    async with FaultyNetwork(system.redis.port) as network:
        doomed = system.new_writer("doomed")
        doomed.environment["REDIS_URL"] = network.url
        doomed.start()
        await asyncio.to_thread(doomed.wait_ready)
        network.faults.extend([Fault.WITHHOLD_ANSWER] * 100)
        log = EventLog(system.redis.url)
        request = asyncio.create_task(asyncio.to_thread(post_tweet, doomed.http, body, "a-key"))
        await asyncio.to_thread(eventually, lambda: tweets_in(log))
        doomed.kill()
        with pytest.raises(httpx.TransportError):
            await request
        doomed.close()
    answers = [await asyncio.to_thread(post_tweet, system.write, body, "a-key") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert [answer.json()["id"] for answer in answers] == tweets_in(log) * 2
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["content"] == "once"
    assert answers[0].json()["user"]["username"] == "ada"
    log.close()


def test_redis_filled_up_and_evicted_all_it_may(fresh_system: System) -> None:
    """HAZARDS 3: what can be evicted is gone, and a retry is answered all the same, while it is full and after."""
    system = fresh_system
    ada = system.create_user("ada").json()["id"]
    body = {"content": "once", "user_id": ada}
    first = post_tweet(system.write, body, "a-key")
    log = EventLog(system.redis.url)
    system.redis.fill()
    again = post_tweet(system.write, body, "a-key")
    assert (again.status_code, again.json()) == (201, first.json())
    assert post_tweet(system.write, body, "other").json()["code"] == "log_full"
    system.redis.make_room()
    after = post_tweet(system.write, body, "a-key")
    assert (after.status_code, after.json()) == (201, first.json())
    assert tweets_in(log) == [first.json()["id"]]
    log.close()


def test_redis_was_emptied_and_recovered(fresh_system: System) -> None:
    """The next epoch answers as the one before; the tweet is there once, for readers too."""
    system = fresh_system
    ada = system.create_user("ada").json()["id"]
    body = {"content": "once", "user_id": ada}
    first = post_tweet(system.write, body, "a-key")
    system.wait_until_applied(first.json()["id"])
    system.redis.flush()
    log = EventLog(system.redis.url)
    eventually(lambda: log.status().epoch == 2, describe=log.status)
    answer = eventually(lambda: _unless_503(post_tweet(system.write, body, "a-key")))
    assert answer is not None
    assert (answer.status_code, answer.json()) == (201, first.json())
    mismatch = post_tweet(system.write, {**body, "content": "twice"}, "a-key")
    assert (mismatch.status_code, mismatch.json()["code"]) == (422, "idempotency_mismatch")
    system.wait_until_applied(log.head())
    listed = system.read.get(f"/users/{ada}/tweets").json()
    assert [tweet["id"] for tweet in listed] == [first.json()["id"]]
    assert tweets_in(log) == []
    log.close()


def _unless_503(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.status_code == 503 else answer
