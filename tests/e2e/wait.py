"""Bounded waiting for a cluster, seldom enough to leave its API server and this machine to what is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from tests.support import wait

POLL_SECONDS: Final = 0.5

T = TypeVar("T")


def eventually(
    condition: Callable[[], T],
    timeout_seconds: float = wait.PATIENCE_SECONDS,
    describe: Callable[[], object] = lambda: "condition",
) -> T:
    """As `tests.support.wait.eventually`, but it looks only a few times a second."""
    return wait.eventually(condition, timeout_seconds, describe, poll_seconds=POLL_SECONDS)
