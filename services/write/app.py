"""Puts the write service together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import structlog
from fastapi import FastAPI

from services.common.auth import Authentication, AuthMetrics
from services.common.log.client import EventLog
from services.common.log.credentials import CredentialLookups
from services.common.log.redis_url import connection_to
from services.common.settings import split_list
from services.common.telemetry import MetricsServer, create_registry
from services.common.web import RequestLimits
from services.common.web import create_app as create_web_app
from services.common.web.lifecycle import terminate_self
from services.write.accounts import Accounts
from services.write.actors import Gate
from services.write.acts import Acts
from services.write.appending import Appending
from services.write.authors import Authors
from services.write.clocks import LogView, TrustedClock
from services.write.credentials import Credentials
from services.write.errors import WriterFailed
from services.write.existence import Existence, ReadService
from services.write.group_commit import GroupCommit
from services.write.handlers import Handlers
from services.write.hot_routes import HotWrites
from services.write.idempotency import Claims
from services.write.log_budget import LogBudget
from services.write.log_watch import LogWatch
from services.write.log_writer import LogWriter
from services.write.logins import Logins
from services.write.metrics import AppendMetrics, ExistenceMetrics, LogMetrics
from services.write.routes import auth, tweets, users
from services.write.settings import WriteSettings
from services.write.tweets import Tweets

CALLS_IN_FLIGHT_MAX = 2  # one is fsynced while the next one is on its way

log = structlog.get_logger(__name__)


def create_app(settings: WriteSettings, *, stop: Callable[[], None] = terminate_self) -> FastAPI:
    """The write service's app. Needs neither Redis nor the read service to start; readiness tells what is missing."""
    registry = create_registry()
    view = LogView()
    clock = TrustedClock()
    requires_durability = settings.log_durability == "required"
    log_metrics = LogMetrics(registry, is_full=lambda: view.is_full)
    watch = LogWatch(
        EventLog(settings.redis_url),
        view,
        log_metrics,
        budget=LogBudget(settings.log_bytes_max, log_metrics),
        requires_durability=requires_durability,
    )
    append_metrics = AppendMetrics(registry)
    auth_metrics = AuthMetrics(registry)
    existence_metrics = ExistenceMetrics(registry)
    hot_writes = HotWrites()
    authentication: Authentication | None = None
    limits = RequestLimits(
        "write",
        settings,
        registry,
        account=lambda header: authentication.account(header) if authentication else None,
        sign_ins_per_minute=settings.sign_ins_per_minute,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Build in this order, close in the reverse: what is still queued is appended before its connections close."""
        nonlocal authentication
        if not settings.auth_required:
            log.warning("auth_not_required", consequence="anybody may write in anybody's name")

        def stop_without_writer(error: BaseException) -> None:
            app.state.lifecycle.fail(WriterFailed(f"the group commit has failed: {error!r}"))

        async with AsyncExitStack() as stack:
            stack.callback(MetricsServer(settings.host, settings.metrics_port, registry).close)
            stack.callback(watch.close)
            await stack.enter_async_context(limits)
            writers = [
                LogWriter(
                    connection_to(settings.redis_url),
                    view,
                    clock,
                    requires_durability=requires_durability,
                    replicas_min=settings.replicas_min,
                )
                for _ in range(CALLS_IN_FLIGHT_MAX)
            ]
            for writer in writers:
                stack.push_async_callback(writer.aclose)
            commit = await stack.enter_async_context(
                GroupCommit(writers, metrics=append_metrics, on_failure=stop_without_writer)
            )
            read_service = await stack.enter_async_context(aclosing(ReadService(settings.read_service_url, clock)))
            credentials = Credentials(settings.email_hash_key)
            stack.callback(credentials.close)
            authentication = Authentication.with_keys_of(settings.auth_keys_file, auth_metrics)
            app.state.gate = hot_writes.gate = Gate(authentication, is_required=settings.auth_required)
            lookups = await stack.enter_async_context(aclosing(CredentialLookups(settings.redis_url)))
            app.state.logins = Logins(authentication, lookups, credentials, head=lambda: view.head)
            existence = Existence(read_service.find, metrics=existence_metrics)
            authors = Authors(existence)

            def forget_all() -> None:
                existence.forget_all()
                authors.forget_all()

            watch.on_epoch = forget_all
            appending = Appending(commit.append, commit.submit, existence)
            claims = Claims(settings.email_hash_key)
            app.state.handlers = hot_writes.handlers = Handlers(
                Accounts(appending, existence=existence, authors=authors, credentials=credentials, claims=claims),
                Tweets(appending, existence=existence, authors=authors, claims=claims),
                Acts(appending, existence=existence, claims=claims),
            )
            await stack.enter_async_context(_running(watch))
            yield

    app = create_web_app(
        title="twitter-clone: write service",
        service="write",
        lifespan=lifespan,
        position=lambda: view.head,
        readiness=lambda: watch.reason,
        registry=registry,
        limits=limits,
        hot_writes=hot_writes.routes,
        in_flight_max=settings.requests_in_flight_max,
        cors_origins=split_list(settings.cors_origins),
        stop=stop,
    )
    for router in (users.router, tweets.router, auth.router):
        app.include_router(router)
    return app


@asynccontextmanager
async def _running(watch: LogWatch) -> AsyncIterator[None]:
    await watch.look()
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
