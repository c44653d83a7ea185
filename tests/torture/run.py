"""``python -m tests.torture.run``: clients, a nemesis, and a verdict. ``make torture`` runs this.

    --seconds 600  --seed 1  --clients 24  --idle 0  --lanes 2  --readers 3  --writers 2  --directory DIRECTORY

Keeps the history in DIRECTORY/history.ndjson, by default in a new temporary directory, and prints where. The exit code
says whether anything was violated.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.torture.arena import Arena, arena
from tests.torture.check import judge
from tests.torture.clients import Client, World
from tests.torture.ending import collect
from tests.torture.history import HistoryFile, Run
from tests.torture.nemesis import Nemesis

PROGRESS_SECONDS = 5.0
END_SECONDS = 600.0
"""How long all may take to apply the whole log in the end: the machine may be busy with something else altogether."""


def main() -> int:
    """Run, judge and report."""
    options = _options()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="twitter-torture-"))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "history.ndjson"
    _say(f"history: {path}")
    uvloop.run(_run(options, directory, path))
    return judge(path)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.run")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument(
        "--idle", type=float, default=0.0, help="about how many seconds a client waits between requests"
    )
    parser.add_argument("--lanes", type=int, default=2, help="how many faults there may be at once")
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--directory", type=Path)
    return parser.parse_args()


async def _run(options: argparse.Namespace, directory: Path, path: Path) -> None:
    async with arena(directory, readers=options.readers, writers=options.writers) as ground:
        if not ground.clocks:
            _say("no clock is set: that needs Linux and a C compiler (cc)")
        with HistoryFile(path) as history:
            history.add(Run(options.seed, options.seconds, _command(options)))
            await _torture(options, ground, history)
            _say("everything runs; collecting")
            for record in await asyncio.to_thread(lambda: list(collect(ground.system, END_SECONDS))):
                history.add(record)


def _command(options: argparse.Namespace) -> str:
    """What repeats the run: all options but where its files are."""
    given = (f"--{name} {value:g}" for name, value in vars(options).items() if name != "directory")
    return " ".join(["python -m tests.torture.run", *given])


async def _torture(options: argparse.Namespace, ground: Arena, history: HistoryFile) -> None:
    world = World()
    nemesis = Nemesis(ground, world, history, options.seed)
    clients = [
        Client(
            f"c{number}",
            options.seed,
            world,
            history,
            writers=ground.writers,
            readers=ground.readers,
            idle_seconds=options.idle,
        )
        for number in range(options.clients)
    ]
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.run())
        lanes = [tasks.create_task(nemesis.run(lane)) for lane in range(options.lanes)]
        await _watch(options.seconds, world, nemesis)
        world.is_over = True
        await asyncio.gather(*lanes)
        await nemesis.settle()


async def _watch(seconds: float, world: World, nemesis: Nemesis) -> None:
    began = time.monotonic()
    failures = 0
    while (elapsed := time.monotonic() - began) < seconds:
        _say(
            f"{elapsed:5.0f} s  {world.acknowledged:9,} acknowledged  {world.unknown:6,} unknown  "
            f"{nemesis.faults:5,} faults  {nemesis.kills:5,} kills  {len(nemesis.failures)} failures"
        )
        for failure in nemesis.failures[failures:]:
            _say(f"FAILED {failure.kind} {failure.victim}: {failure.detail[-3000:]}")
        failures = len(nemesis.failures)
        await asyncio.sleep(min(PROGRESS_SECONDS, seconds - elapsed))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program


if __name__ == "__main__":
    sys.exit(main())
