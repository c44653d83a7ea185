"""Reads of Redis over few connections: what is asked while others wait for their answers goes into one pipeline.

For reads that many make at once: redis-py's pool locks, times and counts each command, which takes longer than to send
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from services.common.log.redis_url import connection_to
from services.common.together import Asked, Together

ASK_SECONDS: Final = 0.3
CONNECTIONS: Final = 2
"""One pipeline is answered while the next one gathers, or one connection is silent."""
QUESTIONS_MAX: Final = 256

Command = tuple[str | int, ...]
Answers = list[Any]


class Pipelines:
    """For commands that only read: on a connection that turns out to be dead they are sent again, on a new one."""

    def __init__(self, connections: Sequence[AbstractConnection]) -> None:
        self._connections = connections
        self._together: Together[Sequence[Command], Answers] = Together(
            [partial(_exchange, connection) for connection in connections], QUESTIONS_MAX
        )

    def ask(self, *commands: Command) -> asyncio.Future[Answers]:
        """The answer to each command. Raises RedisError, and TimeoutError ASK_SECONDS after they were sent."""
        return self._together.ask(commands)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._together.aclose()
        for connection in self._connections:
            await connection.disconnect()


def pipelines_to(redis_url: str) -> Pipelines:
    """Pipelines over connections that are not open yet."""
    return Pipelines([connection_to(redis_url) for _ in range(CONNECTIONS)])


async def _exchange(connection: AbstractConnection, asked: Sequence[Asked[Sequence[Command], Answers]]) -> None:
    commands = [command for question, _ in asked for command in question]
    packed = b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # any number
    try:
        async with asyncio.timeout(ASK_SECONDS):
            answers = iter(await _answers(connection, packed, len(commands)))
    except BaseException:
        await connection.disconnect(nowait=True)  # nobody waits for what it still has to say
        raise
    for question, future in asked:
        found = list(islice(answers, len(question)))
        error = next((answer for answer in found if isinstance(answer, Exception)), None)
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(found)


async def _answers(connection: AbstractConnection, packed: bytes, count: int) -> Answers:
    if connection.is_connected:
        try:
            return await _sent(connection, packed, count)
        except RedisConnectionError:  # it may have ended while nobody asked
            await connection.disconnect(nowait=True)
    await connection.connect()  # type: ignore[no-untyped-call]  # not typed there
    return await _sent(connection, packed, count)


async def _sent(connection: AbstractConnection, packed: bytes, count: int) -> Answers:
    await connection.send_packed_command(packed, check_health=False)
    return [await _answer(connection) for _ in range(count)]


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:  # of one command; those behind it have answers of their own
        return error
