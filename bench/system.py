"""The system that is measured: real processes, as the tests start them, each on the core a scenario gives it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import usage
from bench.data import Society, volume_of
from bench.machine import LOAD_CORE, SERVER_CORE, jemalloc, pin
from services.common.auth.key_file import add_key, read_key_file
from services.common.auth.signing_keys import parse_keys
from services.common.auth.tokens import LIFE_SECONDS, Claims, encode
from services.common.log.client import EventLog
from tests.support.process import Program, ServiceProcess
from tests.support.system import System
from tests.support.wait import eventually

UNREACHED: Final = "10000000"
"""A limit that counts every request and refuses none."""
START_SECONDS_MAX: Final = 600.0
"""An owner of a million accounts writes all their names into an empty Redis first."""
TOKENS: Final = 1000


class BenchSystem(System):
    """Redis, an owner, a reader and a writer on this society, with authentication, limits and metrics on.

    The owner has applied everything when it starts; see bench/data.py. All run on the load's core until told
    otherwise.
    """

    def __init__(self, directory: Path, society: Society, *, readers: int = 1) -> None:
        self.society = society
        self.keys_file = directory / "keys.json"
        directory.mkdir(parents=True, exist_ok=True)
        add_key(self.keys_file, int(time.time()))  # a first key signs at once
        settings = {
            "AUTH_KEYS_FILE": str(self.keys_file),
            "AUTH_REQUIRED": "true",
            "ACCOUNT_REQUESTS_PER_SECOND": UNREACHED,
            "ADDRESS_REQUESTS_PER_SECOND": UNREACHED,
            "LOG_RETENTION_SECONDS": "60",
        }
        super().__init__(directory, readers=readers, environment=settings)
        self.redis.environment["LD_PRELOAD"] = jemalloc()
        volume_of(society, self.owner_directory)

    @property
    def reader(self) -> ServiceProcess:
        """The first reader."""
        return self.readers[0]

    @property
    def writer(self) -> ServiceProcess:
        """The first writer."""
        return self.writers[0]

    def start(self) -> None:
        """Start everything, each where what it needs is there, and wait until it serves."""
        for program in self.programs:
            program.start()
            pin(program.pid, LOAD_CORE)
            if isinstance(program, ServiceProcess) and program not in self.writers:
                program.wait_ready(START_SECONDS_MAX)
        self.writer.wait_ready(START_SECONDS_MAX)

    @contextmanager
    def measured(self, *programs: Program) -> Iterator[None]:
        """Gives these the server's core, alone."""
        for program in programs:
            pin(program.pid, SERVER_CORE)
        try:
            yield
        finally:
            for program in programs:
                if program.is_running:
                    pin(program.pid, LOAD_CORE)

    @contextmanager
    def paused(self, *programs: Program) -> Iterator[None]:
        """Stalls these, which would take processor time that on a machine with more cores is not the load's."""
        for program in programs:
            program.pause()
        try:
            yield
        finally:
            for program in programs:
                program.resume()

    def log(self) -> EventLog:
        """A client of the log."""
        return EventLog(self.redis.url, timeout_seconds=10)

    def tokens(self, count: int = TOKENS) -> Path:
        """A file of access tokens, a line each, of the last users of the society."""
        now, head = int(time.time()), self._head()
        key = parse_keys(read_key_file(self.keys_file)).signer(now)
        count = min(count, self.society.users)
        users = [self.society.user_id(self.society.users - 1 - number) for number in range(count)]
        path = self.directory / "tokens"
        claims = (Claims(user, "access", head, now, now + LIFE_SECONDS["access"], "bench") for user in users)
        path.write_text("".join(f"{encode(each, key)}\n" for each in claims))
        return path

    def position_of(self, follower: ServiceProcess) -> int:
        """How far a follower has applied the log."""
        if follower is self.owner:
            return int(follower.http.get("/internal/position").json()["position"])
        return int(follower.http.get("/").headers["X-Log-Position"])

    def wait_until_even(self) -> None:
        """Wait until every follower has applied all of the log."""
        head = self._head()
        eventually(
            lambda: all(position >= head for position in self.positions().values()),
            START_SECONDS_MAX,
            lambda: f"head {head}, applied: {self.positions()}",
        )

    def memory(self) -> Mapping[str, usage.Memory]:
        """What each process holds."""
        return {program.name: usage.memory(program.pid) for program in self.programs}

    def _head(self) -> int:
        log = self.log()
        try:
            return log.head()
        finally:
            log.close()
