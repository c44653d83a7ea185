"""A small and fast HTTP/1.1 client that tells what was never sent from what was never answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

HEADERS_BYTES_MAX: Final = 2**16
TIMEOUT_SECONDS: Final = 4.0


class NotSent(Exception):
    """No byte of the request has left."""


class Unanswered(Exception):
    """The request was sent, at least in part, and no whole answer came."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, the headers by their name in lower case, and the body as JSON (None where it is empty)."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Connection:
    """One connection to a server, opened when it is needed, for one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send a request and wait for the answer. Raises NotSent or Unanswered."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                reader, writer = await self._open()
                try:
                    writer.write(self._encoded(method, path, headers, body))
                    return await self._answer(reader)
                except (OSError, EOFError, ValueError) as error:
                    raise Unanswered(repr(error)) from error
        except TimeoutError as error:
            raised = NotSent("no connection") if self._streams is None else Unanswered("no answer in time")
            self.close()
            raise raised from error
        except Unanswered:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            with suppress(RuntimeError):  # the loop is closing
                self._streams[1].transport.abort()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # the server has left while nobody asked
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(self._host, self._port, limit=HEADERS_BYTES_MAX)
            except OSError as error:
                raise NotSent(repr(error)) from error
        return self._streams

    def _encoded(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(first.split(" ", 2)[1]), headers, msgspec.json.decode(body) if body else None)
