"""The routes that every service has: the index at ``/`` and the three health checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from services.common.web.lifecycle import Lifecycle
from services.common.web.problems import problem_response

HEALTH_PREFIX: Final = "/healthz/"
"""What is asked below this is never limited and never shed."""


class Health(BaseModel):
    """The answer to a health check that holds; one that does not is a 503 Problem with the reason."""

    status: Literal["ok"] = "ok"


class Link(BaseModel):
    """One thing this service can be asked."""

    method: str
    href: str
    title: str


class Index(BaseModel):
    """What this service is and what it can be asked."""

    service: str
    version: str
    documentation: str = "/docs"
    openapi: str = "/openapi.json"
    links: list[Link]


def install(app: FastAPI, service: str, readiness: Callable[[], str | None], lifecycle: Lifecycle) -> None:
    """Add ``/`` and ``/healthz/{live,ready,startup}``."""

    @app.get("/", tags=["service"])
    async def index() -> Index:
        """What this service can be asked."""
        return Index(service=service, version=app.version, links=_links(app))

    @app.get("/healthz/live", tags=["health"])
    async def live() -> Health:
        """The event loop answers."""
        return Health()

    @app.get("/healthz/startup", tags=["health"])
    async def startup() -> Health:
        """The service has started: it listens only from then on."""
        return Health()

    @app.get("/healthz/ready", tags=["health"], response_model=Health)
    async def ready() -> Health | Response:
        """This process should get requests. False from the moment it is told to stop."""
        reason = "shutting down" if lifecycle.is_draining else readiness()
        if reason is None:
            return Health()
        return problem_response(503, "not_ready", reason, {"Retry-After": "1"})


def _links(app: FastAPI) -> list[Link]:
    return [
        Link(method=method.upper(), href=path, title=operation["summary"])
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]
