"""A generator that sends at a given rate whether or not it was answered, and so says how long clients wait.

A request has a time at which it is due, by the rate alone; its latency counts from then. If the server stalls, those
that were due meanwhile have waited, and say so (no coordinated omission): each is sent over the next connection that is
free. A timer of the kernel wakes the event loop, whose own clock knows milliseconds only.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import struct
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

from bench import usage

_TICK_SECONDS: Final = 0.0002
_LAST_ANSWERS_SECONDS: Final = 10.0
_MONOTONIC: Final = 1
_NONBLOCK: Final = os.O_NONBLOCK

Answered = Callable[["Answer"], "Request | None"]


@dataclass(slots=True)
class Answer:
    """What came back, and when (time.perf_counter)."""

    status: int
    body: bytes
    at: float


@dataclass(slots=True)
class Request:
    """A request of a kind: ``url`` is the server, ``message`` all bytes of the request.

    It is repeated at once until ``is_done``, which without a word of its own is true of the first answer that is 2xx,
    and a failure otherwise. ``then`` may ask on: that latency is counted from the same moment, under its own kind.
    """

    kind: str
    url: str
    message: bytes
    is_done: Callable[[Answer], bool] | None = None
    then: Answered | None = None
    due_at: float = 0.0


@dataclass(slots=True)
class Outcome:
    """Latencies in ms by kind, unsorted; how many were not answered with 2xx; the generator's share of its core."""

    latencies_ms: dict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    failed: int = 0
    seconds: float = 0.0
    generator_cpu: float = 0.0

    def percentile(self, kind: str, percent: float) -> float:
        """A percentile of a kind's latencies in ms. Raises ValueError where none of it was answered."""
        ordered = sorted(self.latencies_ms[kind])
        if not ordered:
            raise ValueError(f"nothing of the kind {kind} was answered")
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 3)

    def summary(self, kind: str) -> dict[str, float]:
        """The percentiles that are shown, in ms, and how many there were."""
        shown = {f"p{percent:g}": self.percentile(kind, percent) for percent in (50, 90, 99, 99.9)}
        return {**shown, "requests": len(self.latencies_ms[kind])}


def get(url: str, path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode()


def post(url: str, path: str, body: bytes, token: str) -> bytes:
    """The bytes of a POST of JSON by a token's holder."""
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def run(requests: Iterator[Request], *, rate: float, seconds: float, connections: int = 64) -> Outcome:
    """Send ``rate`` requests a second; the first fifth of the time is not counted."""
    gc.collect()
    gc.disable()  # a pause of ours would be taken for one of the server
    try:
        return uvloop.run(_Generator(requests, rate, connections).run(seconds))
    finally:
        gc.enable()


class _Generator:
    def __init__(self, requests: Iterator[Request], rate: float, connections: int) -> None:
        self._requests = requests
        self._interval = 1 / rate
        self._connections = connections
        self._idle: dict[str, deque[_Connection]] = {}
        self._waiting: dict[str, deque[Request]] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._counts_from = 0.0
        self._next_at = 0.0
        self._is_over = asyncio.Event()
        self._is_ending = False
        self.outcome = Outcome()

    async def run(self, seconds: float) -> Outcome:
        """Send for so long, and wait for the last answers."""
        began_at = self._next_at = time.perf_counter()
        self._counts_from = began_at + seconds / 5
        cpu_before = usage.cpu_seconds(os.getpid())
        with _ticks(self._send_what_is_due):
            await asyncio.sleep(seconds)
        self._is_ending = True
        self.outcome.seconds = seconds * 4 / 5
        self.outcome.generator_cpu = round((usage.cpu_seconds(os.getpid()) - cpu_before) / seconds, 2)
        if self._under_way:
            await asyncio.wait({asyncio.create_task(self._is_over.wait())}, timeout=_LAST_ANSWERS_SECONDS)
        self.outcome.failed += self._under_way
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        return self.outcome

    def _send_what_is_due(self) -> None:
        now = time.perf_counter()
        while self._next_at <= now:
            request = next(self._requests)
            request.due_at = self._next_at
            self._next_at += self._interval
            self._under_way += 1
            self._send(request)

    def _send(self, request: Request) -> None:
        idle = self._idle.get(request.url)
        if idle is None:
            self._open(request.url)
            idle = self._idle[request.url]
        if idle:
            idle.popleft().send(request)
        else:
            self._waiting[request.url].append(request)

    def _open(self, url: str) -> None:
        self._idle[url], self._waiting[url] = deque(), deque()
        for _ in range(self._connections):
            task = asyncio.create_task(self._connect(url))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self, url: str) -> None:
        address = urlsplit(url)
        loop = asyncio.get_running_loop()
        host, port = address.hostname or "", address.port or 80
        _, connection = await loop.create_connection(lambda: _Connection(self._answered), host, port)
        self._free(url, connection)

    def _answered(self, connection: _Connection, request: Request, answer: Answer) -> None:
        self._free(request.url, connection)
        if request.is_done is not None and not request.is_done(answer):
            if answer.at - request.due_at < _LAST_ANSWERS_SECONDS:
                self._send(request)
                return
            answer.status = 0
        is_good = 200 <= answer.status < 300
        if not is_good:
            self.outcome.failed += 1
        elif request.due_at >= self._counts_from:
            self.outcome.latencies_ms[request.kind].append((answer.at - request.due_at) * 1000)
        following = request.then(answer) if is_good and request.then is not None else None
        if following is not None:
            following.due_at = request.due_at
            self._send(following)
            return
        self._under_way -= 1
        if self._is_ending and not self._under_way:
            self._is_over.set()

    def _free(self, url: str, connection: _Connection) -> None:
        waiting = self._waiting[url]
        if waiting:
            connection.send(waiting.popleft())
        else:
            self._idle[url].append(connection)


class _Connection(asyncio.Protocol):
    """One request at a time over one connection. An answer needs a Content-Length, as all of ours have."""

    def __init__(self, answered: Callable[[_Connection, Request, Answer], None]) -> None:
        self._answered = answered
        self._received = b""
        self._request: Request | None = None
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self, request: Request) -> None:
        """Ask; the connection is free again when it is answered."""
        assert self._transport is not None
        self._request = request
        self._transport.write(request.message)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer; hand it on when it is whole."""
        self._received = received = self._received + data
        end_of_head = received.find(b"\r\n\r\n")
        if end_of_head < 0:
            return
        head = received[:end_of_head].lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body_at = end_of_head + 4
        if len(received) < body_at + length:
            return
        request, self._request, self._received = self._request, None, b""
        assert request is not None
        self._answered(self, request, Answer(int(head[9:12]), received[body_at:], time.perf_counter()))

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()


@contextmanager
def _ticks(call: Callable[[], None]) -> Iterator[None]:
    """Call something every _TICK_SECONDS from the running event loop, by a timer of the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.timerfd_create(_MONOTONIC, _NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    tick_ns = round(_TICK_SECONDS * 1e9)
    libc.timerfd_settime(descriptor, 0, ctypes.c_char_p(struct.pack("qqqq", 0, tick_ns, 0, tick_ns)), None)

    def on_tick() -> None:
        os.read(descriptor, 8)
        call()

    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, on_tick)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
