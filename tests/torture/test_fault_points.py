"""At every labelled fault point a real service stalls, then fails, then crashes: nothing is lost, doubled or half done.

The list of labels is that of the code. Those of the owner's steps (Step) have their scenarios in tests/faults, too:
test_owner_crashes.py kills an owner after each of them.
"""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from services.db_updater.applier import Step
from tests.support.armed import NOTES, struck_in
from tests.support.process import REPOSITORY, ServiceProcess
from tests.torture.arena import Arena, Part, arena
from tests.torture.checker import check
from tests.torture.clients import Client, World
from tests.torture.ending import collect
from tests.torture.history import History, HistoryFile, read_records

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

CLIENTS = 8
IDLE_SECONDS = 0.1
SEED = 20261122
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Scenario:
    """Which part is armed, what it does each time it is there, and whether a reader must start for it to get there."""

    part: str
    actions: str = "delay,raise,crash"
    needs_new_reader: bool = False


SCENARIOS = {
    "append:before_send": Scenario("writer-1"),
    "append:after_xadd": Scenario("writer-1"),
    "archive:before_fsync": Scenario("owner"),
    "trim:before": Scenario("owner"),
    "snapshot:copied": Scenario("owner", needs_new_reader=True),
    "snapshot:after_rename": Scenario("owner", needs_new_reader=True),
    "snapshot:received": Scenario("reader-2", needs_new_reader=True),
    "backup:before_rename": Scenario("owner"),
    "backup:after_rename": Scenario("owner"),
    "replica:before_commit": Scenario("reader-2"),
    "replica:after_commit": Scenario("reader-2", "delay,crash"),  # nothing there can fail
}
STEPS = {
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
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Arena]:
    """A system that makes backups and trims all the time."""
    directory = tmp_path_factory.mktemp("fault-points")
    environment = {
        "BACKUP_DIR": str(directory / "backups"),
        "BACKUP_INTERVAL_SECONDS": "1",
        "BACKUP_KEEP": "2",
        "LOG_RETENTION_SECONDS": "0",
    }
    async with arena(directory, readers=2, writers=1, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def world() -> World:
    """What the clients of all these tests know."""
    return World()


@pytest.mark.parametrize(
    ("label", "scenario"), [pytest.param(*each, id=each[0]) for each in (SCENARIOS | STEPS).items()]
)
async def test_system_survives_a_fault_point(ground: Arena, world: World, label: str, scenario: Scenario) -> None:
    """Under load; then the part starts as it is, and the checker finds nothing in all that has happened so far."""
    part = ground.parts[scenario.part]
    directory = ground.system.directory
    path = directory / f"{len(list(directory.glob('*.ndjson'))):03d}.ndjson"
    sound = part.program.command
    with HistoryFile(path) as history:
        clients = begin(ground, world, history, path.stem)
        await asyncio.to_thread(part.program.kill)
        part.program.command = [sys.executable, "-m", "tests.support.armed", label, scenario.actions, sound[-1]]
        (part.program.directory / NOTES).unlink(missing_ok=True)
        part.start()
        await until_struck(ground, part, scenario)
        assert struck(part) == scenario.actions.split(",")
        part.program.command = sound
        part.start()
        for each in ground.parts.values():
            await asyncio.to_thread(each.wait_ready, PATIENCE_SECONDS)
        world.is_over = True
        await asyncio.gather(*clients)
    everything = [record for file in sorted(directory.glob("*.ndjson")) for record in read_records(file)]
    everything += await asyncio.to_thread(lambda: list(collect(ground.system)))
    assert check(History.of(everything)) == []


def begin(ground: Arena, world: World, history: HistoryFile, name: str) -> list[asyncio.Task[None]]:
    """Let clients ask."""
    world.is_over = False
    clients = [
        Client(
            f"c{name}_{number}",
            SEED,
            world,
            history,
            writers=ground.writers,
            readers=ground.readers,
            idle_seconds=IDLE_SECONDS,
        )
        for number in range(CLIENTS)
    ]
    return [asyncio.create_task(client.run()) for client in clients]


async def until_struck(ground: Arena, part: Part, scenario: Scenario) -> None:
    """Wait until it has done everything and crashed. A reader that got a snapshot made before starts again."""
    reader = ground.readers[-1]
    for number, _ in enumerate(scenario.actions.split(","), 1):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while part.program.is_running and len(struck(part)) < number:
                if scenario.needs_new_reader and await asyncio.to_thread(is_ready, reader):
                    await asyncio.to_thread(reader.program.kill)
                    reader.start()
                await asyncio.sleep(0.02)
    await asyncio.to_thread(part.program.wait)


def is_ready(part: Part) -> bool:
    """Whether it serves."""
    assert isinstance(part.program, ServiceProcess)
    return part.program.is_ready


def struck(part: Part) -> list[str]:
    """What it has done at its label so far."""
    return struck_in(part.program.directory)
