"""What every request passes: request id, position, body limit, metrics, and the last net for exceptions.

One plain ASGI class with one small object a request, and no BaseHTTPMiddleware: this is on the path of every
read, whose budget is a tenth of what a bare server needs for one. Hot routes are answered here, all others inside.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.errors import ClientError, InvariantError, OperationalError, Overloaded
from services.common.telemetry import request_id_var
from services.common.web.body import BODY_BYTES_MAX, BodyTooLarge, ClientGone, linger, replay, take_body
from services.common.web.client_address import Client
from services.common.web.health import HEALTH_PREFIX
from services.common.web.hot import (
    Answered,
    AnswerNow,
    Begin,
    Beginning,
    Body,
    Completed,
    Header,
    HotRoute,
    HotRoutes,
    RequestHeaders,
    Respond,
    WholeAnswer,
    head_of,
    headers_of,
    send_whole,
)
from services.common.web.lifecycle import Lifecycle
from services.common.web.limits import RateLimited, RequestLimits
from services.common.web.metrics import HttpMetrics
from services.common.web.problems import internal_error, problem_response, refusal, unavailable
from services.common.web.throttle import OperationalErrors

POSITION_HEADER: Final = b"x-log-position"
REQUEST_ID_HEADER: Final = b"x-request-id"

UNMATCHED: Final = "unmatched"
"""Metrics label of a request that reached no route of ours."""
CLIENT_GONE_STATUS: Final = 499
"""Metrics label of a request whose client left before there was an answer."""

OTHER_METHOD: Final = "other"
"""Metrics label of what is none of _METHODS: the parser knows thirty more, which nobody but an attacker sends."""
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

POSITION_KEY: Final = "log_position"
_COUNTED_KEY: Final = "limit_lines"
_SINGLE_HEADERS: Final = (b"authorization", b"content-type", b"host")
"""Sent twice, each reader of a request could take another one: the limit one account, the route another."""
_FAILED_KEY: Final = "failed"
_STARTED_KEY: Final = "started_at"
_JSON: Final = b"application/json"
_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger(__name__)
_access_log = logging.getLogger(__name__)


def set_position(scope: Scope, position: int) -> None:
    """Set the X-Log-Position of this request's answer, an error's too; ``scope`` is ``request.scope``."""
    scope[POSITION_KEY] = position


async def _nothing_inside(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise InvariantError("the middleware was put around nothing")


class RequestMiddleware:
    """See the module. ``position`` and ``extra_headers`` are called once a request and must not block.

    Of more than ``in_flight_max`` requests under way at once, the later ones are shed; health checks never are.
    """

    def __init__(
        self,
        *,
        hot_reads: HotRoutes[AnswerNow],
        hot_waits: HotRoutes[Begin],
        hot_writes: HotRoutes[Begin],
        position: Callable[[], int],
        extra_headers: Callable[[], Sequence[Header]],
        metrics: HttpMetrics,
        operational_errors: OperationalErrors,
        lifecycle: Lifecycle,
        limits: RequestLimits | None,
        in_flight_max: int,
    ) -> None:
        self._app: ASGIApp = _nothing_inside
        self._hot_reads = hot_reads
        self._hot_waits = hot_waits
        self._hot_writes = hot_writes
        self._position = position
        self._extra_headers = extra_headers
        self._metrics = metrics
        self._operational_errors = operational_errors
        self._lifecycle = lifecycle
        self._limits = limits if limits is not None and limits.are_on else None
        self._in_flight_max = in_flight_max
        self._in_flight = 0
        self._id_prefix = secrets.token_hex(6).encode()
        self._id_numbers = itertools.count(1)
        self._position_line_of, self._position_line = -1, b""

    def around(self, app: ASGIApp) -> ASGIApp:
        """This middleware, with what answers the requests that it lets through."""
        self._app = app
        return self

    def answer_now(self, scope: Scope) -> Completed | None:
        """Answer a hot request, counted and complete; None for one that is to be served as any other is."""
        started_at = perf_counter()
        found = self._hot_reads.find(scope)
        if found is None:
            return None
        headers = dict(scope["headers"])
        limit_lines = self._count_now(scope, headers)
        if limit_lines is None:
            return None
        route, item_id = found
        answer = _answer_of(route, scope["query_string"], headers, item_id)
        return None if answer is None else self._completed(route, answer, headers, limit_lines, started_at)

    def answer_known(self, line: bytes, client: Client | None, headers: RequestHeaders) -> Completed | None:
        """The same for a request with this first line and the headers of one that ``answer_now`` has answered.

        Looked up before it is counted: what is left to others then is counted once, by them.
        """
        started_at = perf_counter()
        found = self._hot_reads.find_in(line)
        if found is None or self._in_flight >= self._in_flight_max:
            return None
        route, item_id, query = found
        answer = _answer_of(route, query, headers, item_id)
        limit_lines = b"" if answer is None or self._limits is None else self._limits.check_now(client, headers)
        if answer is None or limit_lines is None:
            return None
        return self._completed(route, answer, headers, limit_lines, started_at)

    def _completed(
        self,
        route: HotRoute[AnswerNow],
        answer: tuple[WholeAnswer, int],
        headers: RequestHeaders,
        limit_lines: bytes,
        started_at: float,
    ) -> Completed:
        """The answer to a hot read with the lines of its own, measured."""
        whole, position = answer
        lines = self._lines(headers.get(REQUEST_ID_HEADER), limit_lines, position)
        self._metrics.observe(route.path, "GET", whole.status, perf_counter() - started_at)
        return whole, lines

    def begin(self, scope: Scope, body: Body, respond: Respond) -> bool:
        """Begin to serve a hot write that is here whole; False, with nothing done, for one to be served as any other.

        It is answered when the log has answered, without a task that waits for it. What has failed is served as any
        other then: ``__call__`` knows the failure, and answers it.
        """
        started_at = perf_counter()
        found = self._hot_write_of(scope)
        if found is None or len(body) > BODY_BYTES_MAX:
            return False
        headers = dict(scope["headers"])
        limit_lines = self._count_now(scope, headers) if headers.get(b"content-type") == _JSON else None
        if limit_lines is None:
            return False
        return self._is_begun((*found, self._hot_writes.method), scope, headers, body, started_at, respond)

    def beginning(self, line: bytes) -> Beginning | None:
        """The hot request that is answered later which one with this first line is."""
        for routes in (self._hot_writes, self._hot_waits):
            found = routes.find_in(line)
            if found is not None and not found[2]:
                return found[0], found[1], routes.method
        return None

    def begin_known(
        self,
        beginning: Beginning,
        client: Client | None,
        headers: RequestHeaders,
        body: Body,
        scope: Scope,
        respond: Respond,
    ) -> bool:
        """As ``begin``, with the headers of one that was parsed. What is noted of the request comes into ``scope``.

        Where it is served as any other, that is for the scope that the server then makes.
        """
        started_at = perf_counter()
        if self._in_flight >= self._in_flight_max or len(body) > BODY_BYTES_MAX:
            return False
        limit_lines = b"" if self._limits is None else self._limits.check_now(client, headers)
        if limit_lines is None:
            return False
        scope[_COUNTED_KEY] = limit_lines
        return self._is_begun(beginning, scope, headers, body, started_at, respond)

    def _is_begun(
        self,
        beginning: Beginning,
        scope: Scope,
        headers: RequestHeaders,
        body: Body,
        started_at: float,
        respond: Respond,
    ) -> bool:
        (route, item_id, method), limit_lines = beginning, scope[_COUNTED_KEY]

        def finish(answered: Answered, position: int) -> None:
            self._in_flight -= 1
            if isinstance(answered, Exception):
                scope[_FAILED_KEY], scope[_STARTED_KEY], scope["route"] = answered, started_at, route
                respond(None)
                return
            lines = self._lines(headers.get(REQUEST_ID_HEADER), limit_lines, position)
            self._metrics.observe(route.path, method, answered.status, perf_counter() - started_at)
            respond((answered, lines))

        self._in_flight += 1
        try:
            if route.answer(headers, body, item_id, finish):
                return True
        except Exception as error:  # noqa: BLE001 - __call__ logs and answers it
            finish(error, 0)
            return True
        self._in_flight -= 1
        return False

    def _count_now(self, scope: Scope, headers: RequestHeaders) -> bytes | None:
        """Count a hot request, and return its lines about that; None, not counted, for one to be served as any other.

        Of a header that is there twice, the framework says which one counts.
        """
        if (
            self._in_flight >= self._in_flight_max
            or len(headers) != len(scope["headers"])
            or _access_log.isEnabledFor(logging.DEBUG)
        ):
            return None
        limit_lines = b"" if self._limits is None else self._limits.check_now(scope.get("client"), headers)
        if limit_lines is not None:
            scope[_COUNTED_KEY] = limit_lines
        return limit_lines

    def _lines(self, given_request_id: bytes | None, limit_lines: bytes, position: int) -> bytes:
        if position != self._position_line_of:
            self._position_line_of, self._position_line = position, b"x-log-position: %d\r\n" % position
        extra = self._extra_headers()
        request_id = self._request_id(given_request_id)
        extra_lines = head_of(extra) if extra else b""
        return b"x-request-id: %s\r\n%s%s%s" % (request_id, limit_lines, extra_lines, self._position_line)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever becomes of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _COUNTED_KEY not in scope and (completed := self.answer_now(scope)) is not None:
            await send_whole(send, completed)
            return
        started_at = scope.get(_STARTED_KEY) or perf_counter()
        if scope["method"] == "HEAD":
            scope = dict(scope, method="GET")  # the server itself leaves the body of the answer out
        headers = dict(scope["headers"])
        request_id = self._request_id(headers.get(REQUEST_ID_HEADER))
        request_id_var.set(request_id)
        answer = _Answer(scope, send, request_id, self._position, self._extra_headers)
        self._in_flight += 1
        try:
            await self._admit(scope, headers, answer)
            if scope["method"] != "GET":  # a body has no meaning there: it stays unread, the server drops it
                body = await take_body(headers, receive)
                if (whole := await self._serve_hot(scope, headers, body)) is not None:
                    await answer.send_whole(whole)
                    return
                receive = replay(body, receive)
            await self._app(scope, receive, answer.send)
        except Exception as error:  # noqa: BLE001 - the last net: it logs and answers what nobody else does
            await self._answer_error(error, scope, receive, answer)
        finally:
            self._in_flight -= 1
            self._record(scope, answer.status, perf_counter() - started_at)

    async def _admit(self, scope: Scope, headers: RequestHeaders, answer: _Answer) -> None:
        """Count a request, unless it is already. Raises Overloaded, RateLimited, or what has become of it before."""
        failure: Exception | None = scope.get(_FAILED_KEY)
        if failure is None:
            self._check(scope, headers)
        if _COUNTED_KEY in scope:
            answer.limit_headers = headers_of(scope[_COUNTED_KEY])
        elif self._limits is not None:
            answer.limit_headers = await self._limits.check(scope, headers)
        if failure is not None:
            raise failure

    async def _serve_hot(self, scope: Scope, headers: RequestHeaders, body: bytes) -> WholeAnswer | None:
        """Serve a hot write of which ``begin`` was not asked; None, with nothing done, for what is the framework's."""
        found = self._hot_write_of(scope)
        if found is None or len(headers) != len(scope["headers"]):
            return None
        answer: asyncio.Future[WholeAnswer] = asyncio.get_running_loop().create_future()

        def finish(answered: Answered, position: int) -> None:
            if answer.done():  # the server has stopped to wait
                return
            if isinstance(answered, Exception):
                answer.set_exception(answered)
            else:
                set_position(scope, position)
                answer.set_result(answered)

        scope["route"], item_id = found
        return await answer if scope["route"].answer(headers, body, item_id, finish) else None

    def _hot_write_of(self, scope: Scope) -> tuple[HotRoute[Begin], int] | None:
        return None if scope["query_string"] else self._hot_writes.find(scope)

    def _check(self, scope: Scope, headers: RequestHeaders) -> None:
        """Raise Overloaded for a request too many, ClientError for headers that say two things."""
        if self._in_flight > self._in_flight_max and not scope["path"].startswith(HEALTH_PREFIX):
            raise Overloaded(f"{self._in_flight_max} requests are under way already")
        if len(headers) != len(scope["headers"]):
            _check_single(scope["headers"])

    def _request_id(self, given: bytes | None) -> bytes:
        if given is not None and _SANE_REQUEST_ID.fullmatch(given):
            return given
        return b"%s-%x" % (self._id_prefix, next(self._id_numbers))

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        label = UNMATCHED if route is None else route.path
        method = scope["method"]
        self._metrics.observe(label, method if method in _METHODS else OTHER_METHOD, status, seconds)
        if _access_log.isEnabledFor(logging.DEBUG):
            log.debug("request", method=method, path=scope["path"], status=status, seconds=seconds)

    async def _answer_error(self, error: Exception, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Answer what no exception handler inside has answered: a refused body, or a bug."""
        match error:
            case ClientGone():
                return
            case BodyTooLarge():
                await answer.refuse_unread(error, receive)
                return
            case RateLimited():
                answer.limit_headers = error.headers
                headers = {"Retry-After": str(error.retry_after_seconds)}
                await problem_response(error.status, error.code, str(error), headers)(scope, receive, answer.send)
                return
            case ClientError():
                await refusal(error)(scope, receive, answer.send)
                return
            case OperationalError() if not answer.is_started:
                self._operational_errors.note(error)
                await unavailable(error)(scope, receive, answer.send)
                return
            case InvariantError():
                self._lifecycle.fail(error)
            case _ if not answer.is_started:
                log.error("request_failed", path=scope["path"], exc_info=error)
        if answer.is_started:
            # The server logs it and cuts the connection, so that nobody takes half an answer for a whole one.
            raise error
        await internal_error()(scope, receive, answer.send)


def _check_single(headers: Sequence[Header]) -> None:
    """Raise ClientError 400 for a header that is there twice and may not be."""
    names = [name for name, _ in headers]
    for name in _SINGLE_HEADERS:
        if names.count(name) > 1:
            raise ClientError(400, "repeated_header", f"Send one {name.decode().title()} header")


def _answer_of(
    route: HotRoute[AnswerNow], query: bytes, headers: RequestHeaders, item_id: int
) -> tuple[WholeAnswer, int] | None:
    try:
        return route.answer(query, headers, item_id)
    except Exception as error:  # the framework may have an answer all the same
        log.error("hot_route_failed", route=route.path, id=item_id, exc_info=error)
        return None


class _Answer:
    """The answer to one request: adds the headers that every answer carries, remembers the status."""

    __slots__ = (
        "_extra_headers",
        "_position",
        "_position_before",
        "_request_id",
        "_scope",
        "_send",
        "limit_headers",
        "status",
    )

    def __init__(
        self,
        scope: Scope,
        send: Send,
        request_id: bytes,
        position: Callable[[], int],
        extra_headers: Callable[[], Sequence[Header]],
    ) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._position = position
        self._extra_headers = extra_headers
        # A read says the position from before it looked anything up: what it returns is at least that new.
        self._position_before = position() if scope["method"] == "GET" else None
        self.limit_headers: Sequence[Header] = ()
        self.status = CLIENT_GONE_STATUS

    @property
    def is_started(self) -> bool:
        return self.status != CLIENT_GONE_STATUS

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message on, an answer's start completed. No coroutine of its own: two a request would show."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._completed(message.get("headers", ()))
        return self._send(message)

    def send_whole(self, whole: WholeAnswer) -> Awaitable[None]:
        """Send an answer that is whole but for the headers that every answer carries."""
        self.status = whole.status
        return send_whole(self._send, (whole, head_of(self._completed(()))))

    def _completed(self, headers: Sequence[Header]) -> list[Header]:
        completed = [*headers, (REQUEST_ID_HEADER, self._request_id), *self.limit_headers, *self._extra_headers()]
        for name, _ in headers:
            if name == POSITION_HEADER:
                return completed
        completed.append((POSITION_HEADER, b"%d" % self._log_position()))
        return completed

    def _log_position(self) -> int:
        position: int | None = self._scope.get(POSITION_KEY, self._position_before)
        return self._position() if position is None else position

    async def refuse_unread(self, error: BodyTooLarge, receive: Receive) -> None:
        """Refuse a body that has not been read whole: answer, take some of the rest, have the connection closed."""
        response = problem_response(error.status, error.code, str(error), {"Connection": "close"})
        await self.send({"type": "http.response.start", "status": error.status, "headers": response.raw_headers})
        await self.send({"type": "http.response.body", "body": response.body, "more_body": True})
        await linger(receive)
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})
