"""A read service that answers what a test says, for tests of what asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec

from tests.support.ports import HOST, free_port


class StubReader:
    """Has the views in ``views``, by path, at ``position``; keeps silent while ``is_mute``.

    Use as an async context manager. ``requests`` are the paths of what it was asked about; ``questions`` counts how
    often it was asked.
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
        self.questions = 0
        self.connections_made = 0

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
        self.connections_made += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                asked = parse_qsl(urlsplit(head.split(b" ")[1].decode()).query)
                paths = [f"/{kind}/{item_id}" for kind, ids in asked for item_id in ids.split(",")]
                self.requests += paths
                self.questions += 1
                if not self.is_mute:
                    writer.write(self._answer(paths))
        except (asyncio.IncompleteReadError, OSError):
            writer.transport.abort()  # the client is done
        finally:
            self._connections.discard(writer)

    def _answer(self, paths: list[str]) -> bytes:
        shown = {path: self.views[path] for path in paths if path in self.views}
        users = {path.split("/")[2]: view for path, view in shown.items() if path.startswith("/users/")}
        authors = {path.split("/")[2]: view["user_id"] for path, view in shown.items() if path.startswith("/tweets/")}
        body = msgspec.json.encode({"position": self.position, "authors": authors, "users": users})
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
