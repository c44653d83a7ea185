"""Followers that catch up with a backlog: the owner, against plain SQLite, and a reader, against the owner."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from bench.backlog import Backlog, Written
from bench.baselines import executemany
from bench.data import DATABASE, volume_of
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.results import Figure, at_least, ratio_figure
from bench.scenarios.context import Context
from services.db_updater.owner import BATCH_ENTRIES_MAX
from tests.support.process import ServiceProcess
from tests.support.wait import POLL_SECONDS

CATCH_UP_SECONDS_MAX: Final = 120.0


def catching_up(context: Context) -> list[Figure]:
    """One backlog a round, applied by the reader alone, by the owner alone, and by sqlite3.executemany."""
    system, scale = context.system, context.scale.few
    volume_of(system.society, context.directory)
    backlog = Backlog(system.society)
    owners, readers = [], []
    for _ in range(scale.rounds):
        with system.paused(system.owner, system.reader):
            log = system.log()
            written = backlog.append(log, scale.backlog)
            log.close()
            reader_rate = _rate(context, system.reader, written)
            system.reader.pause()
            owner_rate = _rate(context, system.owner, written)
            plain_rate = _plain_rate(context, written)
        system.wait_until_even()
        owners.append((owner_rate, plain_rate))
        readers.append((reader_rate, owner_rate))
    return [
        ratio_figure(
            "owner_backlog",
            "owner applying a backlog (mixed events)",
            "`sqlite3.executemany` of the same rows, same pragmas",
            owners,
            at_least(0.5),
            beside={"events_per_second": [ours for ours, _ in owners], "plain": [theirs for _, theirs in owners]},
        ),
        ratio_figure(
            "replica_catching_up",
            "a replica catching up alone",
            "the owner's rate",
            readers,
            at_least(1.0),
            beside={"events_per_second": [ours for ours, _ in readers]},
        ),
    ]


def _rate(context: Context, follower: ServiceProcess, written: Sequence[Written]) -> float:
    """Events a second from the first that a resumed follower has applied to the last."""
    positions = [at for at, _ in written]
    with context.system.measured(follower):
        follower.resume()
        samples: list[tuple[float, int]] = []
        deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
        while not samples or samples[-1][1] < len(positions):
            assert time.monotonic() < deadline, f"{follower.name} does not catch up: {samples[-1:]}"
            applied = bisect_right(positions, context.system.position_of(follower))
            if applied and (not samples or applied > samples[-1][1]):
                samples.append((time.perf_counter(), applied))
            time.sleep(POLL_SECONDS)
    (began_at, first), (ended_at, last) = samples[0], samples[-1]
    assert last > first, f"{follower.name} applied {last} events at once: a longer backlog is needed"
    return (last - first) / (ended_at - began_at)


def _plain_rate(context: Context, written: Sequence[Written]) -> float:
    work = executemany.batches(written, BATCH_ENTRIES_MAX)
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        return executemany.rows_per_second(context.directory / DATABASE, work, len(written))
    finally:
        os.sched_setaffinity(0, {LOAD_CORE})
