"""The one error shape of every route of every service: ``{"detail": ..., "code": "tweet_not_found"}``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from services.common.errors import ClientError, OperationalError
from services.common.web.throttle import OperationalErrors

VALIDATION_PROBLEMS_MAX: Final = 20

COMMON_STATUSES: Final = (413, 422, 429, 500, 503)
BODY_STATUSES: Final = (400, 415)
"""What an operation that takes a body can answer besides."""

_CODES: Final = {400: "bad_json", 404: "not_found", 405: "method_not_allowed"}
_METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")

TRY_LATER: Final = "The service cannot do this at the moment; try again later."
OUTCOME_UNKNOWN: Final = "It is not known whether this was done; look before you try again."


class ValidationProblem(BaseModel):
    """One thing that is wrong with a request, without what was sent."""

    type: str
    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """Why a request was not served. ``code`` is stable and for programs, ``detail`` for people."""

    detail: str | list[ValidationProblem]
    code: str = Field(examples=["tweet_not_found"])


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What ``responses=`` of a route takes to declare that it can answer these statuses with a Problem."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


def problem_response(
    status: int, code: str, detail: str | list[dict[str, Any]], headers: Mapping[str, str] | None = None
) -> Response:
    """A Problem as a response. Escapes all but ASCII, so that no lone surrogate can break the encoder."""
    body = json.dumps({"detail": detail, "code": code}, separators=(",", ":")).encode("ascii")
    return Response(body, status, headers, media_type="application/json")


def internal_error() -> Response:
    """The answer to a request that met a bug: it says nothing about it."""
    return problem_response(500, "internal_error", "Internal server error")


def refusal(error: ClientError) -> Response:
    """The answer to a request that asks for something impossible."""
    # RFC 9110: a 401 names the scheme that would help.
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else None
    return problem_response(error.status, error.code, str(error), headers)


def unavailable(error: OperationalError) -> Response:
    """The answer to a request that may succeed later."""
    detail = OUTCOME_UNKNOWN if error.code == "outcome_unknown" else TRY_LATER
    return problem_response(503, error.code, detail, {"Retry-After": str(error.retry_after_seconds)})


def install(app: FastAPI, operational_errors: OperationalErrors) -> None:
    """Make every refusal of this app a Problem."""

    async def refuse(_request: Request, error: ClientError) -> Response:
        return refusal(error)

    async def answer_unavailable(_request: Request, error: OperationalError) -> Response:
        operational_errors.note(error)
        return unavailable(error)

    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        return problem_response(422, "validation_error", describe(error.errors()))

    async def refused_by_framework(request: Request, error: HTTPException) -> Response:
        headers = {"Allow": ", ".join(_allowed_methods(request))} if error.status_code == 405 else error.headers
        code = _CODES.get(error.status_code, "http_error")
        return problem_response(error.status_code, code, str(error.detail), headers)

    app.add_exception_handler(ClientError, refuse)  # type: ignore[arg-type]
    app.add_exception_handler(OperationalError, answer_unavailable)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, refused_by_framework)  # type: ignore[arg-type]


def describe(errors: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first errors of a validation as FastAPI lists them, without anything the client sent."""
    return [_describe_one(error) for error, _ in zip(errors, range(VALIDATION_PROBLEMS_MAX), strict=False)]


def _describe_one(error: Mapping[str, Any]) -> dict[str, Any]:
    kind, loc, message = error["type"], list(error["loc"]), error["msg"]
    if kind == "extra_forbidden":
        del loc[-1]  # a name the client made up
    if "reason" in error.get("ctx", {}):
        message = message.partition(":")[0]  # an e-mail validator's reason quotes the address
    return {"type": kind, "loc": loc, "msg": message}


def _allowed_methods(request: Request) -> list[str]:
    """The methods this path has in all its routes; the framework names those of the first one only."""
    routes = request.app.routes
    scopes = {method: dict(request.scope, method=method) for method in _METHODS}
    return [
        method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


def declare_body_problems(document: dict[str, Any]) -> None:
    """Add to each operation of an OpenAPI document that takes a body what check_json answers."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for operations in document["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                for status in BODY_STATUSES:
                    description = HTTPStatus(status).phrase
                    operation["responses"].setdefault(str(status), {"description": description, "content": content})
