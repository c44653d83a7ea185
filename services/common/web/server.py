"""Runs an app until it is told to stop."""

from __future__ import annotations

import signal
import socket
import sys
from contextlib import AsyncExitStack, closing
from types import FrameType
from typing import Final, cast

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.common.errors import TwitterError
from services.common.settings import PublicSettings, ServiceSettings
from services.common.telemetry import refuse_address
from services.common.web.app import Application
from services.common.web.hot import write_whole
from services.common.web.lifecycle import Lifecycle
from services.common.web.problems import problem_response

DRAIN_SECONDS_MAX: Final = 8
KEEP_ALIVE_SECONDS: Final = 75  # longer than a proxy in front keeps its own end, so that we never close under a request
FAILED: Final = 1

log = structlog.get_logger(__name__)


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT, then stop in this order, and return.

    1. Readiness turns false. 2. No new connections; requests under way get DRAIN_SECONDS_MAX. 3. The lifespan closes.
    Exits with code 2 when the port is taken, with 1 when the lifespan refuses to start (it raised a TwitterError)
    or an InvariantError stopped the process.
    """
    trusted_proxies = settings.trusted_proxies if isinstance(settings, PublicSettings) else ""
    with closing(_bind(settings.host, settings.port)) as listener:
        is_clean = uvloop.run(_run(_Server(app, trusted_proxies), app, listener))
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
            await server.serve(sockets=[listener])
    log.info("stopped")
    return lifecycle.failure is None


class _Protocol(HttpToolsProtocol):
    """Answers what is no HTTP as everything else is answered. There is no request yet, so no position and no id."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to serve a request; a hot one is answered right here, without a task.

        Not where more wait behind it in the pipeline, each of which would be answered inside this call.
        """
        if isinstance(app, Application) and not self.pipeline and not cycle.flow.write_paused:
            completed = app.answer_now(cast("Scope", cycle.scope))
            if completed is not None:
                write_whole(cycle, completed)
                return
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer a Problem and close the connection."""
        response = problem_response(400, "bad_http", "This is not valid HTTP", {"Connection": "close"})
        head = [b"HTTP/1.1 400 Bad Request", *(b"%s: %s" % header for header in response.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()


class _Server(uvicorn.Server):
    def __init__(self, app: FastAPI, trusted_proxies: str) -> None:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=_Protocol,
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and log where."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        log.info("listening", host=host, port=port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Stop on a signal. Unlike uvicorn's it does not raise the signal again at the end: a clean stop exits 0."""
        self._lifecycle.drain()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
