"""Runs an app until it is told to stop."""

from __future__ import annotations

import gc
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack, closing
from types import FrameType
from typing import Final, cast

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from services.common.errors import TwitterError
from services.common.settings import PublicSettings, ServiceSettings
from services.common.telemetry import refuse_address
from services.common.web.lifecycle import Lifecycle
from services.common.web.protocol import Protocol, SlowClients

DRAIN_SECONDS_MAX: Final = 8
KEEP_ALIVE_SECONDS: Final = 75  # longer than a proxy in front keeps its own end, so that we never close under a request
LOOK_AFTER_TICKS: Final = 20
YOUNG_OBJECTS_MAX: Final = 10_000
"""More objects than requests under way hold: what ends with its request is then never looked through for garbage."""
FAILED: Final = 1

log = structlog.get_logger(__name__)


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT, then stop in this order, and return.

    1. Readiness turns false. 2. No new connections; requests under way get DRAIN_SECONDS_MAX. 3. The lifespan closes.
    Exits with code 2 when the port is taken, with 1 when the lifespan refuses to start (it raised a TwitterError)
    or an InvariantError stopped the process.
    """
    with closing(_bind(settings.host, settings.port)) as listener:
        is_clean = uvloop.run(_run(_Server(app, settings), app, listener))
    if not is_clean:
        sys.exit(FAILED)


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before anything costly starts; nobody can connect until the server listens."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        refuse_address("PORT", host, port, error)
    return listener


async def _run(server: _Server, app: FastAPI, listener: socket.socket) -> bool:
    """Whether it started and stopped as it should."""
    lifecycle: Lifecycle = app.state.lifecycle
    # The server minds signals while it serves; the lifespan must not be cut short by one either, at start or close.
    with server.capture_signals():
        async with AsyncExitStack() as stack:
            try:
                # Entered here and not by uvicorn, which would log a refusal to start as a traceback.
                await stack.enter_async_context(app.router.lifespan_context(app))
            except TwitterError as error:
                log.critical("start_refused", error=str(error))
                return False
            _spare_collector()
            await server.serve(sockets=[listener])
    log.info("stopped")
    return lifecycle.failure is None


def _spare_collector() -> None:
    """Have what is there by now, which stays as long as the process, never looked through for garbage again.

    To look through it takes tens of milliseconds, in which nothing is answered; a busy process does so all the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX)


class _Server(uvicorn.Server):
    def __init__(self, app: FastAPI, settings: ServiceSettings) -> None:
        public = settings if isinstance(settings, PublicSettings) else None
        trusted_proxies = public.trusted_proxies if public else ""
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=Protocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=trusted_proxies,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
        )
        super().__init__(config)
        self._lifecycle: Lifecycle = app.state.lifecycle
        # A reader may take its time over the owner's snapshot.
        self._slow_clients = SlowClients() if public else None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and log where."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        log.info("listening", host=host, port=port)

    async def on_tick(self, counter: int) -> bool:
        """Look after slow clients; called ten times a second."""
        if self._slow_clients is not None and counter % LOOK_AFTER_TICKS == 0:
            self._slow_clients.cut(cast("set[Protocol]", self.server_state.connections), time.monotonic())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Stop on a signal. Unlike uvicorn's it does not raise the signal again at the end: a clean stop exits 0."""
        self._lifecycle.drain()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
