"""A TCP proxy in front of a Redis that breaks exactly what a test tells it to break."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
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


class _Cut(Exception):
    """The connection ends here."""


@dataclass(slots=True)
class _Link:
    """What happens to the answers of one connection from now on."""

    fault: Fault | None = None
    is_mute: bool = False


class FaultyNetwork:
    """Forwards to ``127.0.0.1:port``, and meets each append call with the next of ``faults``, if there is one.

    Use as an async context manager. ``appends`` counts the calls sent, ``on_append`` is called before each is
    forwarded, and every piece of an answer is passed on as ``on_answer`` returns it.
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
        self.on_answer: Callable[[bytes], bytes] | None = None
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
        link = _Link()
        try:
            async with asyncio.TaskGroup() as directions:
                answers = directions.create_task(self._pass_answers(from_redis, to_client, link))
                await self._pass_requests(from_client, to_redis, link)
                answers.cancel()
        except* (_Cut, OSError):  # here, or either side, has ended it
            pass
        finally:
            to_redis.transport.abort()

    async def _pass_requests(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, link: _Link) -> None:
        connection = asyncio.current_task()
        while request := await source.read(CHUNK_BYTES):
            if connection in self._is_mute:
                link.is_mute = True
                continue
            link.fault = self._fault_of(request) or link.fault
            if link.fault is Fault.LOSE_REQUEST:
                return
            target.write(request)
            await target.drain()

    async def _pass_answers(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, link: _Link) -> None:
        while answer := await source.read(CHUNK_BYTES):
            if link.fault is Fault.LOSE_ANSWER:
                raise _Cut
            if link.fault is Fault.WITHHOLD_ANSWER or link.is_mute:
                continue
            target.write(answer if self.on_answer is None else self.on_answer(answer))
            await target.drain()
        raise _Cut

    def _fault_of(self, request: bytes) -> Fault | None:
        if APPEND not in request:
            return None
        self.appends += 1
        if self.on_append is not None:
            self.on_append()
        return self.faults.popleft() if self.faults else None
