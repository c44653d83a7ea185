"""The app factory of every service. Called many times in a process, each app is independent of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from services.common import telemetry
from services.common.web import cors, health, problems
from services.common.web.lifecycle import Lifecycle, terminate_self
from services.common.web.limits import RequestLimits
from services.common.web.metrics import HttpMetrics
from services.common.web.middleware import Header, RequestMiddleware
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
    in_flight_max: int = IN_FLIGHT_MAX,
    cors_origins: Sequence[str] = (),
    stop: Callable[[], None] = terminate_self,
) -> FastAPI:
    """An app with health checks, metrics, positions, request ids and the one error shape; add the routes to it.

    ``position`` gives the X-Log-Position, ``readiness`` why not to send requests here (None: do), ``extra_headers``
    what else goes into every answer. None of them may block. ``limits`` says how often somebody may ask,
    ``in_flight_max`` how many requests may be under way at once, ``cors_origins`` whose web pages may ask.
    ``stop`` ends the process after an InvariantError.
    """
    app = _Application(
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
    app.add_middleware(
        RequestMiddleware,
        position=position,
        extra_headers=extra_headers,
        metrics=HttpMetrics(registry),
        operational_errors=operational_errors,
        lifecycle=lifecycle,
        limits=limits,
        in_flight_max=in_flight_max,
    )
    if cors_origins:
        cors.install(app, cors_origins)  # around all the rest: a page may read refusals, too
    problems.install(app, operational_errors)
    health.install(app, service, readiness, lifecycle)
    return app


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The document, in which an operation that takes a body says what is answered to a bad one."""
        is_made = self.openapi_schema is not None
        document = super().openapi()
        if not is_made:
            problems.declare_body_problems(document)
        return document
