"""The owner's process: the thread that follows the log, and the internal HTTP beside it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import structlog
from anyio import to_thread
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from services.common.database import check_sqlite, has_wal_fix, sqlite_library
from services.common.errors import InvariantError, OwnerUnavailable
from services.common.log.client import EventLog
from services.common.telemetry import MetricsServer, create_registry
from services.common.web import create_app as create_web_app
from services.common.web.lifecycle import terminate_self
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.owner import Owner
from services.db_updater.reports import RecoverySummary
from services.db_updater.settings import OwnerSettings
from services.db_updater.snapshots import SnapshotShelf
from services.db_updater.volume import Volume

STREAM_CHUNK_BYTES: Final = 2**20
SNAPSHOT_MEDIA_TYPE: Final = "application/vnd.sqlite3"

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs while the app serves."""

    volume: Volume
    shelf: SnapshotShelf
    owner: Owner


class PositionReport(BaseModel):
    """Which prefix of the log the owner holds; ``entries`` counts all it has ever applied.

    ``discarded_entries`` counts those that recoveries could not keep, ``last_recovery`` tells of the newest.
    """

    position: int
    epoch: int
    entries: int
    archived_position: int
    projection_version: int
    discarded_entries: int
    last_recovery: RecoverySummary | None


def create_app(settings: OwnerSettings, *, stop: Callable[[], None] = terminate_self) -> FastAPI:
    """The owner's app. While it runs, the volume is its own and the log is followed.

    Its start raises StorageUnfit when the volume or the SQLite library must not be used. A bug, or another owner
    that took over, stops the process.
    """
    registry = create_registry(sqlite_version=sqlite_library().sqlite_version)
    metrics = OwnerMetrics(registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with closing(MetricsServer(settings.host, settings.metrics_port, registry)), _open(settings, metrics) as parts:
            app.state.parts = parts
            with _following(parts.owner, app.state.lifecycle.fail):
                yield

    def owner() -> Owner:
        parts: Parts = app.state.parts
        return parts.owner

    app = create_web_app(
        title="twitter-clone: db-updater (internal)",
        service="db-updater",
        lifespan=lifespan,
        position=lambda: owner().position,
        readiness=lambda: owner().readiness(),
        registry=registry,
        stop=stop,
    )
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    @app.get("/internal/position", tags=["internal"])
    async def position() -> PositionReport:
        """Which prefix of the log is applied and archived."""
        volume: Volume = app.state.parts.volume
        applied = volume.applied
        return PositionReport(
            position=applied.position,
            epoch=applied.epoch,
            entries=applied.entries,
            archived_position=volume.archive.position,
            projection_version=applied.projection_version,
            discarded_entries=volume.reports.discarded_entries,
            last_recovery=volume.reports.last,
        )

    @app.get(
        "/internal/snapshot",
        tags=["internal"],
        response_class=StreamingResponse,
        responses={200: {"content": {SNAPSHOT_MEDIA_TYPE: {}}, "description": "A SQLite file", "headers": _HEADERS}},
    )
    async def snapshot() -> StreamingResponse:
        """A consistent copy of the public tables; the log keeps what follows it for a while (the lease)."""
        parts: Parts = app.state.parts
        if parts.volume.is_filling:
            raise OwnerUnavailable("no snapshot yet: the database is still being filled")
        offer = await parts.shelf.take()
        headers = {
            "X-Snapshot-Position": str(offer.snapshot.position),
            "X-Snapshot-SHA256": offer.snapshot.sha256,
            "X-Projection-Version": str(offer.snapshot.projection_version),
            "Content-Length": str(offer.snapshot.size_bytes),
        }
        return StreamingResponse(_chunks(offer.file), headers=headers, media_type=SNAPSHOT_MEDIA_TYPE)


_HEADERS: Final[dict[str, Any]] = {
    "X-Snapshot-Position": {"description": "The position it holds.", "schema": {"type": "integer"}},
    "X-Snapshot-SHA256": {"description": "SHA-256 of the body, in hex.", "schema": {"type": "string"}},
    "X-Projection-Version": {"description": "The version that made it.", "schema": {"type": "integer"}},
}


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await to_thread.run_sync(file.read, STREAM_CHUNK_BYTES):
            yield chunk


@contextmanager
def _open(settings: OwnerSettings, metrics: OwnerMetrics) -> Iterator[Parts]:
    """Open what the owner works on; closed in reverse order."""
    sqlite_version = check_sqlite()
    _logger.info("sqlite", version=sqlite_version, has_wal_fix=has_wal_fix(sqlite_library().sqlite_version_info))
    volume = Volume(settings.database, settings.volume_directory, settings.archive_directory)
    with closing(volume), closing(EventLog(settings.redis_url)) as log:
        shelf = SnapshotShelf(
            settings.database,
            settings.snapshot_directory,
            metrics,
            applied_position=lambda: volume.applied.position,
            lease_seconds=settings.snapshot_lease_seconds,
        )
        owner = Owner(
            volume,
            log,
            metrics,
            retention_seconds=settings.log_retention_seconds,
            leased_position=shelf.leased_position,
        )
        yield Parts(volume, shelf, owner)


@contextmanager
def _following(owner: Owner, fail: Callable[[InvariantError], None]) -> Iterator[None]:
    """Follow the log in a thread of its own; at the end wait for the batch under way."""

    def run() -> None:
        try:
            owner.run()
        except InvariantError as error:
            fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, a thread that died silently would be worse
            failure = InvariantError(f"the owner met a bug: {error}")
            failure.__cause__ = error
            fail(failure)

    thread = threading.Thread(target=run, name="owner")
    thread.start()
    try:
        yield
    finally:
        owner.stop()
        thread.join()
