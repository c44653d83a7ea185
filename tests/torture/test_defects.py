"""The checker is itself tested: each known defect is planted in a real process, and the checker must find it.

Nothing is left to chance: a schedule brings about, request by request, what makes its defect do harm. A system without
a defect passes every schedule, and then nothing may be found.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.log.client import EventLog
from tests.support.armed import arm, disarm, struck_in
from tests.support.faulty_network import Fault as NetworkFault
from tests.support.redis_server import RedisServer
from tests.support.system import System
from tests.torture import defective
from tests.torture.arena import Arena, Part, arena
from tests.torture.checker import check
from tests.torture.clients import Client, World
from tests.torture.ending import collect
from tests.torture.hand import PATIENCE_SECONDS, Hand
from tests.torture.history import History, HistoryFile, read_records

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

CLIENTS = 4
IDLE_SECONDS = 0.05
FEW = 5
MANY = 10
"""More entries than a log has that was trimmed by length (defective.KEPT_ENTRIES)."""
RESENDS_MAX = 50
"""More often than a call is sent in its time."""
SEED = 20261122
END_SECONDS = 120.0
END_SECONDS_WITH_A_DEFECT = 15.0
"""So long all may take to apply the whole log: with some defects they never do."""


@dataclass
class Trial:
    """A small system in use, one kind of its processes perhaps with a defect that tells when it does harm."""

    arena: Arena
    world: World
    history: HistoryFile
    hand: Hand
    harm_is_told: bool = False
    clients: int = 0

    @property
    def owner(self) -> Part:
        """The db-updater."""
        return self.arena.parts["owner"]

    @property
    def redis(self) -> RedisServer:
        """The Redis."""
        return self.arena.system.redis

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Let clients follow chance meanwhile."""
        self.world.is_over = False
        tasks = [asyncio.create_task(self._client().run()) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            self.world.is_over = True
            await asyncio.gather(*tasks)

    def _client(self) -> Client:
        self.clients += 1
        ground = self.arena
        return Client(
            f"c{self.clients}",
            SEED,
            self.world,
            self.history,
            writers=ground.writers,
            readers=ground.readers,
            idle_seconds=IDLE_SECONDS,
        )

    async def go_on(self, operations: int = 40) -> None:
        """Wait until so many more of the load are acknowledged."""
        enough = self.world.acknowledged + operations
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.world.acknowledged < enough:
                await asyncio.sleep(0.01)

    @property
    def is_harmed(self) -> bool:
        """Whether a planted defect, if it can tell, has done harm often enough to be sure that it is seen."""
        notes = [part.program.directory / defective.HARM for part in self.arena.parts.values()]
        return not self.harm_is_told or sum(len(path.read_text().split()) for path in notes if path.exists()) >= FEW

    async def start(self, part: Part) -> None:
        """Start it and wait until it serves."""
        await asyncio.to_thread(part.start)
        await asyncio.to_thread(part.wait_ready, PATIENCE_SECONDS)


Schedule = Callable[[Trial], Awaitable[None]]


async def answers_lost(trial: Trial) -> None:
    """Answers of the log get lost: that of one call, or all until the client was told that nobody knows.

    The one goes on until the writer has found out what became of enough writes; under their keys, the others are
    repeated until they are acknowledged.
    """
    network, hand = trial.arena.append_network, trial.hand
    async with trial.load():
        await trial.go_on()
    acknowledged = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while acknowledged < FEW:
            network.faults.append(NetworkFault.LOSE_ANSWER)
            acknowledged += await hand.tweet() == "ok"
    for number in range(FEW):
        wanted, key = await hand.new_tweet(), f"answers-lost-{number}"
        network.faults.extend([NetworkFault.WITHHOLD_ANSWER] * RESENDS_MAX)
        await hand.ask(wanted, key)
        network.faults.clear()
        await hand.insist(wanted, key)


async def redis_killed(trial: Trial) -> None:
    """Redis is killed under load, and comes back when clients were told what became of writes while it was away."""
    async with trial.load():
        await trial.go_on()
        trial.redis.kill()
        for _ in range(FEW):
            await trial.hand.tweet()
        await asyncio.to_thread(trial.redis.start)
        await trial.go_on()


async def owner_held(trial: Trial) -> None:
    """The owner is held before it trims, until much was written that it has not read."""
    directory = trial.owner.program.directory
    arm(directory, "trim:before", "hold")
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not struck_in(directory):
                await trial.hand.tweet()
        for _ in range(MANY):
            await trial.hand.insist(await trial.hand.new_tweet())
    finally:
        disarm(directory)


async def reader_left_behind(trial: Trial) -> None:
    """A reader is stopped until the log no longer has what it needs next."""
    reader = trial.arena.readers[-1]
    async with trial.load():
        await trial.go_on()
        reader.program.pause()
        try:
            await trial.hand.insist(await trial.hand.new_tweet())
            with closing(EventLog(trial.redis.url)) as log:
                head = log.head()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while (log.status().horizon or 0) <= head:  # not before the lease of its snapshot has ended
                        await asyncio.sleep(0.05)
        finally:
            reader.program.resume()
        await trial.go_on()


async def reader_killed(trial: Trial) -> None:
    """A reader is killed, and tweets are written all the while until it serves again."""
    reader = trial.arena.readers[-1]
    async with trial.load():
        await trial.go_on()
        await asyncio.to_thread(reader.program.kill)
        started = asyncio.create_task(trial.start(reader))
        while not started.done():
            await trial.hand.tweet()
        await started


async def liked_and_read(trial: Trial) -> None:
    """A tweet is liked, by one user twice, and read again and again."""
    hand = trial.hand
    user = await hand.user()
    tweet_id = await hand.insist(await hand.new_tweet())
    rounds = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while rounds < FEW or not trial.is_harmed:
            await hand.like(tweet_id, user)
            await hand.like(tweet_id)
            for _ in range(FEW):
                await hand.read(tweet_id)
            rounds += 1


def power_cut(fsync: str) -> Schedule:
    """The power fails just after some writes were acknowledged: Redis's file ends where it was fsynced last."""

    async def schedule(trial: Trial) -> None:
        redis, owner, hand = trial.redis, trial.owner, trial.hand
        redis.kill()
        redis.command[redis.command.index("--appendfsync") + 1] = fsync
        redis.start()
        disk = Disk(redis)
        async with trial.load():
            await trial.go_on()
        owner.program.pause()  # what it has applied would be kept
        is_written = False
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_written:
                await hand.insist(await hand.new_tweet())
                is_synced = await asyncio.to_thread(disk.holds_everything)
                is_written = fsync == "always" or not is_synced
        redis.kill()
        owner.program.kill()
        disk.lose_what_is_not_synced()
        await asyncio.to_thread(redis.start)
        await trial.start(owner)
        async with trial.load():
            await trial.go_on()

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


@asynccontextmanager
async def trial(directory: Path, defect: str = defective.NONE, modules: tuple[str, ...] = ()) -> AsyncIterator[Trial]:
    """A running system, with a defect in the services of these modules."""

    def plant(system: System) -> None:
        for program in (system.owner, *system.readers, *system.writers):
            module = program.command[-1]
            planted = defect if module in modules else defective.NONE
            program.command[1:] = ["-m", "tests.torture.defective", planted, module]

    settings = {"LOG_RETENTION_SECONDS": "0"}
    async with arena(directory, readers=2, writers=1, environment=settings, prepare=plant) as ground:
        with HistoryFile(directory / "history.ndjson") as history:
            hand = Hand("hand", history, ground)
            try:
                await hand.user()
                yield Trial(ground, World(), history, hand, harm_is_told=defect in HARM_IS_TOLD)
            finally:
                hand.close()


async def violations(trial: Trial, patience_seconds: float) -> dict[str, str]:
    """What the checker finds in all that has happened so far: an example of each kind."""
    trial.history.flush()
    records = list(read_records(trial.history.path))
    records += await asyncio.to_thread(lambda: list(collect(trial.arena.system, patience_seconds)))
    return {violation.kind: violation.text for violation in check(History.of(records))}


SCHEDULES: list[Schedule] = [
    answers_lost,
    redis_killed,
    owner_held,
    reader_left_behind,
    reader_killed,
    liked_and_read,
    power_cut("always"),
]
DEFECTS: list[tuple[str, tuple[str, ...], Schedule, str]] = [
    ("acknowledge_before_append", ("services.write",), redis_killed, "lost"),
    ("retry_as_a_new_call", ("services.write",), answers_lost, "doubled"),
    ("forget_idempotency_keys", ("services.write",), answers_lost, "doubled"),
    ("trim_by_length", ("services.db_updater",), owner_held, "lost"),
    ("ignore_prev", ("services.read",), reader_left_behind, "copies_differ"),
    ("start_at_the_end", ("services.read",), reader_killed, "copies_differ"),
    ("fill_the_cache_late", ("services.read",), liked_and_read, "wrong_read"),
    ("count_without_row", ("services.db_updater", "services.read"), liked_and_read, "miscounted"),
]
HARM_IS_TOLD = ("fill_the_cache_late", "count_without_row")


@pytest.mark.parametrize(
    ("defect", "modules", "schedule", "kind"), [pytest.param(*each, id=each[0]) for each in DEFECTS]
)
async def test_checker_finds_a_defect(
    tmp_path: Path, defect: str, modules: tuple[str, ...], schedule: Schedule, kind: str
) -> None:
    """Planted in every process of the services it belongs to."""
    async with trial(tmp_path, defect, modules) as broken:
        await schedule(broken)
        assert kind in await violations(broken, END_SECONDS_WITH_A_DEFECT)


def test_every_planted_defect_has_a_schedule() -> None:
    """The list of defects is that of the programs, and a sound system passes all their schedules."""
    assert [defect for defect, *_ in DEFECTS] == list(defective.DEFECTS)
    assert {schedule for _, _, schedule, _ in DEFECTS} < set(SCHEDULES)


async def test_checker_finds_nothing_in_a_sound_system(tmp_path: Path) -> None:
    """It is not a schedule that breaks a promise: all of them, one after another, and a power cut at the end."""
    async with trial(tmp_path) as sound:
        for schedule in SCHEDULES:
            await schedule(sound)
            assert await violations(sound, END_SECONDS) == {}, schedule


async def test_power_cut_loses_what_redis_syncs_once_a_second(tmp_path: Path) -> None:
    """With ``everysec`` acknowledged writes are gone, and the checker says so; with ``always`` none was (see above)."""
    async with trial(tmp_path) as cut:
        await power_cut("everysec")(cut)
        assert "lost" in await violations(cut, END_SECONDS)
