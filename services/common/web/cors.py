"""What web pages of other origins may do with the API: the browser asks, before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Concatenate, Final, ParamSpec, TypeVar

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from services.common.web.metrics import HttpMetrics
from services.common.web.problems import problem_response

P = ParamSpec("P")
T = TypeVar("T")

METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "DELETE")
REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "X-Min-Position",
    "X-Request-Id",
)
RESPONSE_HEADERS: Final = (
    "ETag",
    "Link",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Log-Position",
    "X-Request-Id",
    "X-Stale-Seconds",
)


PREFLIGHT: Final = "preflight"
"""Metrics label of a question that a browser asks before a request; it is answered before any route is looked for."""


def around(app: ASGIApp, origins: Sequence[str], *, position: Callable[[], int], metrics: HttpMetrics) -> ASGIApp:
    """Let pages of these origins in; ``*`` is all. Credentials are tokens in a header, never cookies."""
    return _Cors(app, origins=origins, position=position, metrics=metrics)


def unless_page(serve: Callable[Concatenate[Scope, P], T | None]) -> Callable[Concatenate[Scope, P], T | None]:
    """What serves a request, but for those of pages: their answers are completed by what ``around`` returns."""

    def answer(scope: Scope, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        return None if any(name == b"origin" for name, _ in scope["headers"]) else serve(scope, *args, **kwargs)

    return answer


class _Cors(CORSMiddleware):
    def __init__(
        self, app: ASGIApp, *, origins: Sequence[str], position: Callable[[], int], metrics: HttpMetrics
    ) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
        )
        self._position = position
        self._metrics = metrics

    def preflight_response(self, request_headers: Headers) -> Response:
        """Starlette's, but for the shape of a refusal; counted and with a position, as every answer."""
        started_at = perf_counter()
        response = super().preflight_response(request_headers)
        if response.status_code != 200:
            response = problem_response(400, "cors_refused", bytes(response.body).decode(), {"Vary": "Origin"})
        response.headers["X-Log-Position"] = str(self._position())
        self._metrics.observe(PREFLIGHT, "OPTIONS", response.status_code, perf_counter() - started_at)
        return response
