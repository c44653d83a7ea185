"""Starts the parts stage by stage, keeps them running, and stops them in the opposite order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.cli.dev.backoff import BackOff
from services.cli.dev.part import Child, Launch, Part
from services.cli.errors import CommandFailed

PROBE_INTERVAL_SECONDS: Final = 0.05
STILL_WAITING_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Running:
    """A part, its process, and since when it runs."""

    part: Part
    child: Child
    started: float
    back_off: BackOff


@dataclass(slots=True)
class Supervisor:
    """Runs parts until it is told to stop.

    The parts of a stage start together, once those of the stage before are ready. All stop one after another.
    ``say`` gets a part's name and what happened to it; ``on_change`` is called when all parts are ready and
    whenever one was started again (its process id is another then). Clock and sleep are parameters for tests.
    """

    stages: Sequence[Sequence[Part]]
    launch: Launch
    say: Callable[[str, str], None]
    on_change: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    back_off: Callable[[], BackOff] = BackOff
    _running: list[_Running] = field(default_factory=list)

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the parts that were started, by name."""
        return {running.part.name: running.child.pid for running in self._running}

    async def run(self, stop_requested: asyncio.Event) -> None:
        """Start everything and keep it running until a stop is requested; then stop everything.

        Raises CommandFailed when a part ends before all were ready once; the others are stopped then, too.
        """
        work = asyncio.ensure_future(self._start_and_keep())
        stopping = asyncio.ensure_future(stop_requested.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(work, stopping)
            await self._stop()
        if not work.cancelled():
            work.result()

    def kill(self) -> None:
        """End every process at once."""
        for running in self._running:
            running.child.kill()

    async def _start_and_keep(self) -> None:
        for stage in self.stages:
            for part in stage:
                child = await self.launch(part)
                self._running.append(_Running(part, child, self.clock(), self.back_off()))
            for part in stage:
                await self._wait_until_ready(part)
        self.on_change()
        try:
            async with asyncio.TaskGroup() as group:
                for running in self._running:
                    group.create_task(self._keep(running))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _wait_until_ready(self, part: Part) -> None:
        """Return once the part is ready. Raises CommandFailed when it, or another that was started, ends first."""
        deaths = {asyncio.ensure_future(running.child.wait()): running.part for running in self._running}
        ready = asyncio.ensure_future(self._ready(part))
        try:
            await asyncio.wait({ready, *deaths}, return_when=asyncio.FIRST_COMPLETED)
            for death, ended in deaths.items():
                if death.done():
                    how = describe_end(death.result())
                    raise CommandFailed(f"{ended.name} {how} before all was ready: its lines above say why")
        finally:
            await _cancelled(ready, *deaths)

    async def _ready(self, part: Part) -> None:
        complain_at = self.clock() + STILL_WAITING_SECONDS
        while (reason := await part.readiness()) is not None:
            if self.clock() >= complain_at:
                self.say(part.name, f"is not ready yet: {reason}")
                complain_at = self.clock() + STILL_WAITING_SECONDS
            await self.sleep(PROBE_INTERVAL_SECONDS)

    async def _keep(self, running: _Running) -> None:
        """Start the part again whenever it ends, ever slower while it does not stay up."""
        while True:
            how = describe_end(await running.child.wait())
            wait_seconds = running.back_off.after_death(self.clock() - running.started)
            self.say(running.part.name, f"{how}; it is started again in {wait_seconds:g} s")
            await self.sleep(wait_seconds)
            running.child = await self.launch(running.part)
            running.started = self.clock()
            self.on_change()
            await self._announce_return(running)

    async def _announce_return(self, running: _Running) -> None:
        ready = asyncio.ensure_future(self._ready(running.part))
        death = asyncio.ensure_future(running.child.wait())
        try:
            await asyncio.wait({ready, death}, return_when=asyncio.FIRST_COMPLETED)
            if not death.done():
                self.say(running.part.name, "is ready again")
        finally:
            await _cancelled(ready, death)

    async def _stop(self) -> None:
        for running in reversed(self._running):
            running.child.terminate()
            try:
                await asyncio.wait_for(running.child.wait(), running.part.stop_seconds)
            except TimeoutError:
                self.say(running.part.name, f"did not leave within {running.part.stop_seconds:g} s and is killed")
                running.child.kill()
                await running.child.wait()


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def describe_end(code: int) -> str:
    """How a process ended, in words: ``ended with code 1`` or ``was killed by SIGKILL``."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"
