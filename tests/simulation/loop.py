"""An event loop of a process, without sockets: its callbacks run in the order of asyncio, at moments of the world's."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Handle, Task, TimerHandle
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack, cast

from tests.simulation.world import Process, Result, SimThread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def loop_of(process: Process) -> SimLoop:
    """An event loop of a process."""
    return SimLoop(process)  # type: ignore[abstract]  # what is missing has to do with sockets and signals


class SimLoop(AbstractEventLoop):
    """Runs one callback at a time, so that other processes and the threads of this one get between any two."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._world = process.world
        self._ready: deque[Handle] = deque()
        self._is_awake = False
        self._tasks: set[Task[Any]] = set()

    def time(self) -> float:
        """Virtual seconds."""
        return self._world.now

    def call_soon(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None) -> Handle:
        """Run a callback after those that are ready."""
        handle = Handle(callback, args, self, context)
        self._put(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        """The same."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """Run a callback after some seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """Run a callback at a moment."""
        handle = TimerHandle(when, callback, args, self, context)
        self._world.after(max(when - self.time(), 0), lambda: self._put(handle), self.process)
        return handle

    def create_future(self) -> Future[Any]:
        """A future of this loop."""
        return Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> Task[T]:
        """Start a coroutine; it lives as long as the process."""
        task = Task(cast("Coroutine[Any, Any, T]", coro), loop=self, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run_in_executor(
        self,
        executor: object,  # noqa: ARG002
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> Future[T]:
        """Call a function in a thread of its own, whatever the executor."""
        future: Future[T] = self.create_future()

        def run() -> None:
            try:
                outcome = func(*args)
            except Exception as error:  # noqa: BLE001 - it is for who awaits it
                self.call_soon(_settle, future, None, error)
            else:
                self.call_soon(_settle, future, outcome, None)

        SimThread(self.process, run)
        return future

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always."""
        return True

    def is_closed(self) -> bool:
        """Whether the schedule is over."""
        return self._world.is_over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody awaits is a bug; a task that ended with its process is none."""
        error = context.get("exception")
        if error is not None and not self._world.is_over:
            self._world.violate(error)

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _put(self, handle: Handle) -> None:
        if not handle.cancelled():
            self._ready.append(handle)
            self._wake()

    def _wake(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            self._world.after(0, self._run_next, self.process)

    def _run_next(self) -> None:
        """Run what is ready, but the next callback only where something else could get between it and the one after."""
        _set_running_loop(self)
        try:
            while True:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
                if not self._ready or self._world.is_anything_due():
                    break
        finally:
            _set_running_loop(None)
            self._is_awake = False
        if self._ready:
            self._wake()


def _settle(future: Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def on_loop(loop: SimLoop, function: Callable[[Any], None]) -> Callable[[Any], None]:
    """What a thread calls to have a function run in a loop; as services.read.app does it with real threads."""

    def call(argument: Any) -> None:
        done = Result(loop.process.world)

        def run() -> None:
            try:
                function(argument)
            except BaseException as error:
                done.fail(error)
                raise
            done.set(None)

        loop.call_soon(run)
        done.get()

    return call
