"""One schedule: a system, clients, and what goes wrong, all of it decided by a seed."""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from services.db_updater.applier import Step
from services.db_updater.volume import Volume
from tests.simulation.history import History
from tests.simulation.network import Delays, Network, Server
from tests.simulation.nodes import OwnerNode, ReaderNode, WriterNode, copy_volume
from tests.simulation.redis_model import Data
from tests.simulation.seams import simulated
from tests.simulation.workload import Workload
from tests.simulation.world import Process, SimEvent, Violation, World

CALM_SECONDS_MAX: Final = 90.0
"""Within this time of peace the system must be whole again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed makes possible: some faults often, others not at all, so that schedules differ (swarm testing)."""

    seconds: float
    goes_on: bool
    """From a log and a volume that have something in them, else from nothing."""
    readers: int
    writers: int
    retention_seconds: int
    lease_seconds: int
    batch_entries_max: int
    actions_per_second: float
    faults_per_second: float
    faults: tuple[str, ...]
    crash_at_step: float
    slow: float
    slow_seconds: float
    cut: float

    @classmethod
    def of(cls, world: World) -> Plan:
        """The plan of a world's seed."""
        random = world.random
        faults = [name for name in FAULTS if random.random() < 0.4]
        retention_seconds = random.choice((0, 0, 2, 3600))
        if "replace_owner" in faults:
            retention_seconds = 3600  # an owner elsewhere may begin from an older volume, and needs the log
        seconds = random.choice((1, 2, 4, 4, 12))
        return cls(
            seconds=seconds,
            goes_on=random.random() < 0.8,
            readers=random.choice((1, 1, 2, 3)),
            writers=random.choice((1, 2, 2)),
            retention_seconds=retention_seconds,
            lease_seconds=random.choice((10, 300)),
            batch_entries_max=random.choice((1, 2, 5, 1000)),
            actions_per_second=random.choice((4, 12, 30)),
            faults_per_second=random.choice((0.5, 1.5, 4)),
            faults=tuple(faults),
            crash_at_step=random.choice((0, 0, 0.01, 0.05)),
            slow=random.choice((0, 0, 0.01, 0.05)),
            slow_seconds=random.choice((0.5, 3.0, seconds)),
            cut=random.choice((0, 0, 0.005, 0.03)),
        )


QUIET: Final = Plan(
    seconds=2.0,
    goes_on=False,
    readers=1,
    writers=1,
    retention_seconds=3600,
    lease_seconds=300,
    batch_entries_max=1000,
    actions_per_second=30,
    faults_per_second=0.0,
    faults=(),
    crash_at_step=0.0,
    slow=0.0,
    slow_seconds=0.0,
    cut=0.0,
)
"""Nothing goes wrong: what others go on from."""


class Schedule:
    """A system in a world. ``directory`` is removed by whoever made it; ``before`` is a schedule to go on from."""

    def __init__(self, world: World, plan: Plan, directory: Path, before: Schedule | None = None) -> None:
        self.world = world
        self.random = world.random
        self.plan = plan
        self.server = Server(world)
        self.network = Network(self.server)
        self.directory = directory
        self.calm = SimEvent(world)
        """Set when nothing goes wrong any more."""
        self.owners: list[OwnerNode] = []
        self.readers: list[ReaderNode] = []
        self.writers: list[WriterNode] = []
        self._names = 0
        self._volume_before = _empty_volume() if before is None else before.owner.directory
        self.history: History = History(self, before.history if before else None)
        self.workload: Workload = Workload(self, before.workload if before else None)
        if before is not None:
            world.now = before.world.now
            self.server.model.data = before.server.model.data.copy()

    # The parts

    @property
    def owner(self) -> OwnerNode:
        """The newest owner, alive or not."""
        return self.owners[-1]

    def start_owner(self) -> None:
        """Start an owner over what the one before it has left."""
        number = len(self.owners) + 1
        directory = self.directory / f"volume-{number}"
        copy_volume(self.owner.directory if self.owners else self._volume_before, directory)
        node = OwnerNode(
            self.world,
            self.network,
            directory,
            f"owner-{number}",
            retention_seconds=self.plan.retention_seconds,
            lease_seconds=self.plan.lease_seconds,
            batch_entries_max=self.plan.batch_entries_max,
            at=self._after_step,
            on_end=lambda: self.world.after(1, self.revive),
        )
        self._connect(node.process)
        self.owners.append(node)
        self.world.note(node.process.name, "starts", position=node.owner.position)

    def start_reader(self, name: str) -> None:
        """Start a reader, in place of one of this name that has died."""
        self._names += 1
        directory = self.directory / f"replicas-{self._names}"
        node = ReaderNode(
            self.world,
            self.network,
            directory,
            name,
            owner=self._reachable_owner,
            on_offer=self.history.on_offer,
            calm=self.calm,
        )
        self._connect(node.process)
        self.readers = [other for other in self.readers if other.process.name != name] + [node]
        self.world.note(name, "starts")

    def start_writer(self, name: str) -> None:
        """Start a writer, in place of one of this name that has died."""
        node = WriterNode(self.world, self.network, name)
        self._connect(node.process)
        self.writers = [other for other in self.writers if other.process.name != name] + [node]
        self.world.note(name, "starts")

    def _connect(self, process: Process) -> None:
        if not self.calm.is_set():
            plan = self.plan
            self.network.delays[process] = Delays(
                self.world, slow=plan.slow, slow_seconds=plan.slow_seconds, cut=plan.cut
            )

    def _reachable_owner(self) -> OwnerNode | None:
        return self.owner if self.owner.process.is_alive else None

    def _after_step(self, node: OwnerNode, step: Step) -> None:
        self.world.note(node.process.name, str(step), position=node.owner.position)
        self.history.after_step(node, step)
        self.pass_point(node.process)

    def pass_point(self, process: Process) -> None:
        """A thread of a process is at a point where others may get on, or where it may be killed."""
        if not self.calm.is_set() and self.random.random() < self.plan.crash_at_step:
            process.kill()
            self.world.after(self.random.uniform(0, 4), self.revive)
            self.world.give_way()
        if self.random.random() < 0.3:
            self.world.sleep(self.random.random() * self.random.choice((0.0001, 0.01, 0.3)))

    # What happens

    def run(self) -> None:
        """Run it, and check it. Raises Violation, or what else went wrong."""
        world, plan = self.world, self.plan
        world.note("schedule", "begins", seed=world.seed, plan=plan)
        self.start_owner()
        for number in range(1, plan.readers + 1):
            self.start_reader(f"reader-{number}")
        for number in range(1, plan.writers + 1):
            self.start_writer(f"writer-{number}")
        self._again(plan.actions_per_second, self.workload.act)
        if plan.faults:
            self._again(plan.faults_per_second, self._fault)
        world.run_until(world.now + plan.seconds)
        self._calm()
        self._become_whole()
        self.workload.probe()
        world.run_until(world.now + 10, lambda: self.workload.is_probed and self.history.is_whole())
        world.run_until(world.now + 1)
        # A late message of a dead owner may have taken the fence from the one that lives, which then starts again.
        self._become_whole()
        self.history.check()

    def _become_whole(self) -> None:
        if not self.world.run_until(self.world.now + CALM_SECONDS_MAX, self.history.is_whole):
            raise Violation(f"not whole after {CALM_SECONDS_MAX} s of peace: {self.history.why_not_whole()}")

    def _again(self, per_second: float, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self.calm.is_set():
                action()
                self.world.after(self.random.expovariate(per_second), act)

        self.world.after(self.random.expovariate(per_second), act)

    def _calm(self) -> None:
        """Nothing goes wrong from here on, and everything runs."""
        self.world.note("schedule", "calm")
        self.calm.set()
        for delays in self.network.delays.values():
            delays.slow = delays.cut = 0.0
        self.server.cut_off.clear()
        self.server.muted.clear()
        self.server.stalled_until = 0.0
        for process in self.world.processes:
            process.paused_until = 0.0
        self.server.start()
        self.revive()

    def revive(self) -> None:
        """Start whatever has died."""
        if not self.owner.process.is_alive:
            self.start_owner()
        for reader in list(self.readers):
            if not reader.process.is_alive:
                self.start_reader(reader.process.name)
        for writer in list(self.writers):
            if not writer.process.is_alive:
                self.start_writer(writer.process.name)

    def _fault(self) -> None:
        name = self.random.choice(self.plan.faults)
        FAULTS[name](self)

    def _some_process(self) -> Process:
        nodes: list[Any] = [self.owner, *self.readers, *self.writers]
        process: Process = self.random.choice(nodes).process
        return process

    def kill(self) -> None:
        """Kill a process."""
        process = self._some_process()
        if process.is_alive:
            process.kill()
        self.world.after(self.random.uniform(0, 5), self.revive)

    def kill_owner(self) -> None:
        """Kill the owner."""
        if self.owner.process.is_alive:
            self.owner.process.kill()
        self.world.after(self.random.uniform(0, 3), self.revive)

    def pause(self) -> None:
        """Stop a process for a while (SIGSTOP)."""
        process = self._some_process()
        process.paused_until = self.world.now + self.random.uniform(0.1, 6)
        self.world.note(process.name, "paused", until=process.paused_until)

    def cut_off(self) -> None:
        """Cut a process off from Redis for a while."""
        process = self._some_process()
        self.server.cut_off[process] = self.world.now + self.random.uniform(0.1, 6)
        self.world.note(process.name, "cut off", until=self.server.cut_off[process])

    def mute(self) -> None:
        """Let no answer come to a process for a while; what it sends arrives."""
        process = self._some_process()
        self.server.muted[process] = self.world.now + self.random.uniform(0.1, 3)
        self.world.note(process.name, "muted", until=self.server.muted[process])

    def stall(self) -> None:
        """Stop Redis for a while (SIGSTOP)."""
        self.server.stalled_until = self.world.now + self.random.uniform(0.05, 4)
        self.world.note("redis", "stalls", until=self.server.stalled_until)

    def restart(self) -> None:
        """Restart Redis with all it had acknowledged."""
        if self.server.is_up:
            self._restart_server(self.server.model.data, is_loss=False)

    def roll_back(self) -> None:
        """Restart Redis with less than it had acknowledged."""
        if self.server.is_up and self.history.checkpoints and self.owner.owner.position > 0:
            data = self.history.roll_back(self.random.randrange(len(self.history.checkpoints)))
            self._restart_server(data, is_loss=True)

    def lose_all(self) -> None:
        """Restart Redis empty."""
        if self.server.is_up and self.owner.owner.position > 0:
            self.history.lose_all()
            self._restart_server(Data(), is_loss=True)

    def step_clock(self) -> None:
        """Set the clock of a process, or of Redis."""
        step_ms = self.random.choice((-1, 1)) * int(10 ** self.random.uniform(1, 5))
        if self.random.random() < 0.5:
            self.server.step_ms += step_ms
            self.history.was_clock_set_back |= step_ms < 0
            self.world.note("redis", "clock set", step_ms=step_ms)
        else:
            process = self._some_process()
            process.step_ms += step_ms
            self.world.note(process.name, "clock set", step_ms=step_ms)

    def replace_owner(self) -> None:
        """Start a second owner elsewhere, while the first one still runs."""
        if self.owner.process.is_alive and self.owner.owner.readiness() is None and not self.history.is_recovering:
            self.start_owner()

    def _restart_server(self, data: Data, *, is_loss: bool) -> None:
        """Stop Redis, and start it with some data a little later."""
        self.world.note("redis", "restarts", head=data.values.get(b"log:meta", {}).get(b"head"))
        self.server.stop(data)
        if is_loss:  # which of two owners is to be believed then, nobody can say
            for node in self.owners[:-1]:
                if node.process.is_alive:
                    node.process.kill()
        self.world.after(self.random.uniform(0, 2), self.server.start)


FAULTS: Final[dict[str, Callable[[Schedule], None]]] = {
    "kill": Schedule.kill,
    "kill_owner": Schedule.kill_owner,
    "pause": Schedule.pause,
    "cut_off": Schedule.cut_off,
    "mute": Schedule.mute,
    "stall": Schedule.stall,
    "restart": Schedule.restart,
    "roll_back": Schedule.roll_back,
    "lose_all": Schedule.lose_all,
    "step_clock": Schedule.step_clock,
    "replace_owner": Schedule.replace_owner,
}


@cache
def _files() -> tempfile.TemporaryDirectory[str]:
    """Where that is which schedules begin from; it goes with the process."""
    return tempfile.TemporaryDirectory(dir=root(), prefix="simulation-")


@cache
def _empty_volume() -> Path:
    """The directory of an owner that has never run, made once: to make the tables takes longer than a schedule."""
    directory = Path(_files().name, "empty")
    directory.mkdir()
    database = directory / "twitter.db"
    Volume(database, directory, directory / "archive").close()
    return directory


def root() -> Path | None:
    """Where files are quickest."""
    memory = Path("/dev/shm")  # noqa: S108 - in a directory of a name that nobody can guess
    return memory if memory.is_dir() else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a schedule."""

    seed: int
    error: BaseException | None
    trace: list[str]
    seconds: float
    steps: int
    entries: int
    reads: int
    losses: int


def run(seed: int, *, is_traced: bool = False) -> Outcome:
    """Run the schedule of a seed."""
    with _silence():
        try:
            return _run(World(seed, is_traced=is_traced))
        finally:
            gc.collect()


def _run(world: World) -> Outcome:
    plan = Plan.of(world)
    before = quiet_schedule() if plan.goes_on else None
    with tempfile.TemporaryDirectory(dir=root(), prefix="schedule-") as name:
        schedule = Schedule(world, plan, Path(name), before)
        began_at, known = world.now, len(schedule.history.ever)
        error = _error_of(schedule)
    history = schedule.history
    return Outcome(
        world.seed,
        error,
        world.trace,
        world.now - began_at,
        world.steps,
        len(history.ever) - known,
        schedule.workload.reads,
        len(history.lost),
    )


def _error_of(schedule: Schedule) -> Exception | None:
    """Run a schedule and close its files; what went wrong."""
    world = schedule.world
    error: Exception | None = None
    with simulated(world, at_fsync=lambda: schedule.pass_point(world.thread().process)):
        try:
            schedule.run()
        except Exception as raised:  # noqa: BLE001 - it is the outcome
            error = raised
            world.note("VIOLATION", repr(raised))
        world.close()
        for owner in schedule.owners:
            owner.close()
    return error


@cache
def quiet_schedule() -> Schedule:
    """One that is over, in which nothing went wrong, and from which most others go on."""
    schedule = Schedule(World(0), QUIET, Path(_files().name))
    if (error := _error_of(schedule)) is not None:
        raise error
    return schedule


@contextmanager
def _silence() -> Iterator[None]:
    """Garbage is collected between schedules only: what it closes belongs to none that runs, and none complains."""
    unraisable_hook = sys.unraisablehook
    gc.disable()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.unraisablehook = lambda _: None
            yield
    finally:
        sys.unraisablehook = unraisable_hook
        logging.disable(logging.NOTSET)
        gc.enable()
