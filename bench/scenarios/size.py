"""What processes hold, how soon a reader serves, and what more readers bring."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from bench import usage, wrk
from bench.cgroup import limited
from bench.data import STEP
from bench.machine import LOAD_CORE, SERVER_CORE, pin
from bench.results import Figure, at_least, at_most, measured_figure, ratio_figure
from bench.scenarios.context import Context
from bench.scenarios.writing import tweets
from bench.system import START_SECONDS_MAX, BenchSystem
from bench.wrk import Requests
from tests.support.process import ServiceProcess

READERS: Final = 4
SHARE: Final = 0.2
"""Of the server's core, for each reader."""
FILLS_THE_CACHE_SECONDS: Final = 5


def footprint(context: Context) -> list[Figure]:
    """A reader that has answered reads of any tweet, a writer that has taken posts, a reader that starts."""
    system, scale = context.system, context.scale.few
    society = system.society
    wrk.warm_up(system.writer.url, tweets(context), seconds=scale.warm_up_seconds, connections=scale.connections)
    every = Requests("/tweets/", society.tweet_id(0), STEP, society.tweets)
    seconds = FILLS_THE_CACHE_SECONDS * scale.seconds / 3
    wrk.warm_up(system.reader.url, every, seconds=seconds, connections=scale.connections)
    starts = []
    for number in range(scale.rounds):
        newcomer = system.new_reader(f"newcomer-{number}")
        try:
            starts.append(_start_seconds(newcomer))
            fresh = usage.memory(newcomer.pid)
        finally:
            newcomer.close()
    held = system.memory()
    of_reader, of_writer = held[system.reader.name], held[system.writer.name]
    beside = {"memory_mb": held, "newcomer_memory_mb": fresh}
    what = f"a reader with {society.tweets:,} tweets"
    return [
        measured_figure(
            "reader_memory", f"anonymous memory of {what}", [of_reader.anonymous_mb], "MB", at_most(150), beside=beside
        ),
        measured_figure(
            "writer_memory", "anonymous memory of a writer", [of_writer.anonymous_mb], "MB", at_most(80), beside=beside
        ),
        measured_figure("start", f"{what}: start to ready", starts, "s", at_most(10)),
    ]


def readers(context: Context) -> list[Figure]:
    """Readers with a fifth of the server's core each, all on it, against one of them."""
    system, scale = context.system, context.scale.few
    requests = Requests("/tweets/", system.society.tweet_id(0), STEP, min(1000, system.society.tweets))
    with ExitStack() as opened:
        every = opened.enter_context(measured_readers(system, READERS))
        for reader in every:
            opened.enter_context(limited(reader.pid, SHARE))
            wrk.warm_up(reader.url, requests, seconds=scale.warm_up_seconds, connections=16)
        rounds, generator_cpu = [], []
        for number in range(1, scale.rounds + 1):
            alone, _ = rate_of(every[:1], requests, scale.seconds, number)
            together, cpu = rate_of(every, requests, scale.seconds, number)
            rounds.append((together, alone))
            generator_cpu.append(cpu)
    return [
        ratio_figure(
            "readers",
            f"{READERS} readers, each limited to {SHARE} core: reads",
            "1 such reader",
            rounds,
            at_least(3.8),
            beside={"generators_cpu": generator_cpu, "requests_per_second": rounds},
        )
    ]


@contextmanager
def measured_readers(system: BenchSystem, count: int) -> Iterator[list[ServiceProcess]]:
    """So many readers, the system's own among them, all on the server's core."""
    with ExitStack() as opened:
        others = [system.new_reader(f"reader-{number}") for number in range(2, count + 1)]
        for reader in others:
            opened.callback(reader.close)
            reader.start()
            pin(reader.pid, LOAD_CORE)
            reader.wait_ready(START_SECONDS_MAX)
        every = [system.reader, *others]
        with system.measured(*every):
            yield every


def rate_of(some: list[ServiceProcess], requests: Requests, seconds: float, seed: int) -> tuple[float, float]:
    """Requests a second of these readers together, and the generators' share of their core."""
    runs = [wrk.start(reader.url, requests, seconds=seconds, connections=16, seed=seed) for reader in some]
    found = [wrk.finish(run) for run in runs]
    return sum(run.rate for run in found), round(sum(run.generator_cpu for run in found), 2)


def _start_seconds(reader: ServiceProcess) -> float:
    """From the start of the process until it is ready."""
    began_at = time.monotonic()
    reader.start()
    pin(reader.pid, SERVER_CORE)
    reader.wait_ready(START_SECONDS_MAX)
    return round(time.monotonic() - began_at, 2)
