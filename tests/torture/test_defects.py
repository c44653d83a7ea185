"""The checker is itself tested: each known defect is planted in a real process, and the checker must find it.

Each schedule also runs without a defect, and then nothing may be found.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.common.log.client import EventLog
from tests.support.faulty_network import Fault as NetworkFault
from tests.support.redis_server import RedisServer
from tests.support.system import System
from tests.torture import defective
from tests.torture.arena import Arena, Part, arena
from tests.torture.checker import check
from tests.torture.clients import Client, World
from tests.torture.ending import collect
from tests.torture.history import History, HistoryFile, read_records

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

CLIENTS = 8
IDLE_SECONDS = 0.05
FEW = 5
HARMS = 10
"""So often a planted defect does what it does: once may make no difference, as after a like and its undoing."""
WRITES_WITHOUT_REDIS = 3 * CLIENTS
"""So many that some of them were sent when Redis was gone: a client has one at a time on its way."""
SEED = 20261122
PATIENCE_SECONDS = 120.0


class Lasting(deque[tuple[int, int]]):
    """Tweets that are replaced now and then only, so that much happens to each."""

    def append(self, tweet: tuple[int, int]) -> None:
        """Take every twentieth."""
        if len(self) < FEW or tweet[0] % 20 == 0:
            super().append(tweet)


@dataclass
class Trial:
    """A small system under load, one kind of its processes perhaps with a defect."""

    arena: Arena
    world: World
    history: HistoryFile
    harm_is_told: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def owner(self) -> Part:
        """The db-updater."""
        return self.arena.parts["owner"]

    @property
    def redis(self) -> RedisServer:
        """The Redis."""
        return self.arena.system.redis

    def begin(self, clients: int = CLIENTS) -> None:
        """Let clients ask."""
        self.world.is_over = False
        ground, names = self.arena, range(len(self.tasks), len(self.tasks) + clients)
        self.tasks += [
            asyncio.create_task(
                Client(
                    f"c{name}",
                    SEED,
                    self.world,
                    self.history,
                    writers=ground.writers,
                    readers=ground.readers,
                    idle_seconds=IDLE_SECONDS,
                ).run()
            )
            for name in names
        ]

    async def end(self) -> None:
        """Let them come to their end."""
        self.world.is_over = True
        await asyncio.gather(*self.tasks)

    async def go_on(self, operations: int) -> None:
        """Wait until so many more are acknowledged."""
        enough = self.world.acknowledged + operations
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.world.acknowledged < enough:
                await asyncio.sleep(0.01)

    async def until_told(self, writes: int) -> None:
        """Wait until clients were told, or have given up to hear, what became of so many more writes."""
        enough = self.world.writes_ended + writes
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.world.writes_ended < enough:
                await asyncio.sleep(0.01)

    async def until_struck(self) -> None:
        """Wait until a planted defect that can tell has done enough harm to be seen."""
        notes = [part.program.directory / defective.STRUCK for part in self.arena.parts.values()]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.harm_is_told and sum(len(path.read_text().split()) for path in notes if path.exists()) < HARMS:
                await asyncio.sleep(0.05)

    async def kill(self, part: Part) -> None:
        """kill -9, and start again."""
        await asyncio.to_thread(part.program.kill)
        await self.start(part)

    async def start(self, part: Part) -> None:
        """Start it and wait until it serves."""
        await asyncio.to_thread(part.start)
        await asyncio.to_thread(part.wait_ready, PATIENCE_SECONDS)


Schedule = Callable[[Trial], Awaitable[None]]


async def found(directory: Path, schedule: Schedule, defect: str = "", modules: tuple[str, ...] = ()) -> set[str]:
    """The kinds of violation found after a schedule, with a defect in the services of these modules."""
    path = directory / "history.ndjson"

    def plant(system: System) -> None:
        for program in (system.owner, *system.readers, *system.writers):
            module = program.command[-1]
            if module in modules:
                program.command[1:] = ["-m", "tests.torture.defective", defect, module]

    readers = 2 if schedule is reader_left_behind else 1
    settings = {"LOG_RETENTION_SECONDS": "0"}
    async with arena(directory, readers=readers, writers=1, environment=settings, prepare=plant) as ground:
        with HistoryFile(path) as history:
            await schedule(Trial(ground, World(), history, harm_is_told=defect in HARM_IS_TOLD))
            for record in await asyncio.to_thread(lambda: list(collect(ground.system, patience_seconds=30))):
                history.add(record)
    violations = check(History.of(read_records(path)))
    for violation in violations[:10]:
        sys.stderr.write(f"{violation}\n")
    return {violation.kind for violation in violations}


async def answers_lost(trial: Trial) -> None:
    """Answers of the log get lost, one after another, and some do not come at all until the client has given up."""
    trial.begin()
    network = trial.arena.append_network
    for faults in ([NetworkFault.LOSE_ANSWER] * 3, [NetworkFault.WITHHOLD_ANSWER] * 6) * 3:
        await trial.go_on(50)
        network.faults.extend(faults)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while network.faults:
                await asyncio.sleep(0.01)
    await trial.end()


async def redis_killed(trial: Trial) -> None:
    """Redis is killed under load, and comes back when clients were told what became of writes while it was away."""
    trial.begin()
    for _ in range(3):
        await trial.go_on(50)
        trial.redis.kill()
        await trial.until_told(WRITES_WITHOUT_REDIS)
        await asyncio.to_thread(trial.redis.start)
    await trial.go_on(50)
    await trial.end()


async def quiet_load(trial: Trial) -> None:
    """Nothing but load."""
    trial.begin()
    await trial.go_on(600)
    await trial.end()


async def few_tweets(trial: Trial) -> None:
    """All clients write about the same few tweets, and read them."""
    trial.world.tweets = Lasting(maxlen=FEW)
    trial.begin()
    await trial.go_on(200)
    await trial.until_struck()
    await trial.end()


async def reader_killed(trial: Trial) -> None:
    """A reader is killed under load, and comes back."""
    trial.begin()
    for _ in range(2):
        await trial.go_on(100)
        await trial.kill(trial.arena.readers[-1])
    await trial.end()


async def reader_left_behind(trial: Trial) -> None:
    """A reader is stopped until the log no longer has what it needs next."""
    reader = trial.arena.readers[-1]
    trial.begin()
    await trial.go_on(100)
    reader.program.pause()
    try:
        await trial.go_on(100)
        with closing(EventLog(trial.redis.url)) as log:
            head = log.head()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (log.status().horizon or 0) <= head:  # not before the lease of its snapshot has ended
                    await asyncio.sleep(0.05)
    finally:
        reader.program.resume()
    await trial.go_on(100)
    await trial.end()


def power_cut(fsync: str) -> Schedule:
    """The power fails just after some writes were acknowledged: Redis's file ends where it was fsynced last."""

    async def schedule(trial: Trial) -> None:
        redis, owner = trial.redis, trial.owner
        redis.kill()
        redis.command[redis.command.index("--appendfsync") + 1] = fsync
        redis.start()
        disk = Disk(redis)
        trial.begin()
        await trial.go_on(100)
        owner.program.pause()  # what it has applied would be kept
        await trial.go_on(50)
        await trial.end()
        while await asyncio.to_thread(disk.holds_everything) and fsync != "always":
            trial.begin()
            await trial.go_on(20)
            await trial.end()
        redis.kill()
        owner.program.kill()
        disk.lose_what_is_not_synced()
        await asyncio.to_thread(redis.start)
        await trial.start(owner)
        trial.begin()
        await trial.go_on(50)
        await trial.end()

    return schedule


class Disk:
    """What of Redis's append-only file would survive a power cut, as far as Redis itself says so (WAITAOF)."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        (self._file,) = redis.directory.glob("appendonlydir/*.incr.aof")
        self._synced_bytes = self._file.stat().st_size

    def holds_everything(self) -> bool:
        """Whether all that was written until now is synced; what is, is remembered."""
        with self._redis.client() as client:
            client.set("marker", 1)
            written_bytes = self._file.stat().st_size
            (synced, _) = client.execute_command("WAITAOF", 1, 0, 1)
        if synced:
            self._synced_bytes = written_bytes
        return bool(synced)

    def lose_what_is_not_synced(self) -> None:
        """Cut the file; the server does not run."""
        os.truncate(self._file, self._synced_bytes)


DEFECTS: list[tuple[str, tuple[str, ...], Schedule, str]] = [
    ("acknowledge_before_append", ("services.write",), redis_killed, "lost"),
    ("retry_as_a_new_call", ("services.write",), answers_lost, "doubled"),
    ("forget_idempotency_keys", ("services.write",), answers_lost, "doubled"),
    ("trim_by_length", ("services.db_updater",), quiet_load, "lost"),
    ("ignore_prev", ("services.read",), reader_left_behind, "copies_differ"),
    ("start_at_the_end", ("services.read",), reader_killed, "copies_differ"),
    ("fill_the_cache_late", ("services.read",), few_tweets, "wrong_read"),
    ("count_without_row", ("services.db_updater", "services.read"), few_tweets, "miscounted"),
]
HARM_IS_TOLD = ("fill_the_cache_late", "count_without_row")


@pytest.mark.parametrize(
    ("defect", "modules", "schedule", "kind"), [pytest.param(*each, id=each[0]) for each in DEFECTS]
)
async def test_checker_finds_a_defect(
    tmp_path: Path, defect: str, modules: tuple[str, ...], schedule: Schedule, kind: str
) -> None:
    """Planted in every process of the services it belongs to."""
    assert kind in await found(tmp_path, schedule, defect, modules)


def test_every_planted_defect_has_a_schedule() -> None:
    """The list of defects is that of the programs."""
    assert [defect for defect, *_ in DEFECTS] == list(defective.DEFECTS)


@pytest.mark.parametrize("schedule", [answers_lost, redis_killed, few_tweets, reader_killed, reader_left_behind])
async def test_checker_finds_nothing_in_a_sound_system(tmp_path: Path, schedule: Schedule) -> None:
    """It is not the schedule that breaks a promise."""
    assert await found(tmp_path, schedule) == set()


async def test_power_cut_loses_nothing_that_redis_has_synced(tmp_path: Path) -> None:
    """With ``appendfsync always``, which is what the write service asks for."""
    assert await found(tmp_path, power_cut("always")) == set()


async def test_power_cut_loses_what_redis_syncs_once_a_second(tmp_path: Path) -> None:
    """With ``everysec`` acknowledged writes are gone, and the checker says so."""
    assert "lost" in await found(tmp_path, power_cut("everysec"))
