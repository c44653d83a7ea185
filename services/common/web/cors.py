"""What web pages of other origins may do with the API: the browser asks, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from services.common.web.problems import problem_response

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


def install(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins in; ``*`` is all. Credentials are tokens in a header, never cookies."""
    app.add_middleware(
        _Cors,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=RESPONSE_HEADERS,
    )


class _Cors(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        """Starlette's, but for the shape of a refusal."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        return problem_response(400, "cors_refused", bytes(response.body).decode(), {"Vary": "Origin"})
