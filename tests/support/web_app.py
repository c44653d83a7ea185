"""A small service on services.common.web, for its tests: in process, and ``python -m tests.support.web_app``."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import httpx
import structlog
from fastapi import FastAPI, Path, Request, Response
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, EmailStr, Field
from starlette.responses import StreamingResponse

from services.common.errors import ClientError, LogForked, LogUnavailable, OutcomeUnknown, StorageUnfit
from services.common.settings import MetricsPort, Port, PublicSettings, load
from services.common.telemetry import MetricsServer, configure_logging, create_registry
from services.common.web import RequestLimits, client_address, create_app, problems, serve, set_position
from services.common.web.app import IN_FLIGHT_MAX, Application
from services.common.web.hot import AnswerNow, Begin, HotRoutes
from services.common.web.lifecycle import terminate_self

POSITION = 42
"""What the service's position is all the time."""

log = structlog.get_logger(__name__)


class Settings(PublicSettings):
    """The settings of the small service."""

    port: Port = 0
    metrics_port: MetricsPort = 0


class Note(BaseModel, extra="forbid"):
    """A body with one field of each interesting kind."""

    text: str
    author: EmailStr | None = None
    number: Annotated[int, Field(ge=0, le=2**53)] = 0


class NoteView(BaseModel):
    """What is answered to a Note."""

    id: int
    text: str


def small_app(
    *,
    registry: CollectorRegistry | None = None,
    readiness: Callable[[], str | None] = lambda: None,
    position: Callable[[], int] = lambda: POSITION,
    extra_headers: Callable[[], Sequence[tuple[bytes, bytes]]] = tuple,
    limits: RequestLimits | None = None,
    hot: HotRoutes[AnswerNow] | None = None,
    hot_waits: HotRoutes[Begin] | None = None,
    hot_writes: HotRoutes[Begin] | None = None,
    in_flight_max: int = IN_FLIGHT_MAX,
    cors_origins: Sequence[str] = (),
    stop: Callable[[], None] = terminate_self,
) -> Application:
    """The app of the small service."""
    app = create_app(
        title="Small",
        service="small",
        lifespan=_lifespan,
        position=position,
        readiness=readiness,
        registry=registry or create_registry(),
        extra_headers=extra_headers,
        limits=limits,
        hot_reads=hot,
        hot_waits=hot_waits,
        hot_writes=hot_writes,
        in_flight_max=in_flight_max,
        cors_origins=cors_origins,
        stop=stop,
    )
    _add_notes(app)
    _add_trouble(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    if "REFUSE_START" in os.environ:
        raise StorageUnfit("the volume is locked: stop the other owner")
    if "FAIL_AT_START" in os.environ:
        app.state.lifecycle.fail(LogForked("head 9 is before ours"))
    yield
    if "CLOSE_WHEN" in os.environ:
        log.info("lifespan_closing")
        while not await anyio.Path(os.environ["CLOSE_WHEN"]).exists():
            await asyncio.sleep(0.01)
    log.info("lifespan_closed")


def _add_notes(app: FastAPI) -> None:
    @app.get("/notes/{note_id}", responses=problems(404))
    async def get_note(note_id: Annotated[int, Path(ge=1)], request: Request, q: str = "") -> NoteView:
        set_position(request.scope, 7)
        if note_id > 100:
            raise ClientError(404, "note_not_found", "Note not found")
        return NoteView(id=note_id, text=q)

    @app.post("/notes", status_code=201)
    async def create_note(note: Note) -> NoteView:
        return NoteView(id=1, text=note.text)

    @app.post("/notes/{note_id}/star")
    async def star_note(note_id: Annotated[int, Path(ge=1)], note: Note | None = None) -> NoteView:
        return NoteView(id=note_id, text=note.text if note else "")

    @app.get("/client", include_in_schema=False)
    async def client(request: Request) -> dict[str, str]:
        return {"address": client_address(request.scope)}

    @app.get("/frozen", include_in_schema=False)
    async def frozen() -> int:
        return gc.get_freeze_count()

    @app.delete("/notes")
    async def drop_notes() -> Response:
        return Response(b"{}", headers={"X-Log-Position": "9"}, media_type="application/json")


def _add_trouble(app: FastAPI) -> None:
    errors = {
        "bug": ValueError("secret of the inside"),
        "log": LogUnavailable("redis://:password@host refused"),
        "unknown": OutcomeUnknown("cut"),
        "forked": LogForked("head 9 is before ours"),
    }

    @app.get("/trouble/{kind}", include_in_schema=False)
    async def trouble(kind: str) -> None:
        raise errors[kind]

    @app.get("/half", include_in_schema=False)
    async def half() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"the first half"
            raise ValueError("no second half")

        return StreamingResponse(body(), headers={"Content-Length": "1000"})

    @app.get("/until-draining", include_in_schema=False)
    async def until_draining() -> dict[str, int]:
        log.info("waiting")
        while not app.state.lifecycle.is_draining:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://small") as client:
            ready = await client.get("/healthz/ready")
        log.info("answering")
        return {"readiness_status": ready.status_code}


def main() -> None:
    """Serve as a real service does."""
    settings = load(Settings)
    configure_logging("small", settings.log_level, settings.log_format)
    registry = create_registry()
    metrics = MetricsServer(settings.host, settings.metrics_port, registry)
    serve(small_app(registry=registry), settings)
    metrics.close()


if __name__ == "__main__":
    main()
