"""Hot routes: answered without the framework, which takes several times as long for a request as all else.

They stay declared in FastAPI, which answers whatever a hot route leaves to it: what is unusual, malformed or refused,
and reads that have to wait. A test holds the answers of both together (ADR 25).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar

from starlette.types import Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from services.common.ids import POSITION_MAX

_DIGITS_MAX: Final = len(str(POSITION_MAX))
_LINE: Final = rb"%%s (/[a-z]+/)([0-9]{1,%d})(/[a-z]+)?(?:\?([!-~]*))? HTTP/1\.1\r\n" % _DIGITS_MAX
"""The first line of a request for an item, of a method."""

Header = tuple[bytes, bytes]
RequestHeaders = Mapping[bytes, bytes]


class WholeAnswer(NamedTuple):
    """An answer as it is made once. ``head`` are the lines of its headers, each with its CRLF."""

    status: int
    head: bytes
    body: bytes


AnswerNow = Callable[[bytes, RequestHeaders, int], tuple[WholeAnswer, int] | None]
"""Answers a query string and headers for an id, at a position, if that is faster than the framework; else None."""

Completed = tuple[WholeAnswer, bytes]
"""An answer and the further lines of its head that it has this time."""

Body = bytes | bytearray

Answered = WholeAnswer | Exception

Finish = Callable[[Answered, int], None]
"""Called once, later: with an answer and the position that it is about, or with what a route would have raised."""

Respond = Callable[[Completed | None], None]
"""Called once, later: with an answer to write, or with None for a request that is to be served as any other is."""

Begin = Callable[[RequestHeaders, Body, int, Finish], bool]
"""Begins to serve a body for an id, and raises as a route may; False, with nothing done, leaves it to the framework."""

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class HotRoute(Generic[A]):
    """A route as FastAPI declares it: the second part of its ``path`` is an id, or there is none."""

    path: str
    answer: A


Beginning = tuple[HotRoute[Begin], int, str]
"""What a hot request that is answered later asks for: the route, the id in its path, the method."""


class HotRoutes(Generic[A]):
    """Finds the hot route of a request by the parts of its path around the id."""

    def __init__(self, method: str, *routes: HotRoute[A]) -> None:
        self.method = method
        self._routes = {_around_id(route.path.split("/")): route for route in routes}
        self._line = re.compile(_LINE % method.encode())
        self._around_ids = {_ends_around_id(route.path): route for route in routes}
        self._lines_without_id = {
            f"{method} {route.path} HTTP/1.1\r\n".encode(): (route, 0, b"") for route in routes if "{" not in route.path
        }

    def find(self, scope: Scope) -> tuple[HotRoute[A], int] | None:
        """The hot route, and the id in its path or 0; None where there is none, or the id is no plain number."""
        if scope["method"] != self.method:
            return None
        parts = scope["path"].split("/")
        route = self._routes.get(_around_id(parts))
        if route is None:
            return None
        item_id = plain_number(parts[2].encode(), 1, POSITION_MAX) if len(parts) > 2 else 0
        return None if item_id is None else (route, item_id)

    def find_in(self, line: bytes) -> tuple[HotRoute[A], int, bytes] | None:
        """The same and the query string, from the first line of a request as it came; None also for odd lines."""
        without_id = self._lines_without_id.get(line)
        if without_id is not None:
            return without_id
        matched = self._line.fullmatch(line)
        if matched is None:
            return None
        before, digits, after, query = matched.groups(b"")
        route, item_id = self._around_ids.get((before, after)), int(digits)
        return (route, item_id, query) if route is not None and 1 <= item_id <= POSITION_MAX else None


def _ends_around_id(path: str) -> tuple[bytes, bytes]:
    before, _, rest = path.encode().partition(b"{")
    return before, rest.partition(b"}")[2]


def _around_id(parts: list[str]) -> tuple[object, ...]:
    return len(parts), *parts[1:2], *parts[3:]


def plain_number(digits: bytes, least: int, greatest: int) -> int | None:
    """A number written in nothing but a few digits, if it lies in these bounds; all else is for the framework."""
    if not digits.isdigit() or len(digits) > _DIGITS_MAX:
        return None
    number = int(digits)
    return number if least <= number <= greatest else None


def headers_of(head: bytes) -> list[Header]:
    """The headers that these lines are, one by one."""
    lines = head.split(b"\r\n")[:-1]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def head_of(headers: Iterable[Header]) -> bytes:
    """Headers as the lines that they are sent as."""
    return b"".join([b"%s: %s\r\n" % header for header in headers])


async def send_whole(send: Send, completed: Completed) -> None:
    """Send an answer as the two messages of ASGI, or where this is the server's own ``send`` as it would."""
    cycle = getattr(send, "__self__", None)
    if isinstance(cycle, RequestResponseCycle) and not cycle.flow.write_paused and not cycle.disconnected:
        write_whole(cycle, completed)
        return
    (status, head, body), lines = completed
    await send({"type": "http.response.start", "status": status, "headers": headers_of(head + lines)})
    await send({"type": "http.response.body", "body": body})


def write_whole(cycle: RequestResponseCycle, completed: Completed) -> None:
    """What the server does with those two, at once: it would look at each header, and write twice."""
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(
        as_sent(completed, cycle.default_headers, b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
    )
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def as_sent(completed: Completed, server_headers: Sequence[Header], closing: bytes = b"\r\n") -> bytes:
    """An answer as it goes over the wire; ``closing`` are the last lines of its head."""
    (status, head, body), lines = completed
    return b"".join((STATUS_LINE[status], _lines_of(*server_headers), head, lines, closing, body))


@lru_cache(4)
def _lines_of(*headers: Header) -> bytes:
    """The headers of the server itself, which change once a second."""
    return head_of(headers)
