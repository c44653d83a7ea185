"""At every labelled fault point a real service stalls, then fails, then crashes: nothing is lost, doubled or half done.

The list of labels is that of the code. Those of the owner's steps (Step) have their scenarios in tests/faults, too:
test_owner_crashes.py kills an owner after each of them.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import httpx
import pytest

from services.db_updater.applier import Step
from tests.support.armed import arm, disarm, struck_in
from tests.support.process import REPOSITORY, ServiceProcess
from tests.support.system import System
from tests.torture.arena import Arena, Part, arena
from tests.torture.checker import check
from tests.torture.clients import Client, World
from tests.torture.ending import collect
from tests.torture.hand import PATIENCE_SECONDS, Hand
from tests.torture.history import History, HistoryFile, read_records

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

CLIENTS: Final = 4
IDLE_SECONDS: Final = 0.05
SEED: Final = 20261122


@dataclass
class Ground:
    """A system whose fault points can be armed, who uses it, and all that has happened in it."""

    arena: Arena
    history: HistoryFile
    hand: Hand
    world: World = field(default_factory=World)
    clients: int = 0

    def service(self, name: str) -> ServiceProcess:
        """One of its processes."""
        program = self.arena.parts[name].program
        assert isinstance(program, ServiceProcess)
        return program

    def new_clients(self) -> list[Client]:
        """Clients that follow chance."""
        first, self.clients = self.clients, self.clients + CLIENTS
        return [
            Client(
                f"c{number}",
                SEED,
                self.world,
                self.history,
                writers=self.arena.writers,
                readers=self.arena.readers,
                idle_seconds=IDLE_SECONDS,
            )
            for number in range(first, self.clients)
        ]


async def new_account(ground: Ground) -> None:
    """Write what is in private tables, too, and belongs to a batch of its own."""
    await ground.hand.account()


async def new_snapshot(ground: Ground) -> None:
    """Ask the owner for a snapshot, when there is none that it could hand out again."""
    owner = ground.service("owner")
    for path in ground.arena.system.owner_directory.glob("snapshots/offered-*.db"):
        path.unlink(missing_ok=True)
    with suppress(httpx.TransportError):  # it may have been told to crash
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
            await http.get(f"{owner.url}/internal/snapshot")


async def new_replica(ground: Ground) -> None:
    """Start a reader again if it serves: each time it starts it gets a snapshot."""
    reader = ground.service("reader-2")
    if await asyncio.to_thread(lambda: reader.is_ready):
        await asyncio.to_thread(reader.kill)
        ground.arena.parts["reader-2"].start()


@dataclass(frozen=True)
class Scenario:
    """Which part is armed, what it does each time it is there, and what brings it there."""

    part: str
    actions: tuple[str, ...] = ("delay", "raise", "crash")
    approach: Callable[[Ground], Awaitable[None]] = new_account


SCENARIOS: Final = {
    "append:before_send": Scenario("writer-1"),
    "append:after_xadd": Scenario("writer-1"),
    "archive:before_fsync": Scenario("owner"),
    "trim:before": Scenario("owner"),
    "snapshot:copied": Scenario("owner", approach=new_snapshot),
    "snapshot:after_rename": Scenario("owner", approach=new_snapshot),
    "snapshot:received": Scenario("reader-2", approach=new_replica),
    "backup:before_rename": Scenario("owner"),
    "backup:after_rename": Scenario("owner"),
    "replica:before_commit": Scenario("reader-2"),
    "replica:after_commit": Scenario("reader-2", ("delay", "crash")),  # nothing there can fail
}
STEPS: Final = {
    Step.FENCE_CHECKED: Scenario("owner"),
    Step.PRIVATE_COMMITTED: Scenario("owner"),
    Step.BEFORE_COMMIT: Scenario("owner"),
    Step.COMMITTED: Scenario("owner"),
    Step.ARCHIVED: Scenario("owner"),
}
"""The steps of a batch, with an I/O error before the crash; the crash alone is tried after every step."""


def labels_in_code() -> Iterator[str]:
    """What ``faults.reach`` is called with, anywhere."""
    for path in (REPOSITORY / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "reach"
            if is_call and isinstance(node.func.value, ast.Name) and node.func.value.id == "faults":  # type: ignore[attr-defined]
                (label,) = node.args  # type: ignore[attr-defined]
                assert isinstance(label, ast.Constant), f"{path}: a label is a constant"
                assert isinstance(label.value, str)
                yield label.value


def test_every_fault_point_has_a_scenario() -> None:
    """And every scenario a fault point; no label is used twice."""
    assert sorted(labels_in_code()) == sorted(SCENARIOS)


@pytest.fixture(scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """A system that makes backups and trims all the time."""
    directory = tmp_path_factory.mktemp("fault-points")
    environment = {
        "BACKUP_DIR": str(directory / "backups"),
        "BACKUP_INTERVAL_SECONDS": "1",
        "BACKUP_KEEP": "2",
        "LOG_RETENTION_SECONDS": "0",
    }

    def let_be_armed(system: System) -> None:
        for program in (system.owner, *system.readers, *system.writers):
            program.command[1:] = ["-m", "tests.support.armed", program.command[-1]]

    async with arena(directory, readers=2, writers=1, environment=environment, prepare=let_be_armed) as running:
        with HistoryFile(directory / "history.ndjson") as history:
            hand = Hand("hand", history, running)
            yield Ground(running, history, hand)
            hand.close()


@pytest.mark.parametrize(
    ("label", "scenario"), [pytest.param(*each, id=each[0]) for each in (SCENARIOS | STEPS).items()]
)
async def test_system_survives_a_fault_point(ground: Ground, label: str, scenario: Scenario) -> None:
    """Under load; then the part starts again, and the checker finds nothing in all that has happened so far."""
    part = ground.arena.parts[scenario.part]
    ground.world.is_over = False
    clients = [asyncio.create_task(client.run()) for client in ground.new_clients()]
    try:
        arm(part.program.directory, label, *scenario.actions)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await until_crashed(ground, part, scenario)
    finally:
        disarm(part.program.directory)
        await until_all_serve(ground)
        ground.world.is_over = True
        await asyncio.gather(*clients)
    assert struck_in(part.program.directory) == list(scenario.actions)
    ground.history.flush()
    records = list(read_records(ground.history.path))
    records += await asyncio.to_thread(lambda: list(collect(ground.arena.system)))
    assert check(History.of(records)) == []


async def until_crashed(ground: Ground, part: Part, scenario: Scenario) -> None:
    """Bring the part to its label until it has done everything there, the last of which is to crash."""
    while part.program.is_running:
        await scenario.approach(ground)
        await asyncio.sleep(0.02)


async def until_all_serve(ground: Ground) -> None:
    """Start who has ended, and wait for all."""
    for part in ground.arena.parts.values():
        if not part.program.is_running:
            await asyncio.to_thread(part.start)
    for part in ground.arena.parts.values():
        await asyncio.to_thread(part.wait_ready, PATIENCE_SECONDS)
