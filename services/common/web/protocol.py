"""HTTP/1 as uvicorn speaks it, and what it leaves open: how large the head of a request is, and how long one takes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final, cast

from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.common.web.app import Application
from services.common.web.hot import Beginning, Completed, RequestHeaders, as_sent, head_of, write_whole
from services.common.web.known_heads import KnownHeads
from services.common.web.problems import problem_response

HEAD_BYTES_MAX: Final = 64 * 1024
"""Heads of this size are taken, those three times as large refused; in between it depends on how they arrive."""
CLIENT_SECONDS_MAX: Final = 20.0
"""How long a client may take over one thing: to send a request's head, its body, or to take the answer."""

_NO_SCOPE: Final = object()


class Protocol(HttpToolsProtocol):
    """Serves hot requests without a task, and answers what is no HTTP as everything else is answered."""

    _head_bytes = 0
    _served: RequestResponseCycle | None = None
    _reading = b""
    _is_between = False
    """Whether the parser stands between two requests."""
    _known_heads: KnownHeads | None = None
    _newest = b""
    """The newest request whose head was known, until there is another one."""
    _newest_at = 0.0
    _begun = b""
    """A known request that is under way while the server knows nothing of it."""
    _is_showing = False
    _held: RequestResponseCycle | None = None
    """A POST, until it is clear whether the read that brought its head brought all of its body, too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's signature
        """Begin to serve a connection."""
        super().connection_made(transport)
        if isinstance(self.app, Application):
            self._known_heads = self.app.known_heads

    def data_received(self, data: bytes) -> None:
        """Take what has come, a head only up to a size: nothing else would bound it, nor the time its pieces take."""
        if self._begun:
            self._show_begun()
        elif self._is_between and self._serve_known(data):
            return
        self._newest = b""
        if len(data) > HEAD_BYTES_MAX:
            for start in range(0, len(data), HEAD_BYTES_MAX):
                if not self.transport.is_closing():
                    self.data_received(data[start : start + HEAD_BYTES_MAX])
            return
        self._reading = data
        super().data_received(data)
        self._reading = b""
        if self._held is not None:
            self._begin(self._held, data)
        if getattr(self.cycle, "scope", _NO_SCOPE) is self.scope:  # there is no cycle before the first request
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > 2 * HEAD_BYTES_MAX:
            self._refuse(431, "headers_too_large", "The headers are too large")

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self._is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Note that a request has ended."""
        super().on_message_complete()
        self._is_between = True

    def awaits(self) -> object | None:
        """What the client is to do next, the same object until it has; None while it is for us or may stay idle."""
        if self.transport.is_closing():
            return self.transport
        cycle = self.cycle
        if getattr(cycle, "scope", _NO_SCOPE) is not self.scope:
            return self.headers or self.transport
        if self.flow.write_paused:
            return cycle
        if cycle.response_complete:
            is_idle = self.timeout_keep_alive_task is not None and not self.transport.get_write_buffer_size()
            return None if is_idle else self._newest or cycle
        return cycle if cycle.more_body else None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to serve a request; a hot one is answered right here, without a task.

        Not where more wait behind it in the pipeline, each of which would be answered inside this call.
        """
        if self._is_showing:
            self._served = cycle
            return
        if isinstance(app, Application) and not self.pipeline and not cycle.flow.write_paused:
            if self._reading and cycle.scope["method"] == "POST" and not cycle.waiting_for_100_continue:
                self._held = self._served = cycle
                return
            completed = app.answer_now(cast("Scope", cycle.scope))
            if completed is not None:
                write_whole(cycle, completed)
                if cycle.keep_alive:
                    app.known_heads.remember(self._reading, cast("Scope", cycle.scope), b"")
                return
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def _begin(self, cycle: RequestResponseCycle, data: bytes) -> None:
        """Begin to serve what was held: a hot write that is whole without a task, all else as any request."""
        self._held = None
        app, scope = cast("Application", self.app), cast("Scope", cycle.scope)
        if cycle.more_body or not app.begin(scope, cycle.body, partial(self._respond, cycle)):
            self._respond(cycle, None)
        elif cycle.keep_alive:
            app.known_heads.remember(data, scope, cycle.body)

    def _respond(self, cycle: RequestResponseCycle, completed: Completed | None) -> None:
        """Write an answer; without one, have the request served as any other is."""
        if completed is None:
            super()._start_asgi_task(cycle, self.app)
        elif not cycle.disconnected:
            write_whole(cycle, completed)

    def _serve_known(self, data: bytes) -> bool:
        """Serve a request whose head is known; False, with nothing done, where there is none or it is not for us now.

        The parser stands between two requests and would take the same bytes as it took them before. It sees nothing
        of this one, nor does the server.
        """
        if self._known_heads is None or not self.cycle.response_complete or self.flow.write_paused:
            return False
        known = self._known_heads.find(data)
        if known is None:
            return False
        line, headers, body = known
        app = cast("Application", self.app)
        completed = app.answer_known(line, self.client, headers) if body is None else None
        if completed is not None:
            self._newest, self._newest_at = data, self.loop.time()
            self.transport.write(as_sent(completed, self.server_state.default_headers))
            return True
        beginning = app.beginning(line)
        if beginning is not None:
            self._begin_known(beginning, headers, body or b"", data)
        return beginning is not None

    def _begin_known(self, beginning: Beginning, headers: RequestHeaders, body: bytes, data: bytes) -> None:
        """Begin what is answered later. Where it is not begun, or fails, the server knows of it from then on."""
        self._begun = self._newest = data
        self._newest_at = self.loop.time()
        noted: Scope = {}

        def respond(completed: Completed | None) -> None:
            if completed is not None and self._begun:
                self._begun = b""
                self.transport.write(as_sent(completed, self.server_state.default_headers))
                return
            cycle = self._show_begun()
            cast("Scope", cycle.scope).update(noted)
            self._respond(cycle, completed)

        if not cast("Application", self.app).begin_known(beginning, self.client, headers, body, noted, respond):
            respond(None)

    def _show_begun(self) -> RequestResponseCycle:
        """Have the server know of the request that is under way without it, as of one that it has not answered yet.

        What comes behind it is then queued, the connection lost or closed, as with any other.
        """
        if self._begun:
            data, self._begun = self._begun, b""
            self._is_showing = True
            super().data_received(data)
            self._is_showing = False
        assert self._served is not None  # noqa: S101
        return self._served

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless a request has come that was answered without setting the timer anew."""
        seconds_left = self._newest_at + self.timeout_keep_alive - self.loop.time()
        if seconds_left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(seconds_left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let nobody write to it: of a pipeline uvicorn tells only the last request, not the one being served."""
        if self._begun:
            self._show_begun()
        if self._served is not None:
            self._served.disconnected = True
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection, once what is under way is answered."""
        if self._begun:
            self._show_begun()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer a Problem and close the connection. There is no request yet, so no position and no id."""
        self._refuse(400, "bad_http", "This is not valid HTTP")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        if self.transport.is_closing():
            return
        response = problem_response(status, code, detail, {"Connection": "close"})
        reason = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}[status]
        head = b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, reason, head_of(response.raw_headers))
        self.transport.write(head + bytes(response.body))
        self.transport.close()


class SlowClients:
    """Finds connections whose clients have taken too long; looks from time to time, so that requests pay nothing."""

    def __init__(self) -> None:
        self._since: dict[Protocol, tuple[object, float]] = {}

    def cut(self, connections: Iterable[Protocol], now: float) -> None:
        """Cut those that have waited for one thing for CLIENT_SECONDS_MAX."""
        still: dict[Protocol, tuple[object, float]] = {}
        for connection in list(connections):
            awaited = connection.awaits()
            if awaited is None:
                continue
            before, since = self._since.get(connection, (awaited, now))
            if before is not awaited:
                since = now
            if now - since >= CLIENT_SECONDS_MAX:
                connection.transport.abort()  # to close would wait until the client has taken what is written
            else:
                still[connection] = awaited, since
        self._since = still
