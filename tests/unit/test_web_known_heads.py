"""A head that is known is not parsed again, and nobody can tell: the server's protocol, fed piece by piece."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import cache, partial
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from uvicorn import Config
from uvicorn.server import ServerState

from services.common.errors import ClientError, OutcomeUnknown
from services.common.web import RequestLimits
from services.common.web.app import Application
from services.common.web.hot import AnswerNow, Begin, Body, Finish, HotRoute, HotRoutes, RequestHeaders, WholeAnswer
from services.common.web.known_heads import KNOWN_HEAD_BYTES_MAX, KnownHeads
from services.common.web.protocol import Protocol
from tests.support.web_app import Settings, small_app

pytestmark = pytest.mark.anyio

HEAD = b"Host: x\r\nX-Request-Id: mine\r\nX-Note: a\r\n\r\n"
FIRST = b"GET /notes/1 HTTP/1.1\r\n" + HEAD
OTHER = b"GET /client HTTP/1.1\r\nHost: x\r\n\r\n"
LATER, LEFT, FAILING = 500, 501, 502
"""Notes that are read later, of which one is left to the framework and one cannot be read."""
REFUSED_AFTER = 60
"""Half a quota of 100 is admitted while Redis is away."""


def _answer(query: bytes, headers: RequestHeaders, note_id: int) -> tuple[WholeAnswer, int] | None:
    """What was asked for, as it was understood."""
    if query.startswith(b"left") or note_id >= LATER:
        return None
    body = b"%d %b %b" % (note_id, query, headers.get(b"x-note", b"-"))
    return WholeAnswer(200, b"content-length: %d\r\n" % len(body), body), 9


ROUTES: HotRoutes[AnswerNow] = HotRoutes("GET", HotRoute("/notes/{note_id}", _answer))


def post(body: bytes, line: bytes = b"POST /notes HTTP/1.1\r\n", *further: bytes) -> bytes:
    """A request with a body, as it is on the wire."""
    head = b"Host: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    return line + head + b"".join(further) + b"\r\n" + body


class Writes:
    """Hot writes that are under way until the test ends them; one that is empty is the framework's. Reads, too."""

    def __init__(self) -> None:
        self.under_way: list[Callable[[], None]] = []
        self.routes: HotRoutes[Begin] = HotRoutes(
            "POST", HotRoute("/notes", self._begin), HotRoute("/notes/{note_id}/star", self._begin)
        )

        self.waits: HotRoutes[Begin] = HotRoutes("GET", HotRoute("/notes/{note_id}", self._begin_read))

    def _begin_read(self, _: RequestHeaders, __: Body, note_id: int, finish: Finish) -> bool:
        if note_id == LEFT:
            return False
        answer = WholeAnswer(200, b"content-length: 3\r\n", b"%d" % note_id)
        self.under_way.append(partial(finish, OutcomeUnknown("cut") if note_id == FAILING else answer, 77))
        return True

    def _begin(self, headers: RequestHeaders, body: Body, note_id: int, finish: Finish) -> bool:
        if body == b"{}":
            return False
        if body == b"[]":
            raise ClientError(403, "no_lists", "No lists")
        written = b"%d %b %b" % (note_id, bytes(body), headers.get(b"x-note", b"-"))
        answer = WholeAnswer(201, b"content-length: %d\r\n" % len(written), written)
        self.under_way.append(partial(finish, OutcomeUnknown("cut") if body == b"13" else answer, 77))
        return True

    def end(self) -> bool:
        """End those that are under way; whether there were any."""
        ended, self.under_way = self.under_way, []
        for end in ended:
            end()
        return bool(ended)


class Wire(asyncio.Transport):
    """The other side of a connection."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80)})
        self.sent = b""
        self.unsent_bytes = 0
        self._is_reading = True
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
        self._is_reading = False

    def resume_reading(self) -> None:
        """The same."""
        self._is_reading = True

    def is_reading(self) -> bool:
        """Whether it would be."""
        return self._is_reading


class Connection:
    """A connection to a small app with hot routes, of which these are the writes."""

    def __init__(self, app: Application, writes: Writes | None = None) -> None:
        self.writes = writes or Writes()
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
            await self.settle()
        return self.answered(before)

    async def settle(self) -> None:
        """Let the framework answer what it can."""
        while self.state.tasks and not self.writes.under_way:
            await asyncio.wait(set(self.state.tasks), timeout=0.01)
            self.state.tasks.difference_update([task for task in self.state.tasks if task.done()])
            if self.protocol.cycle.more_body:
                break  # a task that waits for the rest of a body

    async def end_writes(self) -> None:
        """End those that are under way, and those that have waited for them."""
        while self.writes.end():
            await self.settle()

    def answered(self, after_byte: int = 0) -> bytes:
        """What has been sent, but for the ids of requests."""
        return re.sub(rb"x-request-id: [^\r]*\r\n", b"", self.wire.sent[after_byte:])

    async def close(self) -> None:
        """Let nothing be left."""
        self.protocol.connection_lost(None)
        for task in set(self.state.tasks):
            task.cancel()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)


async def writing(app: Application, data: bytes, writes: Writes | None = None) -> Connection:
    """A connection on which a write, whose head is known, has come last."""
    connection = Connection(app, writes)
    await connection.feed(OTHER)
    parsed = connection.protocol.cycle
    await connection.feed(data)
    assert connection.protocol.cycle is parsed
    return connection


async def met(writes: Writes, registry: CollectorRegistry | None = None, **settings: int) -> Application:
    """An app that has been sent a write before, over another connection."""
    app = small_app(hot=ROUTES, hot_writes=writes.routes, registry=registry, in_flight_max=settings.get("most", 2000))
    connection = Connection(app)
    await connection.feed(post(b"12"))
    writes.end()
    await connection.close()
    return app


def counted(registry: CollectorRegistry, route: str, status: int, method: str = "POST") -> float:
    """How many requests were answered so."""
    labels = {"route": route, "method": method, "status": str(status)}
    return registry.get_sample_value("http_requests_total", labels) or 0


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
    await connection.feed(OTHER)
    assert connection.protocol.awaits() not in [None, *awaited]
    await connection.close()


async def test_a_head_that_came_over_another_connection_is_known() -> None:
    """What bytes mean does not depend on who has sent them. The first request of a connection is always parsed."""
    app = small_app(hot=ROUTES)
    await (one := Connection(app)).feed(FIRST)
    other = Connection(app)
    await other.feed(OTHER)
    parsed = other.protocol.cycle
    assert (await other.feed(FIRST)).endswith(b"1  a")
    assert other.protocol.cycle is parsed
    for connection in (one, other):
        await connection.close()


async def test_a_known_write_is_answered_when_it_is_finished() -> None:
    """It is not parsed, and the server knows of it only when it asks; another path and body are served so, too."""
    writes, registry = Writes(), CollectorRegistry()
    connection = await writing(await met(writes, registry), post(b"34", b"POST /notes/7/star HTTP/1.1\r\n"))
    before = connection.answered()
    assert connection.protocol.awaits() is None
    writes.end()
    assert connection.answered()[len(before) :] == (
        b"HTTP/1.1 201 Created\r\ncontent-length: 6\r\nx-log-position: 77\r\n\r\n7 34 -"
    )
    assert counted(registry, "/notes/{note_id}/star", 201) == 1
    await connection.close()


async def test_a_known_read_that_has_to_wait_is_answered_when_it_is_finished() -> None:
    """Without the server's knowing, as a write; what comes behind it waits."""
    writes, registry = Writes(), CollectorRegistry()
    connection = Connection(small_app(hot=ROUTES, hot_waits=writes.waits, registry=registry), writes)
    await connection.feed(FIRST)
    parsed = connection.protocol.cycle
    later = FIRST.replace(b"/1 ", b"/%d " % LATER)
    assert await connection.feed(later) == b""
    assert connection.protocol.cycle is parsed
    sent_before = len(connection.wire.sent)
    await connection.end_writes()
    assert connection.answered(sent_before).startswith(b"HTTP/1.1 200 OK\r\n")
    assert connection.answered(sent_before).endswith(b"x-log-position: 77\r\n\r\n500")
    assert await connection.feed(later, FIRST) == b""
    await connection.end_writes()
    assert connection.answered().endswith(b"\r\n\r\n1  a")
    assert counted(registry, "/notes/{note_id}", 200, "GET") == 4
    await connection.close()


@pytest.mark.parametrize(("note_id", "status"), [(LEFT, 404), (FAILING, 503)])
async def test_a_known_read_that_is_left_or_fails_is_answered_as_any_other(note_id: int, status: int) -> None:
    """Counted once, by the framework's route."""
    writes, registry = Writes(), CollectorRegistry()
    connection = Connection(small_app(hot=ROUTES, hot_waits=writes.waits, registry=registry), writes)
    await connection.feed(FIRST)
    await connection.feed(FIRST.replace(b"/1 ", b"/%d " % note_id))
    await connection.end_writes()
    assert connection.answered().count(b"HTTP/1.1 ") == 2
    assert counted(registry, "/notes/{note_id}", status, "GET") == 1
    await connection.close()


async def test_what_comes_behind_a_known_write_is_answered_after_it() -> None:
    """A read that could be answered at once waits, and so does another write; nothing more is read meanwhile."""
    writes = Writes()
    connection = await writing(await met(writes), post(b"34"), writes)
    before = len(connection.wire.sent)
    assert await connection.feed(FIRST, post(b"56")) == b""
    assert not connection.wire.is_reading()
    await connection.end_writes()
    assert re.findall(rb"\r\n\r\n([^H]*)", connection.wire.sent[before:]) == [b"0 34 -", b"1  a", b"0 56 -"]
    assert connection.wire.is_reading()
    await connection.close()


@pytest.mark.parametrize(("body", "status"), [(b"34", 201), (b"13", 503)])
async def test_a_client_that_leaves_is_no_harm_to_her_known_write(body: bytes, status: int) -> None:
    """It is counted as what became of it, and nobody is written to."""
    writes, registry = Writes(), CollectorRegistry()
    connection = await writing(await met(writes, registry), post(body))
    before = connection.wire.sent
    connection.protocol.connection_lost(None)
    writes.end()
    await connection.settle()
    assert connection.wire.sent == before
    assert counted(registry, "/notes", status) == 1 + (status == 201)
    assert connection.state.connections == set()


async def test_a_stop_waits_for_a_known_write() -> None:
    """Its answer says that the connection closes, and then it does."""
    writes = Writes()
    connection = await writing(await met(writes), post(b"34"))
    connection.protocol.shutdown()
    assert not connection.wire.is_closing()
    writes.end()
    assert connection.wire.sent.endswith(b"\r\nconnection: close\r\n\r\n0 34 -")
    assert connection.wire.is_closing()
    await connection.close()


async def test_a_connection_with_a_known_write_is_not_idle() -> None:
    """The timer of an earlier request may ring meanwhile."""
    writes = Writes()
    connection = await writing(await met(writes), post(b"34"))
    connection.protocol.timeout_keep_alive_handler()
    assert not connection.wire.is_closing()
    writes.end()
    connection.protocol.timeout_keep_alive = 0
    connection.protocol.timeout_keep_alive_handler()
    assert connection.wire.is_closing()
    await connection.close()


@pytest.mark.parametrize("data", [FIRST, post(b"34")])
async def test_nothing_is_answered_while_the_client_takes_nothing(data: bytes) -> None:
    """What is known waits as all else does."""
    writes = Writes()
    app = await met(writes)
    connection = Connection(app, writes)
    await connection.feed(FIRST)
    before = len(connection.wire.sent)
    connection.protocol.pause_writing()
    connection.protocol.data_received(data)
    for _ in range(3):
        await asyncio.sleep(0)
    writes.end()
    assert connection.wire.sent[before:] == b""
    connection.protocol.resume_writing()
    await connection.settle()
    assert connection.wire.sent[before:].count(b"HTTP/1.1 20") == 1
    await connection.close()


async def test_a_client_that_does_not_take_the_answers_to_known_writes_is_a_slow_one() -> None:
    """As long as she sends no further one she has the same thing to do."""
    writes = Writes()
    connection = await writing(await met(writes), post(b"34"))
    writes.end()
    assert connection.protocol.awaits() is None
    connection.wire.unsent_bytes = 1
    awaited = connection.protocol.awaits()
    assert awaited is not None
    assert connection.protocol.awaits() is awaited
    await connection.close()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"13", 503, b"outcome_unknown"), (b"[]", 403, b"no_lists"), (b"{}", 422, b"validation_error")],
)
async def test_a_known_write_that_fails_is_answered_as_any_other(body: bytes, status: int, code: bytes) -> None:
    """At once, later, or by the framework, to which it is left: it is counted once, also against a limit."""
    writes, registry = Writes(), CollectorRegistry()
    own = Settings(address_requests_per_second=10, redis_url="redis://127.0.0.1:1")
    async with RequestLimits("small", own, registry, account=lambda _: None, now=lambda: 1000.0) as limits:
        connection = Connection(small_app(hot_writes=writes.routes, registry=registry, limits=limits), writes)
        for each in (b"12", body, b"34"):
            await connection.feed(post(each))
            await connection.end_writes()
        assert re.findall(rb";r=(\d+);", connection.wire.sent) == [b"99", b"98", b"97"]
        await connection.close()
    assert re.findall(rb"HTTP/1.1 (\d+) ", connection.wire.sent) == [b"201", b"%d" % status, b"201"]
    assert code in connection.wire.sent
    assert counted(registry, "/notes", status) == 1
    assert counted(registry, "/notes", 201) == 2


async def test_known_requests_above_what_may_be_under_way_are_shed() -> None:
    """Reads and writes; known writes under way count as such."""
    writes = Writes()
    app = await met(writes, most=1)
    second = Connection(app)
    await second.feed(FIRST)
    first = await writing(app, post(b"34"))
    for data in (FIRST, post(b"56")):
        assert (await second.feed(data)).startswith(b"HTTP/1.1 503 ")
    writes.end()
    assert first.wire.sent.endswith(b"0 34 -")
    await second.feed(post(b"78"))
    writes.end()
    assert second.wire.sent.endswith(b"0 78 -")
    for connection in (first, second):
        await connection.close()


REMEMBERED = [FIRST, post(b"12"), post(b"12", b"POST /notes/7/star HTTP/1.1\r\n")]
NOT_REMEMBERED = [
    FIRST.replace(b"HTTP/1.1", b"HTTP/1.0"),
    FIRST.replace(b"Host: x", b"Host:x"),
    FIRST.replace(b"Host: x", b"Connection: close"),
    FIRST.replace(b"Host: x", b"Expect: 100-continue"),
    FIRST.replace(b"Host: x", b"Transfer-Encoding: chunked"),
    FIRST.replace(b"Host: x", b"Upgrade: h2c"),
    FIRST.replace(b"Host: x", b"Content-Length: 0"),
    FIRST.replace(b"Host: x", b"X-Note: b"),
    FIRST.replace(b"Host: x", b"X-Long: " + b"x" * KNOWN_HEAD_BYTES_MAX),
    FIRST.replace(b"/1", b"/0"),
    b"\r\n" + FIRST,
    FIRST + b"\r\n",
    FIRST + FIRST,
    post(b"12").replace(b"Length: 2", b"Length: 02"),
    post(b"12").replace(b"application/json", b"text/json"),
    post(b"12", b"POST /notes HTTP/1.1\r\n", b"Content-Length: 2\r\n"),
    post(b"12", b"POST /notes HTTP/1.1\r\n", b"Connection: close\r\n"),
    post(b"12", b"POST /notes HTTP/1.1\r\n", b"Expect: 100-continue\r\n"),
    post(b"12", b"POST /notes HTTP/1.1\r\n", b"Upgrade: h2c\r\n"),
    post(b"12", b"POST /notes?q HTTP/1.1\r\n"),
    post(b"12", b"POST /client HTTP/1.1\r\n"),
    post(b"{}"),
    post(b"12")[:-1],
    post(b"12") + b"\r\n",
    post(b"12") + FIRST,
    post(b"12") + post(b"12"),
    post(b"").replace(b"Length: 0", b"Length: 2"),
    b"POST /notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n",
]


@pytest.mark.parametrize("data", REMEMBERED + NOT_REMEMBERED)
async def test_a_head_is_remembered_only_of_what_was_one_plain_request(data: bytes) -> None:
    """All that is odd, more or less than that is parsed each time."""
    writes = Writes()
    app = small_app(hot=ROUTES, hot_writes=writes.routes)
    connection = Connection(app, writes)
    await connection.feed(data)
    await connection.end_writes()
    assert (app.known_heads.find(data) is not None) == (data in REMEMBERED)
    await connection.close()


def remembering(data: bytes, parsed: bytes) -> KnownHeads:
    """What is known after one request was taken for another."""
    heads = KnownHeads()
    line, _, rest = parsed.partition(b"\r\n")
    head, _, body = rest.partition(b"\r\n\r\n")
    pairs = [pair.split(b": ") for pair in head.split(b"\r\n")]
    headers = [(name.lower(), value) for name, value in pairs]
    method, path, _ = line.split(b" ")
    heads.remember(data, {"method": method.decode(), "raw_path": path, "query_string": b"", "headers": headers}, body)
    return heads


@pytest.mark.parametrize("parsed", REMEMBERED)
def test_nothing_is_remembered_of_what_was_parsed_to_something_else(parsed: bytes) -> None:
    """Another line, other headers, another end, another length: whatever the reason, it is not certain."""
    assert remembering(parsed, parsed).find(parsed) is not None
    end = parsed.index(b"\r\n\r\n")
    for data in (
        parsed.replace(b"HTTP/1.1", b"HTTP/1.0"),
        parsed.replace(b"Host: x", b"Host: y"),
        parsed[:end] + b"\n\n\n\n" + parsed[end + 4 :],
        parsed + b"x",
        b"\r\n" + parsed,
    ):
        heads = remembering(data, parsed)
        assert heads.find(data) is None
        assert heads.find(parsed) is None


@pytest.mark.parametrize("data", REMEMBERED)
def test_nothing_but_a_whole_request_is_known(data: bytes) -> None:
    """Not its beginning, nor its end, nor one that goes on."""
    heads = remembering(data, data)
    line, _, rest = data.partition(b"\r\n")
    head, _, body = rest.partition(b"\r\n\r\n")
    headers = [(name.lower(), value) for name, _, value in (pair.partition(b": ") for pair in head.split(b"\r\n"))]
    headers = [header for header in headers if header[0] != b"content-length"]
    assert heads.find(data) == (line + b"\r\n", dict(headers), body if data.startswith(b"POST") else None)
    for cut in range(len(data)):
        assert heads.find(data[:cut]) is None
        assert cut < len(line) or heads.find(data[cut + 1 :]) is None
    assert heads.find(data + b"x") is None


def test_a_head_is_known_with_a_body_of_any_length() -> None:
    """That is the one line of it that a client changes; other ways to write a number are for the parser."""
    data = post(b"12")
    heads = remembering(data, data)
    for body in (b"", b"1", b"[1, 2, 3, 4, 5, 6]"):
        known = heads.find(post(body))
        assert known is not None
        assert known[2] == body
        assert known[1] == heads.find(data)[1]  # type: ignore[index]  # it was remembered
    for length in (b"02", b"+2", b" 2", b"3", b"1", b"", b"2, 2", b"2\r\nContent-Length: 2"):
        assert heads.find(data.replace(b"Length: 2", b"Length: " + length)) is None


def test_the_heads_that_are_known_are_bounded() -> None:
    """By the memory that they take; one that is used again and again is kept, whatever comes meanwhile."""
    heads = KnownHeads(100_000)

    def data_of(number: int) -> bytes:
        return b"GET /notes/1 HTTP/1.1\r\nX-Number: %05d\r\n\r\n" % number

    for number in range(2000):
        headers = [(b"x-number", b"%05d" % number)]
        scope = {"method": "GET", "raw_path": b"/notes/1", "query_string": b"", "headers": headers}
        heads.remember(data_of(number), scope, b"")
        assert heads.find(data_of(number)) is not None
        assert heads.find(data_of(0)) is not None
    known = [number for number in range(2000) if heads.find(data_of(number)) is not None]
    assert known[0] == 0
    assert known[1] > 1700
    assert len(known) > 50


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
        b"POST /notes/1 HTTP/1.1\r\n",
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
WRITTEN = st.sampled_from(
    [
        b"POST /notes HTTP/1.1\r\n",
        b"POST /notes HTTP/1.1\r\n",
        b"POST /notes/7/star HTTP/1.1\r\n",
        b"POST /notes/007/star HTTP/1.1\r\n",
        b"POST /notes/%37/star HTTP/1.1\r\n",
        b"POST /notes/0/star HTTP/1.1\r\n",
        b"POST /notes/{note_id}/star HTTP/1.1\r\n",
        b"POST /notes? HTTP/1.1\r\n",
        b"POST /notes?q HTTP/1.1\r\n",
        b"POST /client HTTP/1.1\r\n",
        b"POST /notes HTTP/1.0\r\n",
        b"GET /notes/1 HTTP/1.1\r\n",
        b"DELETE /notes HTTP/1.1\r\n",
    ]
)
BODIES = st.sampled_from([b"12", b"12", b"34", b"13", b"[]", b"{}", b"{", b"\xff\xff", b"", b'{"text":"a"}', FIRST])
FURTHER = st.sampled_from(
    [
        b"",
        b"",
        b"",
        b"X-Note: c\r\n",
        b"X-Note:\r\n c\r\n",
        b"Content-Length: 2\r\n",
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"Content-Type: text/plain\r\n",
    ]
)
POSTS = st.builds(post, BODIES, WRITTEN, FURTHER)
REQUESTS = st.one_of(POSTS, POSTS, st.tuples(LINES, HEADERS).map(b"".join))


@cache
def _app() -> tuple[Application, Writes]:
    writes = Writes()
    return small_app(hot=ROUTES, hot_writes=writes.routes), writes


LINE = b"GET /notes/1 HTTP/1.1\r\n"
NOTE = b"X-Note: a\r\n\r\n"
BODY = LINE + b"X-Note: b\r\n"
WITH_BODY = LINE + b"Content-Length: %d\r\n\r\n" % len(BODY)


FOLLOWED = LINE + b"Content-Length: %d\r\n\r\n" % len(FIRST)
UPGRADING = LINE + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"


async def _answers(pieces: Iterable[bytes], *, is_log_slow: bool) -> tuple[bytes, bool]:
    app, writes = _app()
    connection = Connection(app, writes)
    for piece in pieces:
        await connection.feed(piece)
        if not is_log_slow:
            await connection.end_writes()
    await connection.end_writes()
    is_closing = connection.wire.is_closing()
    await connection.close()
    return connection.answered(), is_closing


@given(
    requests=st.lists(REQUESTS, min_size=2, max_size=6),
    cuts=st.lists(st.integers(0, 900), max_size=2),
    is_one_by_one=st.booleans(),
    is_log_slow=st.booleans(),
)
@example(requests=[WITH_BODY, WITH_BODY], cuts=[], is_one_by_one=True, is_log_slow=False)
@example(requests=[WITH_BODY, BODY + FIRST, BODY + FIRST], cuts=[], is_one_by_one=True, is_log_slow=False)
@example(requests=[FIRST + b"GET /no", FIRST + b"GET /no"], cuts=[], is_one_by_one=True, is_log_slow=False)
@example(requests=[LINE[:7], LINE[7:] + NOTE, LINE + NOTE[7:]], cuts=[], is_one_by_one=True, is_log_slow=False)
@example(requests=[FIRST, b"GET /no", FIRST], cuts=[], is_one_by_one=True, is_log_slow=False)
@example(requests=[FIRST, FOLLOWED, FIRST, FIRST], cuts=[], is_one_by_one=True, is_log_slow=False)
@example(requests=[FIRST, UPGRADING, FIRST], cuts=[], is_one_by_one=True, is_log_slow=False)
@example(requests=[post(b"12"), post(b"34"), FIRST, post(b"56")], cuts=[], is_one_by_one=True, is_log_slow=True)
@example(requests=[post(b"12"), post(b"13"), post(b"{}"), FIRST], cuts=[], is_one_by_one=True, is_log_slow=False)
@settings(max_examples=300)
def test_whatever_is_sent_is_answered_as_if_each_head_were_parsed(
    requests: list[bytes], cuts: list[int], *, is_one_by_one: bool, is_log_slow: bool
) -> None:
    """In one piece or in several, with bodies that look like requests, and heads that are no HTTP."""
    pieces = requests
    if not is_one_by_one:
        stream = b"".join(requests)
        ends = sorted({*(cut % len(stream) for cut in cuts), len(stream)} - {0})
        pieces = [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    known = asyncio.run(_answers(pieces, is_log_slow=is_log_slow))
    with patch.object(KnownHeads, "find", return_value=None):
        parsed = asyncio.run(_answers(pieces, is_log_slow=is_log_slow))
    assert known == parsed
