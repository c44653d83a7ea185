"""The system under torture: every part a real process on this machine, its starts counted, its networks ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.common.auth import add_key
from tests.support.faulty_network import FaultyNetwork
from tests.support.process import Program, ServiceProcess
from tests.support.skewed_clock import SkewedClock, build_clock_library
from tests.support.system import System
from tests.support.wait import PATIENCE_SECONDS

READERS: Final = 3
WRITERS: Final = 2
RETENTION_SECONDS: Final = 5
"""So short that a reader which was away for some seconds needs a snapshot, and that the owner trims all the time."""
START_SECONDS: Final = 120.0
"""How long a part may take to start beside the programs of other tests."""


@dataclass
class Part:
    """One process. Whoever does something to it holds ``lock``. ``clock`` is its own, where that can be."""

    program: Program
    clock: SkewedClock | None = None
    starts: int = 1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        """Who it is."""
        return self.program.name

    @property
    def process(self) -> str:
        """Who it is, and how often it was started."""
        return f"{self.program.name}#{self.starts}"

    @property
    def port(self) -> int:
        """Where it listens, if it is a service."""
        assert isinstance(self.program, ServiceProcess)
        return self.program.port

    def start(self) -> None:
        """Start it once more; does not wait until it serves, except for Redis."""
        self.starts += 1
        self.program.start()

    def wait_ready(self, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it serves. Raises AssertionError if it ends, or takes too long."""
        if isinstance(self.program, ServiceProcess):
            self.program.wait_ready(timeout_seconds)


@dataclass
class Arena:
    """The running system.

    ``append_network`` lies between the last writer and Redis, ``snapshot_network`` between the last reader and the
    owner.
    """

    system: System
    append_network: FaultyNetwork
    snapshot_network: FaultyNetwork
    clocks: Mapping[str, SkewedClock]
    parts: dict[str, Part] = field(init=False)

    def __post_init__(self) -> None:
        self.parts = {program.name: Part(program, self.clocks.get(program.name)) for program in self.system.programs}

    @property
    def readers(self) -> list[Part]:
        """The read services."""
        return [self.parts[program.name] for program in self.system.readers]

    @property
    def writers(self) -> list[Part]:
        """The write services."""
        return [self.parts[program.name] for program in self.system.writers]


@asynccontextmanager
async def arena(
    directory: Path,
    *,
    readers: int = READERS,
    writers: int = WRITERS,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[System], None] = lambda _: None,
) -> AsyncIterator[Arena]:
    """A system with all its files in this directory, which exists, running until the block ends.

    ``prepare`` may change the programs before they are started.
    """
    key_file = directory / "keys.json"
    add_key(key_file, int(time.time()))
    settings = {
        "AUTH_KEYS_FILE": str(key_file),
        "LOG_LEVEL": "warning",
        "LOG_RETENTION_SECONDS": str(RETENTION_SECONDS),
        "SNAPSHOT_LEASE_SECONDS": "10",
        **(environment or {}),
    }
    system = System(directory, readers=readers, writers=writers, environment=settings, start_seconds=START_SECONDS)
    async with AsyncExitStack() as opened:
        append_network = await opened.enter_async_context(FaultyNetwork(system.redis.port))
        snapshot_network = await opened.enter_async_context(FaultyNetwork(system.owner.port))
        system.writers[-1].environment["REDIS_URL"] = append_network.url
        system.readers[-1].environment["OWNER_URL"] = snapshot_network.url.replace("redis://", "http://")
        prepare(system)
        clocks = _with_clocks(system)
        opened.enter_context(closing(system))
        await asyncio.to_thread(system.__enter__)
        yield Arena(system, append_network, snapshot_network, clocks)


def _with_clocks(system: System) -> Mapping[str, SkewedClock]:
    """Give each program a clock of its own, by its name; none where that cannot be."""
    library = build_clock_library(system.directory)
    if library is None:
        return {}
    clocks: dict[str, SkewedClock] = {}
    for program in system.programs:
        clock = SkewedClock(library, system.directory / f"{program.name}.skew")
        program.environment.update(clock.environment)
        clocks[program.name] = clock
    return clocks
