"""An HTTP connection that is kept open: httptools parses what comes, as it does for the servers.

A client library takes a millisecond or two of processor time for a request, which is as much as twenty tweets.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import httptools

READ_BYTES: Final = 64 * 1024
ANSWER_BYTES_MAX: Final = 2**20


class Unanswered(Exception):
    """No answer came that can be read."""


class KeepAlive:
    """A connection to the server of a URL, for one request at a time; it opens with the first one.

    After a failure or a cancellation it is closed, and the next request opens another one.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._is_encrypted = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._is_encrypted else 80)
        self._path = parts.path.rstrip("/")
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, target: str) -> tuple[int, bytes]:
        """The status and the body of what a GET is answered; the caller bounds how long. Raises Unanswered."""
        is_kept = self._streams is not None
        try:
            return await self._exchange(target)
        except Unanswered:
            if not is_kept:
                raise
        return await self._exchange(target)  # the server may have closed the one that was kept

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _exchange(self, target: str) -> tuple[int, bytes]:
        is_open = False
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port, ssl=self._is_encrypted or None)
            reader, writer = self._streams
            writer.write(f"GET {self._path}{target}{self._head}".encode())
            answer = await _read(reader)
            is_open = answer.may_another_follow
        except (OSError, httptools.HttpParserError) as error:
            raise Unanswered(repr(error)) from error
        finally:
            if not is_open:
                self.close()
        return answer.status, bytes(answer.body)


class _Answer:
    """What httptools finds, as it tells it."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()
        self.is_whole = False
        self.may_another_follow = False
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.may_another_follow = self.parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_whole = True


async def _read(reader: asyncio.StreamReader) -> _Answer:
    answer = _Answer()
    while not answer.is_whole:
        data = await reader.read(READ_BYTES)
        if not data:
            raise Unanswered("the connection was closed")
        answer.parser.feed_data(data)
        if len(answer.body) > ANSWER_BYTES_MAX:
            raise Unanswered(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    return answer
