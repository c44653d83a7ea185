"""Connections to Redis in the event loop that the services run in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.log.redis_url import connection_pool
from tests.support.redis_server import RedisServer


@pytest.mark.parametrize("socket_timeout", [None, 5.0])
def test_a_connection_that_closes_before_a_command_is_a_fault_of_redis(
    redis_server: RedisServer, socket_timeout: float | None
) -> None:
    """Redis was killed just then: nobody takes that for a bug, and the next command opens another connection."""

    async def ask() -> bytes:
        pool: Any = connection_pool(redis_server.url, ConnectionPool, socket_timeout=socket_timeout)
        connection = await pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0)  # the loop closes it
        with pytest.raises(RedisConnectionError, match="closed"):
            await connection.send_command("PING")
        await connection.send_command("PING")
        answer: bytes = await connection.read_response()
        await pool.disconnect()
        return answer

    assert uvloop.run(ask()) == b"PONG"
