"""A TCP proxy in front of a Redis that breaks exactly what a test tells it to break."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self

from tests.support.ports import HOST, free_port

APPEND: Final = b"EVALSHA"
CHUNK_BYTES: Final = 65_536


class Fault(Enum):
    """What happens to one append call."""

    LOSE_REQUEST = auto()
    """The connection is cut before the call reaches Redis."""
    LOSE_ANSWER = auto()
    """The call runs; the connection is cut when Redis has answered."""
    WITHHOLD_ANSWER = auto()
    """The call runs; its answer never arrives, and the connection stays open."""


class FaultyNetwork:
    """Forwards to ``127.0.0.1:port``, and meets each append call with the next of ``faults``, if there is one.

    Use as an async context manager, in the loop of what connects through it. ``appends`` counts the calls sent,
    ``on_append`` is called before each is forwarded.
    """

    def __init__(self, port: int) -> None:
        self._target_port = port
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.url = f"redis://{HOST}:{self._port}"
        self.faults: deque[Fault] = deque()
        self.appends = 0
        self.on_append: Callable[[], None] | None = None
        self._is_mute: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._accept, HOST, self._port)

    async def close(self) -> None:
        """Cut all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def mute_connections(self) -> None:
        """Let nothing through on the connections that there are now; they stay open."""
        self._is_mute |= self._connections

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):  # one side is gone, or close() said so
                await self._forward(reader, writer)
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _forward(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection(HOST, self._target_port)
        try:
            while request := await from_client.read(CHUNK_BYTES):
                if asyncio.current_task() in self._is_mute:
                    continue
                fault = self._fault_of(request)
                if fault is Fault.LOSE_REQUEST:
                    return
                to_redis.write(request)
                answer = await from_redis.read(CHUNK_BYTES)
                if fault is Fault.LOSE_ANSWER or not answer:
                    return
                if fault is Fault.WITHHOLD_ANSWER:
                    await from_client.read()  # until the client gives up
                    return
                to_client.write(answer)
        finally:
            to_redis.transport.abort()

    def _fault_of(self, request: bytes) -> Fault | None:
        if APPEND not in request:
            return None
        self.appends += 1
        if self.on_append is not None:
            self.on_append()
        return self.faults.popleft() if self.faults else None
