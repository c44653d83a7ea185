"""Home timelines of users who follow a thousand others; no cache holds them."""

from __future__ import annotations

import os
import statistics
from itertools import count
from typing import Final

from bench import openloop, wrk
from bench.baselines import join
from bench.data import DATABASE, STEP
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.openloop import Request
from bench.results import Figure, at_least, at_most, measured_figure, ratio_figure
from bench.scenarios.context import Context
from bench.wrk import Requests

SHARE_OF_MAXIMUM: Final = 0.5
JOINS: Final = 10


def home(context: Context) -> list[Figure]:
    """Over HTTP, one request after another, against the statement alone; then at half of what one reader answers."""
    system, scale = context.system, context.scale.few
    society, url = system.society, system.reader.url
    requests = Requests("/users/", society.user_id(0), STEP, society.home_readers, suffix="/home?limit=20")
    users = [society.user_id(number) for number in range(society.home_readers)]
    rounds, scans, outcomes = [], [], []
    with system.measured(system.reader):
        wrk.warm_up(url, requests, seconds=scale.warm_up_seconds, connections=1)
        for number in range(1, scale.rounds + 1):
            ours = wrk.run(url, requests, seconds=scale.seconds, connections=1, seed=number)
            rounds.append((_join_ms(context, users[:JOINS], join.BY_INDEX), ours.p50_ms))
            scans.append(_join_ms(context, users[:JOINS], join.BY_SCAN))
        most = wrk.run(url, requests, seconds=scale.seconds, connections=16, seed=1)
        rate = most.rate * SHARE_OF_MAXIMUM
        for _ in range(scale.rounds):
            asked = (Request("home", url, openloop.get(url, f"/users/{users[n % len(users)]}/home")) for n in count())
            outcomes.append(openloop.run(asked, rate=rate, seconds=2 * scale.seconds))
    what = f"home timeline: newest 20 of {society.followed:,} authors followed, out of {society.tweets:,} tweets"
    beside = {
        "join_ms": [theirs for theirs, _ in rounds],
        "join_by_scan_ms": scans,
        "home_ms": [ours for _, ours in rounds],
        "requests_per_second": most.rate,
        "rate": round(rate),
        "open_loop_ms": outcomes[-1].summary("home"),
    }
    return [
        ratio_figure(
            "home", f"{what}: times faster", "the plain SQL join, without HTTP", rounds, at_least(20), beside=beside
        ),
        measured_figure(
            "home_p99",
            f"the same, p99 at {rate:.0f} requests/s, half of what one reader answers",
            [outcome.percentile("home", 99) for outcome in outcomes],
            "ms",
            at_most(10),
            beside=beside,
        ),
    ]


def _join_ms(context: Context, users: list[int], statement: str) -> float:
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        return 1000 * statistics.median(join.seconds_each(context.system.owner_directory / DATABASE, users, statement))
    finally:
        os.sched_setaffinity(0, {LOAD_CORE})
