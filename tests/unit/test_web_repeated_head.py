"""A head that is repeated is not parsed again, and nobody can tell: the server's protocol, fed piece by piece."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import cache
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from uvicorn import Config
from uvicorn.server import ServerState

from services.common.web import RequestLimits
from services.common.web import protocol as protocol_module
from services.common.web.app import Application
from services.common.web.hot import AnswerNow, HotRoute, HotRoutes, RequestHeaders, WholeAnswer
from services.common.web.protocol import Protocol
from tests.support.web_app import Settings, small_app

pytestmark = pytest.mark.anyio

HEAD = b"Host: x\r\nX-Request-Id: mine\r\nX-Note: a\r\n\r\n"
FIRST = b"GET /notes/1 HTTP/1.1\r\n" + HEAD
REFUSED_AFTER = 60
"""Half a quota of 100 is admitted while Redis is away."""


def _answer(query: bytes, headers: RequestHeaders, note_id: int) -> tuple[WholeAnswer, int] | None:
    """What was asked for, as it was understood."""
    if query.startswith(b"left"):
        return None
    body = b"%d %b %b" % (note_id, query, headers.get(b"x-note", b"-"))
    return WholeAnswer(200, b"content-length: %d\r\n" % len(body), body), 9


ROUTES: HotRoutes[AnswerNow] = HotRoutes("GET", HotRoute("/notes/{note_id}", _answer))


class Wire(asyncio.Transport):
    """The other side of a connection."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80)})
        self.sent = b""
        self.unsent_bytes = 0
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send at once."""
        self.sent += data

    def get_write_buffer_size(self) -> int:
        """What the client has not taken."""
        return self.unsent_bytes

    def close(self) -> None:
        """The server is done."""
        self._is_closing = True

    def is_closing(self) -> bool:
        """Whether it is."""
        return self._is_closing

    def pause_reading(self) -> None:
        """Nothing is read but what a test feeds."""

    def resume_reading(self) -> None:
        """The same."""


class Connection:
    """A connection to a small app with one hot route."""

    def __init__(self, app: Application) -> None:
        config = Config(app, http=Protocol, interface="asgi3", log_config=None, access_log=False, proxy_headers=False)
        config.load()
        self.state, self.wire = ServerState(), Wire()
        self.protocol = Protocol(config, self.state, {})
        self.protocol.connection_made(self.wire)

    async def feed(self, *pieces: bytes) -> bytes:
        """What is answered to these, but for the ids of requests."""
        before = len(self.wire.sent)
        for piece in pieces:
            if not self.wire.is_closing():
                self.protocol.data_received(piece)
            while self.state.tasks:
                await asyncio.wait(set(self.state.tasks), timeout=0.01)
                self.state.tasks.difference_update([task for task in self.state.tasks if task.done()])
                if self.protocol.cycle.more_body:
                    break  # a task that waits for the rest of a body
        return re.sub(rb"x-request-id: [^\r]*\r\n", b"", self.wire.sent[before:])

    async def close(self) -> None:
        """Let nothing be left."""
        self.protocol.connection_lost(None)
        for task in set(self.state.tasks):
            task.cancel()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)


async def test_a_head_that_is_repeated_is_not_parsed_again() -> None:
    """Nor is a request made of it; another note's is answered so, too."""
    connection = Connection(small_app(hot=ROUTES))
    await connection.feed(FIRST)
    parsed = connection.protocol.cycle
    answer = await connection.feed(FIRST.replace(b"/1 ", b"/23?q "))
    assert answer.endswith(b"\r\n\r\n23 q a")
    assert connection.protocol.cycle is parsed
    await connection.close()


async def test_repeated_requests_pass_what_every_request_passes() -> None:
    """Metrics, limits, ids: and one that is left to the framework after all counts once."""
    registry = CollectorRegistry()
    limits = RequestLimits(
        "small",
        Settings(address_requests_per_second=10, redis_url="redis://127.0.0.1:1"),
        registry,
        account=lambda _: None,
        now=lambda: 1000.0,
    )
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(limits)
        connection = Connection(small_app(hot=ROUTES, registry=registry, limits=limits))
        opened.push_async_callback(connection.close)
        targets = [b"1", b"1", b"1?left", b"1", b"1", b"1"]
        answers = [await connection.feed(FIRST.replace(b"/1 ", b"/%b " % target)) for target in targets]
        refused = [await connection.feed(FIRST) for _ in range(REFUSED_AFTER)][-1]
    assert [left for answer in answers for left in re.findall(rb";r=(\d+);", answer)] == [
        b"%d" % (99 - number) for number in range(len(targets))
    ]
    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"x-request-id: mine\r\n" in connection.wire.sent
    labels = {"route": "/notes/{note_id}", "method": "GET", "status": "200"}
    refusals = {"route": "unmatched", "method": "GET", "status": "429"}
    counted = [registry.get_sample_value("http_requests_total", each) or 0 for each in (labels, refusals)]
    assert sum(counted) == len(targets) + REFUSED_AFTER


async def test_a_connection_is_idle_from_its_last_request_on() -> None:
    """Also where that has repeated a head: the timer is that of an earlier one."""
    connection = Connection(small_app(hot=ROUTES))
    await connection.feed(FIRST, FIRST)
    connection.protocol.timeout_keep_alive_handler()
    assert not connection.wire.is_closing()
    connection.protocol.timeout_keep_alive = 0
    connection.protocol.timeout_keep_alive_handler()
    assert connection.wire.is_closing()
    await connection.close()


async def test_a_client_that_takes_its_answers_is_not_a_slow_one() -> None:
    """Each repeated request is another thing that it is to take."""
    connection = Connection(small_app(hot=ROUTES))
    await connection.feed(FIRST)
    connection.wire.unsent_bytes = 1
    awaited = []
    for _ in range(2):
        await connection.feed(bytes(bytearray(FIRST)))  # as read from a socket: never the same object
        awaited.append(connection.protocol.awaits())
        assert connection.protocol.awaits() is awaited[-1]
    assert awaited[0] is not awaited[1]
    await connection.close()


LINES = st.sampled_from(
    [
        b"GET /notes/1 HTTP/1.1\r\n",
        b"GET /notes/2 HTTP/1.1\r\n",
        b"GET /notes/1?q HTTP/1.1\r\n",
        b"GET /notes/1? HTTP/1.1\r\n",
        b"GET /notes/1?left HTTP/1.1\r\n",
        b"GET /notes/0 HTTP/1.1\r\n",
        b"GET /notes/%31 HTTP/1.1\r\n",
        b"GET /notes/1#f HTTP/1.1\r\n",
        b"GET /notes/1 HTTP/1.0\r\n",
        b"GET /notes/1  HTTP/1.1\r\n",
        b"GET /notes/1 HTTP/1.1\n",
        b"GET /notes/1 HTTP/1.1\r\nX-Note: b\r\n",
        b"GET http://x/notes/1 HTTP/1.1\r\n",
        b"HEAD /notes/1 HTTP/1.1\r\n",
        b"GET /healthz/live HTTP/1.1\r\n",
        b"\r\nGET /notes/1 HTTP/1.1\r\n",
    ]
)
HEADERS = st.sampled_from(
    [
        HEAD,
        HEAD,
        HEAD,
        b"Host: x\r\nX-Note: b\r\n\r\n",
        b"Host: x\r\n\r\n",
        b"\r\n",
        b"Host: x\r\nConnection: keep-alive\r\n\r\n",
        b"Host: x\r\nConnection: close\r\n\r\n",
        b"Host: x\r\nContent-Length: 2\r\n\r\n{}",
        b"Host: x\r\nContent-Length: %d\r\n\r\n%b" % (len(FIRST), FIRST),
        b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Host: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"Host: x\r\nX-Note:\r\n b\r\n\r\n",
        b"Host: x\nX-Note: b\n\n",
    ]
)
REQUESTS = st.tuples(LINES, HEADERS).map(b"".join)


@cache
def _app() -> Application:
    return small_app(hot=ROUTES)


LINE = b"GET /notes/1 HTTP/1.1\r\n"
NOTE = b"X-Note: a\r\n\r\n"
BODY = LINE + b"X-Note: b\r\n"
WITH_BODY = LINE + b"Content-Length: %d\r\n\r\n" % len(BODY)


async def _answers(pieces: Iterable[bytes]) -> tuple[bytes, bool]:
    connection = Connection(_app())
    answers = await connection.feed(*pieces)
    is_closing = connection.wire.is_closing()
    await connection.close()
    return answers, is_closing


@given(
    requests=st.lists(REQUESTS, min_size=2, max_size=5),
    cuts=st.lists(st.integers(0, 400), max_size=2),
    is_one_by_one=st.booleans(),
)
@example(requests=[WITH_BODY, WITH_BODY], cuts=[], is_one_by_one=True)
@example(requests=[WITH_BODY, BODY + FIRST, BODY + FIRST], cuts=[], is_one_by_one=True)
@example(requests=[FIRST + b"GET /no", FIRST + b"GET /no"], cuts=[], is_one_by_one=True)
@example(requests=[LINE[:7], LINE[7:] + NOTE, LINE + NOTE[7:]], cuts=[], is_one_by_one=True)
@settings(max_examples=150)
def test_whatever_is_sent_is_answered_as_if_each_head_were_parsed(
    requests: list[bytes], cuts: list[int], *, is_one_by_one: bool
) -> None:
    """In one piece or in several, with bodies that look like requests, and heads that are no HTTP."""
    pieces = requests
    if not is_one_by_one:
        stream = b"".join(requests)
        ends = sorted({*(cut % len(stream) for cut in cuts), len(stream)} - {0})
        pieces = [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    remembered = asyncio.run(_answers(pieces))
    with patch.object(protocol_module, "repeated_head", return_value=None):
        parsed = asyncio.run(_answers(pieces))
    assert remembered == parsed
