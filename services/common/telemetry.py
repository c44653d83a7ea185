"""Logs and metrics: one structlog pipeline for everything a process says, one registry for each app."""

from __future__ import annotations

import logging
import platform
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import metadata
from typing import Final, Literal, NoReturn

import structlog
from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics, start_http_server
from structlog.typing import EventDict, Processor, WrappedLogger

DISTRIBUTION: Final = "twitter-clone"
# Below these levels they say what we log or count ourselves, or a line for each request, good or malformed.
LIBRARY_LEVELS: Final = {"uvicorn.error": "ERROR", "httpx": "WARNING", "httpcore": "WARNING", "asyncio": "WARNING"}

request_id_var: ContextVar[bytes] = ContextVar("request_id")
"""The id of the request being served; in every line logged meanwhile. Set for each request, so as cheap as can be."""

LogFormat = Literal["auto", "json", "console"]

log = structlog.get_logger(__name__)


def version() -> str:
    """The version of this distribution; ``0`` for a checkout that is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0"


def configure_logging(service: str, level: str = "info", log_format: LogFormat = "auto") -> None:
    """Send structlog, the standard library's loggers and warnings through one pipeline to stderr.

    ``auto`` is readable lines on a terminal and a JSON object a line anywhere else. May be called again.
    """
    is_console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _name_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _NameService(service),
                *(_console_renderers() if is_console else _json_renderers()),
            ],
        )
    )
    logging.captureWarnings(True)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, library_level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(library_level)


def _name_request(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    request_id = request_id_var.get(None)
    if request_id is not None:
        event_dict["request_id"] = request_id.decode()
    return event_dict


@dataclass(frozen=True, slots=True)
class _NameService:
    service: str

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        event_dict["service"] = self.service
        return event_dict


def _json_renderers() -> list[Processor]:
    # No dict_tracebacks: its frames carry local variables, and so e-mails and passwords, into the log.
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _console_renderers() -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [structlog.processors.format_exc_info, escape_controls, renderer]


def escape_controls(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Keep a value from breaking its line or talking to the terminal; a traceback keeps its line ends."""
    for key, value in event_dict.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n" if key == "exception" else ""
            event_dict[key] = "".join(
                char if char.isprintable() or char in kept else repr(char)[1:-1] for char in value
            )
    return event_dict


def create_registry(*, sqlite_version: str = "") -> CollectorRegistry:
    """A registry of its own for one app: process metrics and ``build_info`` are in it."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Info("build", "What is running here.", registry=registry)
    build.info({"version": version(), "python": platform.python_version(), "sqlite": sqlite_version})
    return registry


def refuse_address(variable: str, host: str, port: int, error: OSError) -> NoReturn:
    """Say on stderr which variable names a port that cannot be had, and exit with code 2, as for any bad setting."""
    reason = f"cannot listen on {host}:{port} ({error.strerror})"
    sys.stderr.write(f"{variable}: {reason}. Set this environment variable to a free port, 0 for any.\n")
    sys.exit(2)


class MetricsServer:
    """Serves a registry at ``/metrics`` on a port of its own, from a thread of its own."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            refuse_address("METRICS_PORT", host, port, error)
        self.port: int = self._server.server_port
        log.info("metrics_listening", host=host, port=self.port)

    def close(self) -> None:
        """Stop serving and wait for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
