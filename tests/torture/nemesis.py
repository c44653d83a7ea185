"""What is done to the parts of the system while clients use it, decided by a seed.

==========  =======================================================================================================
``kill``    kill -9, and start again at once; sometimes of everything at once
``pause``   SIGSTOP for up to two and a half seconds: its connections stay open
``restart`` SIGTERM, which must end it with exit code 0, and start again
``cut``     Redis closes all its connections, answers that were on their way included
``lose``    append calls of a writer get lost: the request, or the answer, or its connection goes mute
``corrupt`` a reader starts anew, and the snapshot that it is sent has a flipped bit on the way
``disk``    no file of a process can grow (RLIMIT_FSIZE: EFBIG, where a full disk gives ENOSPC) for some seconds
``clock``   the wall clock of a process is set some seconds ahead or back, and stays so; that of Redis also a year,
            for some seconds
==========  =======================================================================================================
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Final

from redis.exceptions import RedisError

from tests.support.faulty_network import Fault as NetworkFault
from tests.support.process import ServiceProcess
from tests.torture.arena import Arena, Part
from tests.torture.clients import World
from tests.torture.history import Fault, HistoryFile

ROUND_SECONDS: Final = 30.0
STORM_SECONDS: Final = 23.0
"""So long of each round there are faults; the rest is calm, so that the figures have something to be compared with."""
GAP_SECONDS_MAX: Final = 1.0
PAUSED_SECONDS_MAX: Final = 2.5
FULL_SECONDS_MAX: Final = 3.0
PATIENCE_SECONDS: Final = 600.0
"""How long a part may take to serve again: the machine may be busy with something else altogether."""
HEADROOM_BYTES: Final = 2**18
"""So much a process without disk may still write to the file that takes its log."""
SKEW_SECONDS_MAX: Final = 20.0
"""Two clocks differ by less than the minute in which a reader takes a position for one that it has yet to see."""
LEAP_SECONDS: Final = 365 * 86400.0
LEAPING_SECONDS_MAX: Final = 3.0
LEAPS: Final = 0.4
"""The share of times in which Redis's clock is set that it leaps first."""

WEIGHTS: Final = {
    "kill": 12,
    "kill_all": 1,
    "pause": 4,
    "restart": 2,
    "cut": 2,
    "lose": 3,
    "corrupt": 1,
    "disk": 2,
    "clock": 3,
}
REDIS_WEIGHT: Final = 4
"""It is struck so much more often than another part: all that is acknowledged rests on it alone for a moment."""


class Nemesis:
    """Does one thing after another to the parts, in as many lanes as asked for, never two to one part."""

    def __init__(self, arena: Arena, world: World, history: HistoryFile, seed: int) -> None:
        self._arena = arena
        self._world = world
        self._history = history
        self._seed = seed
        self._began = time.monotonic()
        self.kills = 0
        self.faults = 0
        self.failures: list[Fault] = []

    async def run(self, lane: int) -> None:
        """One lane, until the world is over."""
        chance = Random(f"{self._seed} lane {lane}")
        deeds: dict[str, Callable[[Random], Awaitable[None]]] = {
            "kill": self._kill_one,
            "kill_all": self._kill_all,
            "pause": self._pause,
            "restart": self._restart,
            "cut": self._cut,
            "lose": self._lose,
            "corrupt": self._corrupt,
            "disk": self._fill_disk,
            "clock": self._set_clock,
        }
        while not self._world.is_over:
            if (time.monotonic() - self._began) % ROUND_SECONDS > STORM_SECONDS:
                await asyncio.sleep(0.1)
                continue
            (deed,) = chance.choices(list(deeds), [WEIGHTS[name] for name in deeds])
            await deeds[deed](chance)
            await asyncio.sleep(chance.random() * GAP_SECONDS_MAX)

    async def settle(self) -> None:
        """Wait until every part runs and serves."""
        for part in self._arena.parts.values():
            async with part.lock:
                if part.clock is not None:
                    part.clock.seconds = 0
                await self._revive(part)
                await asyncio.to_thread(part.wait_ready, PATIENCE_SECONDS)

    def _part(self, chance: Random) -> Part:
        parts = list(self._arena.parts.values())
        (part,) = chance.choices(parts, [REDIS_WEIGHT if part.name == "redis" else 1 for part in parts])
        return part

    async def _kill_one(self, chance: Random) -> None:
        part = self._part(chance)
        async with part.lock:
            await self._kill([part])

    async def _kill_all(self, _chance: Random) -> None:
        parts = list(self._arena.parts.values())
        for part in parts:
            await part.lock.acquire()
        try:
            await self._kill(parts)
        finally:
            for part in parts:
                part.lock.release()

    async def _kill(self, parts: Sequence[Part]) -> None:
        for part in parts:
            await self._revive(part)
        began = time.monotonic()
        for part in parts:
            self.kills += 1
            part.program.kill()
        for part in parts:
            await asyncio.to_thread(part.start)
        await asyncio.gather(*(self._recover("kill", part, began) for part in parts))

    async def _pause(self, chance: Random) -> None:
        part = self._part(chance)
        async with part.lock:
            await self._revive(part)
            began = time.monotonic()
            part.program.pause()
            await asyncio.sleep(chance.uniform(0.1, PAUSED_SECONDS_MAX))
            part.program.resume()
            await self._recover("pause", part, began)

    async def _restart(self, chance: Random) -> None:
        part = self._part(chance)
        async with part.lock:
            await self._revive(part)
            began = time.monotonic()
            code = await asyncio.to_thread(part.program.terminate)
            if code:
                self._note(Fault("restart", part.name, began, time.monotonic(), recovered=False, detail=f"exit {code}"))
            await asyncio.to_thread(part.start)
            await self._recover("restart", part, began)

    async def _cut(self, chance: Random) -> None:
        redis = self._arena.parts["redis"]
        async with redis.lock:
            began = time.monotonic()
            for _ in range(chance.randint(1, 5)):
                with suppress(RedisError), self._arena.system.redis.client() as client:  # it cuts this one, too
                    client.execute_command("CLIENT KILL TYPE normal")
                await asyncio.sleep(chance.random() / 10)
            await self._recover("cut", redis, began)

    async def _lose(self, chance: Random) -> None:
        network, writer = self._arena.append_network, self._arena.writers[-1]
        began = time.monotonic()
        network.faults.extend(chance.choices(list(NetworkFault), k=chance.randint(1, 6)))
        if chance.random() < 0.3:
            network.mute_connections()
        while network.faults and time.monotonic() < began + 1 and not self._world.is_over:
            await asyncio.sleep(0.01)
        network.faults.clear()
        self._note(Fault("lose", writer.name, began, time.monotonic()))

    async def _corrupt(self, _chance: Random) -> None:
        reader, network = self._arena.readers[-1], self._arena.snapshot_network
        flipped: list[int] = []

        def flip(piece: bytes) -> bytes:
            if flipped or len(piece) < 1024:
                return piece
            middle = len(piece) // 2
            flipped.append(middle)
            return piece[:middle] + bytes([piece[middle] ^ 1]) + piece[middle + 1 :]

        async with reader.lock:
            await self._revive(reader)
            network.on_answer = flip
            began = time.monotonic()
            self.kills += 1
            reader.program.kill()
            await asyncio.to_thread(reader.start)
            await self._recover("corrupt", reader, began, detail=f"{len(flipped)} bits flipped")
            network.on_answer = None

    async def _fill_disk(self, chance: Random) -> None:
        part = self._part(chance)
        async with part.lock:
            await self._revive(part)
            program = part.program
            began = time.monotonic()
            log_bytes = program.log_path.stat().st_size
            unlimited = resource.prlimit(program.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (log_bytes + HEADROOM_BYTES, unlimited[1]))
            until = began + chance.uniform(0.5, FULL_SECONDS_MAX)
            while time.monotonic() < until and program.is_running:
                await asyncio.sleep(0.02)
            if program.is_running:
                resource.prlimit(program.pid, resource.RLIMIT_FSIZE, unlimited)
            elif part is self._arena.parts["redis"]:
                await asyncio.to_thread(part.start)  # with `always` it ends rather than acknowledge what it cannot keep
            await self._recover("disk", part, began)

    async def _set_clock(self, chance: Random) -> None:
        part = self._part(chance)
        if part.clock is None:
            return
        async with part.lock:
            await self._revive(part)
            began = time.monotonic()
            skew = chance.uniform(-SKEW_SECONDS_MAX, SKEW_SECONDS_MAX)
            if part is self._arena.parts["redis"] and chance.random() < LEAPS:
                part.clock.seconds = chance.choice([-LEAP_SECONDS, LEAP_SECONDS])
                await asyncio.sleep(chance.uniform(0.1, LEAPING_SECONDS_MAX))
            part.clock.seconds = skew
            await self._recover("clock", part, began, detail=f"{skew:+.3f} s")

    async def _recover(self, kind: str, part: Part, began: float, detail: str = "") -> None:
        """Note a fault when the part serves again: Redis when a write is acknowledged, a service when it is ready."""
        try:
            if isinstance(part.program, ServiceProcess):
                await asyncio.to_thread(part.wait_ready, PATIENCE_SECONDS)
            else:
                await self._until_acknowledged(time.monotonic())
        except AssertionError as error:
            self._note(Fault(kind, part.name, began, time.monotonic(), recovered=False, detail=str(error)))
            await self._revive(part)
        else:
            self._note(Fault(kind, part.name, began, time.monotonic(), detail=detail))

    async def _until_acknowledged(self, after: float) -> None:
        while self._world.write_acknowledged_at < after and not self._world.is_over:
            if time.monotonic() > after + PATIENCE_SECONDS:
                raise AssertionError(f"no write was acknowledged for {PATIENCE_SECONDS} s")
            await asyncio.sleep(0.005)

    async def _revive(self, part: Part) -> None:
        """Start a part that has ended by itself; that it has is a finding."""
        if not part.program.is_running:
            now = time.monotonic()
            self._note(Fault("end", part.name, now, now, recovered=False, detail=part.program.log_tail))
            await asyncio.to_thread(part.start)

    def _note(self, fault: Fault) -> None:
        self.faults += 1
        if not fault.recovered:
            self.failures.append(fault)
        self._history.add(fault)
