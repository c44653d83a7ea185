"""A read service that answers what a test says, for tests of what asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from tests.support.ports import HOST, free_port

_CODES: Final = {"tweets": "tweet_not_found", "users": "user_not_found"}


class StubReader:
    """Has the views in ``views``, by path, at ``position``; keeps silent while ``is_mute``.

    Use as an async context manager. ``requests`` are the paths that it was asked for.
    """

    def __init__(self) -> None:
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.url = f"http://{HOST}:{self._port}"
        self.views: dict[str, Mapping[str, Any]] = {}
        self.position = 0
        self.is_mute = False
        self.requests: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1].decode()
                self.requests.append(path)
                if not self.is_mute:
                    writer.write(self._answer(path))
        except (asyncio.IncompleteReadError, OSError):
            writer.transport.abort()  # the client is done
        finally:
            self._connections.discard(writer)

    def _answer(self, path: str) -> bytes:
        view = self.views.get(path)
        status = b"404 Not Found" if view is None else b"200 OK"
        body = msgspec.json.encode(
            {"detail": "Not found", "code": _CODES[path.split("/")[1]]} if view is None else view
        )
        return b"HTTP/1.1 %s\r\nX-Log-Position: %d\r\nContent-Length: %d\r\n\r\n%s" % (
            status,
            self.position,
            len(body),
            body,
        )
