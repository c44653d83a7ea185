"""The supervisor of ``twitter dev``: order of start and stop, restarts, back-off. Fake processes, fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from services.cli.dev.backoff import BackOff
from services.cli.dev.part import Part
from services.cli.dev.supervisor import Supervisor, describe_end
from services.cli.errors import CommandFailed

pytestmark = pytest.mark.anyio

TURNS_MAX = 1000


class FakeChild:
    """A process that lives until somebody ends it."""

    def __init__(self, pid: int, on_signal: Callable[[str], None], *, is_stubborn: bool) -> None:
        self.pid = pid
        self._on_signal = on_signal
        self._is_stubborn = is_stubborn
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask it to leave."""
        self._on_signal("terminate")
        if not self._is_stubborn:
            self.end(-15)

    def kill(self) -> None:
        """End it."""
        self._on_signal("kill")
        self.end(-9)

    def end(self, code: int) -> None:
        """It ends with this code."""
        if not self._ended.done():
            self._ended.set_result(code)


@dataclass
class FakeMachine:
    """Launches fake processes and writes down, in order, what happens to them."""

    story: list[str] = field(default_factory=list)
    children: dict[str, FakeChild] = field(default_factory=dict)
    not_ready: set[str] = field(default_factory=set)
    stubborn: set[str] = field(default_factory=set)
    now: float = 0.0
    launches: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def supervisor(self, *stages: str) -> Supervisor:
        """A supervisor; each stage names its parts."""
        return Supervisor(
            stages=[[self.part(name) for name in stage.split()] for stage in stages],
            launch=self.launch,
            say=lambda name, what: self.story.append(f"{name} {what}"),
            on_change=lambda: self.story.append("change"),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def part(self, name: str) -> Part:
        """A part that is ready unless ``not_ready`` names it."""

        async def readiness() -> str | None:
            await asyncio.sleep(0)
            return "starting" if name in self.not_ready else None

        return Part(name, (name,), readiness, stop_seconds=0.01)

    async def launch(self, part: Part) -> FakeChild:
        """Start a fake process."""
        self.launches += 1
        self.story.append(f"launch {part.name}")
        child = FakeChild(
            self.launches, lambda how: self.story.append(f"{how} {part.name}"), is_stubborn=part.name in self.stubborn
        )
        self.children[part.name] = child
        return child

    async def sleep(self, seconds: float) -> None:
        """Time passes at once."""
        self.now += seconds
        await asyncio.sleep(0)

    async def until(self, line: str, times: int = 1) -> None:
        """Let the loop turn until the line has been told."""
        for _ in range(TURNS_MAX):
            if self.story.count(line) >= times:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"{line!r} did not happen {times} times: {self.story}")


async def test_parts_start_in_order_and_stop_in_the_opposite_one() -> None:
    """A stage waits for the one before it, its parts start together; on a stop each leaves before those before it."""
    machine = FakeMachine(not_ready={"redis", "owner"})
    running = asyncio.create_task(machine.supervisor("redis", "owner read").run(machine.stop))
    await machine.until("redis is not ready yet: starting")
    assert "launch owner" not in machine.story
    machine.not_ready.remove("redis")
    await machine.until("launch read")
    assert "change" not in machine.story
    machine.not_ready.clear()
    await machine.until("change")
    machine.stop.set()
    await running
    story = [line for line in machine.story if "not ready" not in line]
    assert story == [
        "launch redis",
        "launch owner",
        "launch read",
        "change",
        "terminate read",
        "terminate owner",
        "terminate redis",
    ]


async def test_a_part_that_dies_is_started_again_ever_more_slowly() -> None:
    """Deaths are told with how and when it comes back; a part that stayed up starts from the first wait again."""
    machine = FakeMachine()
    supervisor = machine.supervisor("redis", "read")
    running = asyncio.create_task(supervisor.run(machine.stop))
    await machine.until("change")
    for death, wait in enumerate(("0.5", "1", "2"), start=1):
        machine.children["read"].end(-9)
        await machine.until(f"read was killed by SIGKILL; it is started again in {wait} s")
        await machine.until("read is ready again", times=death)
    machine.now += 1_000
    machine.children["read"].end(1)
    await machine.until("read ended with code 1; it is started again in 0.5 s")
    await machine.until("read is ready again", times=4)
    assert supervisor.pids == {"redis": 1, "read": 6}
    assert machine.story.count("change") == 5
    machine.stop.set()
    await running


async def test_a_part_that_ends_before_all_are_ready_fails_the_start() -> None:
    """The error names it, whichever part was being waited for, and the others are stopped."""
    machine = FakeMachine(not_ready={"read"})
    running = asyncio.create_task(machine.supervisor("redis", "owner read").run(machine.stop))
    await machine.until("launch read")
    machine.children["owner"].end(3)
    with pytest.raises(CommandFailed, match="owner ended with code 3 before all was ready"):
        await running
    assert machine.story[-2:] == ["terminate owner", "terminate redis"]
    assert "change" not in machine.story


async def test_a_part_that_does_not_leave_is_killed() -> None:
    """An orderly stop has an end: after its time a part is killed, and the next one's turn comes."""
    machine = FakeMachine(stubborn={"read"})
    running = asyncio.create_task(machine.supervisor("redis", "read").run(machine.stop))
    await machine.until("change")
    machine.stop.set()
    await running
    assert machine.story[-4:] == [
        "terminate read",
        "read did not leave within 0.01 s and is killed",
        "kill read",
        "terminate redis",
    ]


async def test_kill_ends_everything_at_once() -> None:
    """The second Ctrl-C waits for nobody."""
    machine = FakeMachine(stubborn={"redis", "read"})
    supervisor = machine.supervisor("redis", "read")
    running = asyncio.create_task(supervisor.run(machine.stop))
    await machine.until("change")
    machine.stop.set()
    await machine.until("terminate read")
    supervisor.kill()
    await running
    assert machine.story[3:] == ["terminate read", "kill redis", "kill read", "terminate redis"]


async def test_a_stop_during_the_start_stops_what_was_started() -> None:
    """Ctrl-C need not wait until all is up."""
    machine = FakeMachine(not_ready={"owner"})
    running = asyncio.create_task(machine.supervisor("redis", "owner", "read").run(machine.stop))
    await machine.until("launch owner")
    machine.stop.set()
    await running
    assert machine.story[-2:] == ["terminate owner", "terminate redis"]
    assert "launch read" not in machine.story


def test_back_off_doubles_up_to_a_limit_and_resets() -> None:
    """Half a second at first, never more than the limit, the first wait again after a long life."""
    back_off = BackOff(first_seconds=0.5, seconds_max=3.0, reset_after_seconds=20.0)
    assert [back_off.after_death(uptime) for uptime in (0, 0, 0, 0, 19.9, 20.0, 0)] == [0.5, 1, 2, 3, 3, 0.5, 1]


def test_the_end_of_a_process_is_told_in_words() -> None:
    """A signal has a name."""
    assert (describe_end(0), describe_end(-9)) == ("ended with code 0", "was killed by SIGKILL")
