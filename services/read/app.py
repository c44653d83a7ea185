"""The reader's process: the thread that follows the log, and the HTTP that answers from what that keeps up with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, aclosing, asynccontextmanager, closing, nullcontext
from typing import Final, TypeVar

import structlog
from fastapi import FastAPI

from services.common import views
from services.common.auth import Authentication, AuthMetrics
from services.common.cache import Cache
from services.common.database import check_sqlite, database_of
from services.common.errors import InvariantError
from services.common.log.client import EventLog
from services.common.log.credentials import CredentialLookups
from services.common.log.pipelines import pipelines_to
from services.common.settings import split_list
from services.common.telemetry import MetricsServer, create_registry
from services.common.web import RequestLimits
from services.common.web import create_app as create_web_app
from services.common.web.lifecycle import terminate_self
from services.read import existence
from services.read.follower import Backings, Follower
from services.read.fresh_lookups import FreshLookups
from services.read.hot_routes import HotReads
from services.read.lookups import Lookups
from services.read.metrics import CacheMetrics, ReadMetrics
from services.read.own_account import OwnAccounts
from services.read.replica import Replicas
from services.read.replica_directory import ReplicaDirectory
from services.read.routes import router
from services.read.settings import ReadSettings
from services.read.shared_cache import SharedCache
from services.read.shared_database import SharedDatabases
from services.read.snapshot_source import SnapshotSource
from services.read.store import Store

STALE_SECONDS: Final = 2.0
"""From this age on, answers say how old they are."""
STOP_SECONDS_MAX: Final = 5.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


def create_app(settings: ReadSettings, *, stop: Callable[[], None] = terminate_self) -> FastAPI:
    """The reader's app. It listens at once, and is ready when it has caught up with the log."""
    registry = create_registry(sqlite_version=check_sqlite())
    metrics = ReadMetrics(registry)
    auth_metrics = AuthMetrics(registry)
    store = Store(Cache(settings.cache_bytes_max))
    hot_reads = HotReads()
    follower: Follower | None = None
    authentication: Authentication | None = None
    CacheMetrics(store.cache, registry)
    limits = RequestLimits(
        "read",
        settings,
        registry,
        account=lambda header: authentication.account(header) if authentication else None,
    )
    metrics.applied_position.set_function(lambda: store.applied.value)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal follower, authentication
        with ExitStack() as opened:
            opened.enter_context(closing(MetricsServer(settings.host, settings.metrics_port, registry)))
            follower = Follower(
                opened.enter_context(closing(EventLog(settings.redis_url))),
                _backings(settings, metrics, opened),
                metrics,
                adopt=_on_this_loop(store.adopt),
                note_applied=_on_this_loop(store.note_applied),
            )
            metrics.lag_seconds.set_function(follower.age_seconds)
            fresh = FreshLookups(
                pipelines_to(settings.redis_url),
                metrics,
                lambda user_id: store.backing.look_up(lambda reader: views.user(reader, user_id)),
            )
            shared_cache = _shared_cache(settings, metrics)
            app.state.lookups = hot_reads.lookups = Lookups(
                store,
                fresh,
                metrics,
                min_position_wait_seconds=settings.min_position_wait_seconds,
                shared_cache=shared_cache,
            )
            credentials = CredentialLookups(settings.redis_url)
            authentication = Authentication.with_keys_of(settings.auth_keys_file, auth_metrics)
            app.state.own_accounts = OwnAccounts(authentication, credentials)
            closing_cache = aclosing(shared_cache) if shared_cache else nullcontext()
            following = _following(follower, app.state.lifecycle.fail)
            async with limits, aclosing(fresh), aclosing(credentials), closing_cache, following:
                yield

    def age() -> Sequence[tuple[bytes, bytes]]:
        seconds = follower.age_seconds() if follower else 0
        return ((b"x-stale-seconds", b"%d" % seconds),) if seconds >= STALE_SECONDS else ()

    app = create_web_app(
        title="twitter-clone: read",
        service="read",
        lifespan=lifespan,
        position=lambda: store.applied.value,
        readiness=lambda: follower.readiness() if follower else "starting",
        registry=registry,
        extra_headers=age,
        limits=limits,
        hot_reads=hot_reads.routes,
        hot_waits=hot_reads.waits,
        in_flight_max=settings.requests_in_flight_max,
        cors_origins=split_list(settings.cors_origins),
        stop=stop,
    )
    app.include_router(router)
    app.include_router(existence.router)
    return app


def _backings(settings: ReadSettings, metrics: ReadMetrics, opened: ExitStack) -> Backings:
    """What READ_STORE says to answer from."""
    if settings.read_store == "shared":
        return SharedDatabases(database_of(settings.database_url))
    snapshots = opened.enter_context(closing(SnapshotSource(settings.owner_url)))
    return Replicas(snapshots, opened.enter_context(closing(ReplicaDirectory(settings.replica_dir))), metrics)


def _shared_cache(settings: ReadSettings, metrics: ReadMetrics) -> SharedCache | None:
    """A look into a replica takes less than one into Redis."""
    if settings.read_store != "shared":
        return None
    return SharedCache(settings.cache_url or settings.redis_url, metrics, ttl_seconds=settings.cache_ttl_seconds)


def _on_this_loop(function: Callable[[T], None]) -> Callable[[T], None]:
    """What another thread calls to have ``function`` run in this event loop; it returns when that is done."""
    loop = asyncio.get_running_loop()

    def call(argument: T) -> None:
        done: Future[None] = Future()

        def run() -> None:
            try:
                function(argument)
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)
                raise

        loop.call_soon_threadsafe(run)
        done.result()

    return call


@asynccontextmanager
async def _following(follower: Follower, fail: Callable[[InvariantError], None]) -> AsyncIterator[None]:
    """Follow the log in a thread; at the end wait for the batch under way."""

    def run() -> None:
        try:
            follower.run()
        except InvariantError as error:
            fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, a thread that died silently would be worse
            failure = InvariantError(f"the follower met a bug: {error}")
            failure.__cause__ = error
            fail(failure)

    # A daemon: neither an owner that stalls nor a full disk may keep the process from ending.
    thread = threading.Thread(target=run, name="follower", daemon=True)
    thread.start()
    try:
        yield
    finally:
        follower.stop()
        await asyncio.to_thread(thread.join, STOP_SECONDS_MAX)
        if thread.is_alive():
            log.warning("follower_abandoned", after_seconds=STOP_SECONDS_MAX)
