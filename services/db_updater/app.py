"""The owner's process: the thread that follows the log, and the internal HTTP beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import structlog
from anyio import to_thread
from fastapi import FastAPI, Query
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from services.common import backup
from services.common.backup import OwnersFiles
from services.common.database import check_sqlite, has_wal_fix, sqlite_library
from services.common.errors import ClientError, InvariantError, OwnerUnavailable, StorageUnfit
from services.common.log.client import EventLog
from services.common.telemetry import MetricsServer, create_registry
from services.common.web import create_app as create_web_app
from services.common.web.lifecycle import terminate_self
from services.common.web.problems import problems
from services.db_updater.backups import BackupSchedule
from services.db_updater.dead_letters import DeadLetterReport, read_dead_letters
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.owner import Owner
from services.db_updater.reports import RecoverySummary
from services.db_updater.settings import OwnerSettings
from services.db_updater.snapshots import SnapshotShelf
from services.db_updater.volume import Volume

STREAM_CHUNK_BYTES: Final = 2**20
SNAPSHOT_MEDIA_TYPE: Final = "application/vnd.sqlite3"

REDIS_SECONDS: Final = 5.0
"""How long the owner waits for any answer of Redis. Nobody waits for the owner, and on a machine that is busy with all
that starts at once a recovery must not begin anew for one answer in hundreds that takes longer than a second."""

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs while the app serves."""

    volume: Volume
    shelf: SnapshotShelf
    owner: Owner
    backups: BackupSchedule | None


class BackupReport(BaseModel):
    """A backup that was made."""

    path: str
    position: int
    epoch: int
    entries: int
    size_bytes: int
    made_at: str


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
    app.state.database = settings.database
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

    @app.post(
        "/internal/backup",
        tags=["internal"],
        status_code=201,
        responses=problems(409),
    )
    async def make_backup() -> BackupReport:
        """Make a backup in BACKUP_DIR now, and answer when it is verified."""
        backups: BackupSchedule | None = app.state.parts.backups
        if backups is None:
            raise ClientError(409, "backups_off", "This db-updater makes no backups: set BACKUP_DIR")
        made = await asyncio.wrap_future(backups.request())
        manifest = made.manifest
        return BackupReport(
            path=str(made.path),
            position=manifest.position,
            epoch=manifest.epoch,
            entries=manifest.entries,
            size_bytes=manifest.size_bytes,
            made_at=manifest.made_at,
        )

    @app.get("/internal/dead-letters", tags=["internal"])
    async def dead_letters(
        after_position: Annotated[int, Query(ge=0)] = 0, letters_max: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[DeadLetterReport]:
        """Entries that were refused for good, oldest first."""
        return await to_thread.run_sync(read_dead_letters, app.state.database, after_position, letters_max)


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
    metrics.watch_volume(settings.volume_directory)
    with closing(volume), closing(EventLog(settings.redis_url, timeout_seconds=REDIS_SECONDS)) as log:
        shelf = SnapshotShelf(
            settings.database,
            settings.snapshot_directory,
            metrics,
            applied_position=lambda: volume.applied.position,
            lease_seconds=settings.snapshot_lease_seconds,
        )
        backups = _backup_schedule(settings, volume, metrics)
        owner = Owner(
            volume,
            log,
            metrics,
            retention_seconds=settings.log_retention_seconds,
            newest_backup=lambda: _newest_backup(settings.backup_dir),
            leased_position=lambda: _oldest(shelf.leased_position(), backups.held_position() if backups else None),
        )
        with _running(backups):
            yield Parts(volume, shelf, owner, backups)


def _backup_schedule(settings: OwnerSettings, volume: Volume, metrics: OwnerMetrics) -> BackupSchedule | None:
    if settings.backup_dir is None:
        return None
    if not isinstance(settings.database, Path):
        raise StorageUnfit("BACKUP_DIR is for SQLite: leave it empty, and back PostgreSQL up with its own tools")
    return BackupSchedule(
        volume,
        OwnersFiles(settings.database, settings.volume_directory, settings.archive_directory),
        settings.backup_dir,
        metrics,
        interval_seconds=settings.backup_interval_seconds,
        keep=settings.backup_keep,
    )


def _newest_backup(directory: Path | None) -> str:
    """What to restore, as an operator types it."""
    newest = backup.newest_backup(directory) if directory else None
    return str(newest.path) if newest else "BACKUP"


@contextmanager
def _running(backups: BackupSchedule | None) -> Iterator[None]:
    if backups is None:
        yield
        return
    with closing(backups):
        backups.start()
        yield


def _oldest(*positions: int | None) -> int | None:
    return min((position for position in positions if position is not None), default=None)


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
