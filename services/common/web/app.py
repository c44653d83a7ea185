"""The app factory of every service. Called many times in a process, each app is independent of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common import telemetry
from services.common.web import cors, health, problems
from services.common.web.client_address import Client
from services.common.web.hot import (
    AnswerNow,
    Begin,
    Beginning,
    Body,
    Completed,
    Header,
    HotRoutes,
    RequestHeaders,
    Respond,
)
from services.common.web.known_heads import KnownHeads
from services.common.web.lifecycle import Lifecycle, terminate_self
from services.common.web.limits import RequestLimits
from services.common.web.metrics import HttpMetrics
from services.common.web.middleware import RequestMiddleware
from services.common.web.throttle import OperationalErrors

IN_FLIGHT_MAX: Final = 2000
"""Of a service whose port strangers do not reach."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def _no_headers() -> Sequence[Header]:
    return ()


def create_app(
    *,
    title: str,
    service: str,
    lifespan: Lifespan,
    position: Callable[[], int],
    readiness: Callable[[], str | None],
    registry: CollectorRegistry,
    extra_headers: Callable[[], Sequence[Header]] = _no_headers,
    limits: RequestLimits | None = None,
    hot_reads: HotRoutes[AnswerNow] | None = None,
    hot_waits: HotRoutes[Begin] | None = None,
    hot_writes: HotRoutes[Begin] | None = None,
    in_flight_max: int = IN_FLIGHT_MAX,
    cors_origins: Sequence[str] = (),
    stop: Callable[[], None] = terminate_self,
) -> Application:
    """An app with health checks, metrics, positions, request ids and the one error shape; add the routes to it.

    ``position`` gives the X-Log-Position, ``readiness`` why not to send requests here (None: do), ``extra_headers``
    what else goes into every answer. None of them may block. ``limits`` says how often somebody may ask,
    ``hot_reads``, ``hot_waits`` (reads that know their answer later) and ``hot_writes`` what is answered without the
    framework, ``in_flight_max`` how many requests may be under way at once, ``cors_origins`` whose web pages may ask.
    ``stop`` ends the process after an InvariantError.
    """
    app = Application(
        title=title,
        version=telemetry.version(),
        lifespan=lifespan,
        responses=problems.problems(*problems.COMMON_STATUSES),
        redirect_slashes=False,  # a redirect answers what the OpenAPI document does not name
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    lifecycle = app.state.lifecycle = Lifecycle(stop)
    app.state.registry = registry
    operational_errors = OperationalErrors(registry)
    metrics = HttpMetrics(registry)
    requests = RequestMiddleware(
        hot_reads=hot_reads or HotRoutes("GET"),
        hot_waits=hot_waits or HotRoutes("GET"),
        hot_writes=hot_writes or HotRoutes("POST"),
        position=position,
        extra_headers=extra_headers,
        metrics=metrics,
        operational_errors=operational_errors,
        lifecycle=lifecycle,
        limits=limits,
        in_flight_max=in_flight_max,
    )
    app.add_middleware(requests.around)
    app.entry = requests
    if cors_origins:  # around all the rest: a page may read refusals, too
        app.entry = cors.around(requests, cors_origins, position=position, metrics=metrics)
    app.answer_now = cors.unless_page(requests.answer_now) if cors_origins else requests.answer_now
    app.begin = cors.unless_page(requests.begin) if cors_origins else requests.begin
    # With headers of what answer_now or begin have served before:
    app.answer_known, app.beginning, app.begin_known = requests.answer_known, requests.beginning, requests.begin_known
    app.known_heads = KnownHeads()
    problems.install(app, operational_errors)
    health.install(app, service, readiness, lifecycle)
    return app


class Application(FastAPI):
    """An app that serves hot requests by itself: what it has beside the framework's is for a server."""

    entry: ASGIApp
    answer_now: Callable[[Scope], Completed | None]
    begin: Callable[[Scope, Body, Respond], bool | None]
    known_heads: KnownHeads
    answer_known: Callable[[bytes, Client | None, RequestHeaders], Completed | None]
    beginning: Callable[[bytes], Beginning | None]
    begin_known: Callable[[Beginning, Client | None, RequestHeaders, Body, Scope, Respond], bool]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin with our own middleware: what the framework puts around it has nothing to do, and takes its time."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.entry(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The document, in which an operation that takes a body says what is answered to a bad one."""
        is_made = self.openapi_schema is not None
        document = super().openapi()
        if not is_made:
            problems.declare_body_problems(document)
        return document
