"""HTTP as bytes, for requests that no client would send; every exchange shows whether both sides still agree."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from tests.support.ports import HOST

EXCHANGE_SECONDS_MAX: Final = 30
SENTINEL: Final = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: sentinel\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it arrived; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back for some bytes, and whether the next request on the connection got its own answer."""

    answers: list[Answer]
    goes_on: bool

    @property
    def statuses(self) -> list[int]:
        """Those of the answers before the sentinel's."""
        return [answer.status for answer in self.answers]


def request(method: bytes, target: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """The bytes of a request with these headers and no others but Host."""
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: x", *headers, b"", body])


def get(target: bytes, *headers: bytes) -> bytes:
    """A request for something."""
    return request(b"GET", target, *headers)


def exchange(port: int, request: bytes) -> Exchange:
    """Send a request, read its answer, then send another one on the same connection and read to the end.

    An answer that nobody asked for, or that another request should have had, shows before the sentinel's. No answer
    is one, too: the connection was closed. Fails when the server does neither.
    """
    answers: list[Answer] = []
    with (
        socket.create_connection((HOST, port), timeout=EXCHANGE_SECONDS_MAX) as connection,
        connection.makefile("rb") as stream,
        suppress(ConnectionError),
    ):
        with suppress(ConnectionError):  # refused while we were sending: there may be an answer all the same
            connection.sendall(request)
        answers += _read(stream)
        with suppress(ConnectionError):
            connection.sendall(SENTINEL)
        while answer := _read(stream):
            answers += answer
    goes_on = bool(answers) and answers[-1].headers.get("x-request-id") == "sentinel"
    return Exchange(answers[:-1] if goes_on else answers, goes_on)


def first_answer(port: int, request: bytes) -> Answer:
    """The answer to a request that need not be whole; the client leaves when it has it."""
    with (
        socket.create_connection((HOST, port), timeout=EXCHANGE_SECONDS_MAX) as connection,
        connection.makefile("rb") as stream,
    ):
        connection.sendall(request)
        (answer,) = _read(stream)
    return answer


def _read(stream: BinaryIO) -> list[Answer]:
    """The next answer, none at the end of the connection, or where what comes is no HTTP/1 (but HTTP/0.9)."""
    line = stream.readline()
    if not line.startswith(b"HTTP/1.1 "):
        return []
    status = int(line.split()[1])
    headers = {}
    while (field := stream.readline().strip()) != b"":
        name, _, value = field.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if status == 100:
        return _read(stream)
    return [Answer(status, headers, stream.read(int(headers.get("content-length", 0))))]
