"""A part of the system: one process, how it is started, and how one asks whether it is ready."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

Readiness = Callable[[], Awaitable[str | None]]
"""Answers None when a part is ready, else why it is not. Returns within a second or two, raises nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """How one process is started and asked; ``stop_seconds`` is how long it may take to leave after SIGTERM."""

    name: str
    command: tuple[str, ...]
    readiness: Readiness
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 15.0


class Child(Protocol):
    """A started process."""

    @property
    def pid(self) -> int:
        """Its process id."""

    async def wait(self) -> int:
        """Return its exit code (negative: the signal that ended it) once it has ended. May be awaited by several."""

    def terminate(self) -> None:
        """Ask it to leave. Nothing happens when it has."""

    def kill(self) -> None:
        """End it. Nothing happens when it has ended."""


Launch = Callable[[Part], Awaitable[Child]]
