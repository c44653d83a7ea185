"""Whether this process is on its way out, and why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import structlog

from services.common.errors import InvariantError

log = structlog.get_logger(__name__)


def terminate_self() -> None:
    """Ask this process to stop as an operator would: in-flight requests finish, then the lifespan closes."""
    os.kill(os.getpid(), signal.SIGTERM)


class Lifecycle:
    """One for each app, at ``app.state.lifecycle``. Its methods may be called from any thread."""

    def __init__(self, stop: Callable[[], None] = terminate_self) -> None:
        self._stop = stop
        self.is_draining = False
        self.failure: InvariantError | None = None

    def drain(self) -> None:
        """From here on the process is not ready for new work."""
        self.is_draining = True

    def fail(self, error: InvariantError) -> None:
        """Say why this process cannot go on, and stop it; it exits with code 1. Later failures are only logged."""
        log.critical("invariant_broken", error=str(error), exc_info=error)
        if self.failure is None:
            self.failure = error
            self.drain()
            self._stop()
