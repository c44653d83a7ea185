"""Home timelines of users who follow a thousand others: asked for again, and for the first time."""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Iterator
from typing import Final

from bench import openloop, wrk
from bench.baselines import join
from bench.data import DATABASE, STEP, Society
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.openloop import Request
from bench.results import Figure, at_least, at_most, measured_figure, ratio_figure
from bench.scenarios.context import Context
from bench.wrk import Requests, Run

SHARE_OF_MAXIMUM: Final = 0.5
JOINS: Final = 10
PARTS: Final = 10_000_000
"""A home timeline has as many parts (``since_id``) that are all of it here, and that no cache takes for one another."""


def home(context: Context) -> list[Figure]:
    """What one core answers, against what it answers of the statement alone; and latencies at half of the first."""
    system, scale = context.system, context.scale.few
    society, url = system.society, system.reader.url
    again = Requests("/users/", society.user_id(0), STEP, society.home_readers, suffix="/home?limit=20")
    joins: list[float] = []
    scans: list[float] = []
    runs: list[tuple[Run, Run]] = []
    with system.measured(system.reader):
        wrk.warm_up(url, again, seconds=scale.warm_up_seconds, connections=scale.connections)
        for number in range(1, scale.rounds + 1):
            cached, uncached = (
                wrk.run(url, requests, seconds=scale.seconds, connections=scale.connections, seed=number)
                for requests in (again, first_time(society, number))
            )
            runs.append((cached, uncached))
            joins.append(_join_ms(context, join.BY_INDEX))
            scans.append(_join_ms(context, join.BY_SCAN))
        rate = statistics.median(uncached.rate for _, uncached in runs) * SHARE_OF_MAXIMUM
        asked = _asked_once(society, url)
        outcomes = [openloop.run(asked, rate=rate, seconds=2 * scale.seconds) for _ in range(scale.rounds)]
    what = f"home timeline: newest 20 of {society.followed:,} authors followed, out of {society.tweets:,} tweets"
    baseline = "the plain SQL join without HTTP, one after another on the same core"
    a_second = [1000 / each for each in joins]
    beside = {"join_ms": joins, "join_by_scan_ms": scans, "closed_loop_ms": [first.p50_ms for _, first in runs]}
    return [
        ratio_figure(
            "home",
            f"{what}: answers a second, asked for again",
            baseline,
            [(cached.rate, theirs) for (cached, _), theirs in zip(runs, a_second, strict=True)],
            at_least(20),
            beside=beside,
        ),
        ratio_figure(
            "home_first",
            "the same, asked for the first time: no cache has it",
            baseline,
            [(uncached.rate, theirs) for (_, uncached), theirs in zip(runs, a_second, strict=True)],
            beside=beside,
        ),
        measured_figure(
            "home_p99",
            f"the same, p99 at {rate:.0f} requests/s, half of what one reader answers",
            [outcome.percentile("home", 99) for outcome in outcomes],
            "ms",
            at_most(10),
            beside={"rate": round(rate), "open_loop_ms": outcomes[-1].summary("home")},
        ),
    ]


def first_time(society: Society, number: int) -> Requests:
    """A home timeline, another user's for each number, each time by a query that nobody has asked before."""
    user_id = society.user_id(number % society.home_readers)
    return Requests(f"/users/{user_id}/home?limit=20&since_id=", 1, 1, PARTS)


def _asked_once(society: Society, url: str) -> Iterator[Request]:
    """The same of all users in turn, for ever."""
    chance = random.Random(1)
    while True:
        for number in range(society.home_readers):
            path = first_time(society, number).path(chance.randrange(PARTS))
            yield Request("home", url, openloop.get(url, path))


def _join_ms(context: Context, statement: str) -> float:
    system = context.system
    users = [system.society.user_id(number) for number in range(min(JOINS, system.society.home_readers))]
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        return 1000 * statistics.median(join.seconds_each(system.owner_directory / DATABASE, users, statement))
    finally:
        os.sched_setaffinity(0, {LOAD_CORE})
