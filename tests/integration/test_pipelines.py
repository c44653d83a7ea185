"""Reads that are sent together: each has its own answer, whatever becomes of its neighbours and of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from services.common.log.pipelines import CONNECTIONS, Pipelines, pipelines_to
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pipelines(fresh_redis: RedisServer) -> AsyncIterator[Pipelines]:
    """To a server of their own, on which ``key`` is a word."""
    with fresh_redis.client() as client:
        client.set("key", "word")
    opened = pipelines_to(fresh_redis.url)
    yield opened
    await opened.aclose()


async def test_many_ask_over_few_connections(pipelines: Pipelines, fresh_redis: RedisServer) -> None:
    """Each gets the answers to its own commands, in order."""
    asked = [pipelines.ask(("ECHO", number), ("GET", "key"), ("ECHO", f"{number}!")) for number in range(500)]
    for number, answers in enumerate(await asyncio.gather(*asked)):
        assert answers == [b"%d" % number, b"word", b"%d!" % number]
    with fresh_redis.client() as client:
        assert client.info("clients")["connected_clients"] <= CONNECTIONS + 1


async def test_a_refused_command_fails_for_who_asked_it_only(pipelines: Pipelines) -> None:
    """Its neighbours in the pipeline are answered."""
    good, bad, other = (
        pipelines.ask(("GET", "key")),
        pipelines.ask(("HGET", "key", "x"), ("GET", "key")),
        pipelines.ask(("ECHO", 1)),
    )
    assert await good == [b"word"]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await bad
    assert await other == [b"1"]


async def test_a_connection_that_ended_while_nobody_asked_is_replaced(
    pipelines: Pipelines, fresh_redis: RedisServer
) -> None:
    """The first to ask then has an answer; while there is no server, an error."""
    assert await pipelines.ask(("GET", "key")) == [b"word"]
    fresh_redis.kill()
    with pytest.raises(RedisConnectionError):
        await pipelines.ask(("GET", "key"))
    fresh_redis.start()
    assert await pipelines.ask(("GET", "key")) == [b"word"]
    with fresh_redis.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert await pipelines.ask(("GET", "key")) == [b"word"]


async def test_a_late_answer_is_nobody_elses(pipelines: Pipelines, fresh_redis: RedisServer) -> None:
    """Who asks after a server was stalled does not get what those before waited for."""
    assert await pipelines.ask(("ECHO", "before")) == [b"before"]
    fresh_redis.pause()
    stalled = [pipelines.ask(("ECHO", "stalled")) for _ in range(3)]
    for each in stalled:
        with pytest.raises(TimeoutError):
            await each
    fresh_redis.resume()
    assert await asyncio.gather(*(pipelines.ask(("ECHO", n)) for n in "abc")) == [[b"a"], [b"b"], [b"c"]]
