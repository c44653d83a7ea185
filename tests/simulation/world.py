"""One thread of the operating system, one seed, one heap: everything that happens in a schedule, and when.

A *process* stands for one of the system's programs on a machine of its own: threads, an event loop, a wall clock. Its
threads are greenlets, so that the project's blocking code can be stopped at any wait and taken up again, or never: a
process that is killed is not resumed. What happens at the same moment happens in an order that the seed decides.
"""

from __future__ import annotations

import heapq
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final

from greenlet import GreenletExit, getcurrent, greenlet

WALL_MS: Final = 1_800_000_000_000
"""What all clocks say when a schedule begins, in Unix milliseconds."""

LOOK_SECONDS: Final = 0.01

Action = Callable[[], None]


class Violation(AssertionError):
    """The system broke a promise."""


class Process:
    """A program that runs. ``step_ms`` is how far its wall clock is off."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.step_ms = 0
        self.is_alive = True
        self.paused_until = 0.0
        self.threads: list[SimThread] = []
        self.at_kill: list[Action] = []

    def kill(self) -> None:
        """End as ``kill -9`` does: nothing of it runs any more."""
        self.world.note(self.name, "killed")
        self.is_alive = False
        for action in self.at_kill:
            action()


class SimThread:
    """A thread of a process."""

    def __init__(self, process: Process, target: Action) -> None:
        self.process = process
        self._greenlet = greenlet(target)
        self._sleep = 0  # counts its waits: who wakes it says which one
        process.threads.append(self)
        process.world.after(0, self._resume(self._sleep), process)

    def wait(self, seconds: float | None, subscribe: Callable[[Action], None] | None = None) -> None:
        """Give way to others until woken through ``subscribe``, or for some seconds."""
        world = self.process.world
        self._sleep += 1
        resume = self._resume(self._sleep)
        if subscribe is not None:
            subscribe(lambda: world.after(0, resume, self.process))
        if seconds is not None:
            world.after(seconds, resume, self.process)
        world.give_way()

    def discard(self) -> None:
        """Unwind the stack of a thread that is never resumed."""
        if not self._greenlet.dead:
            with suppress(BaseException):  # its files and connections were taken away from it
                self._greenlet.throw(GreenletExit)

    def _resume(self, sleep: int) -> Action:
        def resume() -> None:
            if self._sleep == sleep and not self._greenlet.dead:
                self._sleep += 1
                self.process.world.running = self
                try:
                    self._greenlet.switch()
                finally:
                    self.process.world.running = None
                if self._greenlet.dead:
                    self.process.threads.remove(self)

        return resume


class World:
    """Virtual time in seconds, and what is to happen. ``trace`` is kept where ``is_traced``."""

    def __init__(self, seed: int, *, is_traced: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.is_over = False
        self.is_traced = is_traced
        self.trace: list[str] = []
        self.steps = 0
        self.current: Process | None = None
        self.running: SimThread | None = None
        self.processes: list[Process] = []
        self._heap: list[tuple[float, float, int, Process | None, Action]] = []
        self._hub = getcurrent()
        self._violation: BaseException | None = None

    def process(self, name: str) -> Process:
        """A new process."""
        process = Process(self, name)
        self.processes.append(process)
        return process

    def after(self, seconds: float, action: Action, process: Process | None = None) -> None:
        """Let something happen; to a process only if it is alive by then."""
        if not self.is_over:
            self.steps += 1
            heapq.heappush(self._heap, (self.now + seconds, self.random.random(), self.steps, process, action))

    def run_until(self, moment: float, is_reached: Callable[[], bool] = lambda: False) -> bool:
        """Let everything happen up to a moment; stops when, and says whether, something is reached, within 10 ms."""
        looks_at = self.now
        while self.now < looks_at or not is_reached():
            if self.now >= looks_at:
                looks_at = self.now + LOOK_SECONDS
            if not self._heap or self._heap[0][0] > moment:
                self.now = moment
                return is_reached()
            self._next()
        return True

    def thread(self) -> SimThread:
        """The thread that runs."""
        assert self.running is not None
        return self.running

    def is_in_thread(self) -> bool:
        """Whether a thread of a process runs, which may wait."""
        return self.running is not None

    def is_anything_due(self) -> bool:
        """Whether something else happens at this moment."""
        return bool(self._heap) and self._heap[0][0] <= self.now

    def give_way(self) -> None:
        """Let others run; the thread is resumed by an action of its own."""
        if self.is_over:
            raise GreenletExit
        self._hub.switch()

    def sleep(self, seconds: float) -> None:
        """Let the thread that runs wait."""
        self.thread().wait(seconds)

    def wall_ms(self) -> int:
        """What the wall clock of the process that runs says."""
        return self.true_ms() + (self.current.step_ms if self.current else 0)

    def true_ms(self) -> int:
        """The time that has passed, in Unix milliseconds."""
        return WALL_MS + int(self.now * 1000)

    def note(self, who: str, what: str, **details: object) -> None:
        """Say what happens."""
        if self.is_traced:
            text = " ".join(f"{name}={value}" for name, value in details.items())
            self.trace.append(f"{self.now:11.6f}  {who:<10} {what} {text}".rstrip())

    def violate(self, error: BaseException) -> None:
        """Note that a promise is broken; the schedule ends."""
        if self._violation is None:
            self._violation = error
            self.note("VIOLATION", repr(error))
            if self.is_traced and not isinstance(error, Violation):
                self.trace += "".join(traceback.format_exception(error)).splitlines()

    def close(self) -> None:
        """End all threads. Nothing happens any more."""
        self.is_over = True
        self._heap.clear()
        for process in self.processes:
            for thread in process.threads:
                thread.discard()

    def _next(self) -> None:
        moment, _, _, process, action = heapq.heappop(self._heap)
        self.now = max(self.now, moment)
        if process is not None:
            if not process.is_alive:
                return
            if process.paused_until > self.now:
                self.after(process.paused_until - self.now, action, process)
                return
        self.current = process
        try:
            action()
        finally:
            self.current = None
        if self._violation is not None:
            raise self._violation


class SimEvent(threading.Event):
    """An event that threads of a process wait for."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._waiters: list[Action] = []

    def set(self) -> None:
        """Wake all who wait."""
        super().set()
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def wait(self, timeout: float | None = None) -> bool:
        """As threading.Event does."""
        if not self.is_set() and timeout != 0:
            self._world.thread().wait(timeout, self._waiters.append)
        return self.is_set()


class Result:
    """What a thread waits for: a value, or an error."""

    def __init__(self, world: World) -> None:
        self._done = SimEvent(world)
        self._value: Any = None
        self._error: BaseException | None = None

    def set(self, value: Any) -> None:
        """Give the value."""
        self._value = value
        self._done.set()

    def fail(self, error: BaseException) -> None:
        """Raise an error in who waits."""
        self._error = error
        self._done.set()

    def get(self, seconds: float | None = None) -> Any:
        """Wait for it. Raises TimeoutError."""
        if not self._done.wait(seconds):
            raise TimeoutError("timed out")
        if self._error is not None:
            raise self._error
        return self._value
