"""Bounded waiting for a condition: tests never sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

POLL_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 40.0
"""How long anything may take: a busy machine needs ten times as long as an idle one."""

PROMPT_SECONDS: Final = 4.0
"""An answer that is promised within a second; the rest is for a machine that is busy with something else."""

T = TypeVar("T")


def eventually(
    condition: Callable[[], T],
    timeout_seconds: float = PATIENCE_SECONDS,
    describe: Callable[[], object] = lambda: "condition",
    *,
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """Poll until the condition is true and return its value.

    Raises AssertionError after the timeout, with what ``describe`` says then: show both what is and what should be.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds} s: {describe()}")
        time.sleep(poll_seconds)
    return value
