"""How soon a post is visible elsewhere, and what a reader still answers while the log grows as fast as it can."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from bench import openloop, usage, wrk
from bench.data import STEP
from bench.feeder import BEGINS
from bench.machine import LOAD_CORE
from bench.openloop import Outcome, Request
from bench.results import Figure, at_least, at_most, measured_figure, ratio_figure
from bench.rounds import Contestant
from bench.scenarios.context import Context
from bench.scenarios.writing import tweets
from bench.system import BenchSystem
from bench.wrk import Requests
from services.common.ids import unix_ms_of
from tests.support.process import REPOSITORY

SHARE_OF_MAXIMUM: Final = 0.5
LOOKED_FOR: Final = 200
"""So many posts a second are looked for."""
MANY_CONNECTIONS: Final = 256
"""Where the generator shares its core with others who are busy: the server has something to do until it is back, and a
rate that is kept by pauses hardly follows the latency."""
EXPECTED_MS: Final = 5
"""About how long such a post takes, which a connection need not pause."""
RECENT_TWEETS: Final = 10_000

Look = Callable[[str, int], Request]
"""A request that looks for a tweet at a reader."""


def visible(context: Context) -> list[Figure]:
    """From the moment a post is due until another process answers a GET of it, without X-Min-Position.

    The maximum is that of two cores on which everybody works: writer and reader on one, the others beside the load.
    Half of it are posts of wrk, few of them those of an open loop, who looks for each: by its id, asked at once after
    the 201, or on its author's list, asked until it is there.
    """
    system, scale = context.system, context.scale.few
    posts = tweets(context)
    seconds = 2 * scale.seconds + scale.warm_up_seconds
    assert posts.tokens is not None
    tokens = posts.tokens.read_text().split()
    outcomes, others_found = [], []
    with system.measured(system.writer, system.reader):
        maximum = wrk.run(system.writer.url, posts, seconds=seconds, connections=scale.connections, seed=0)
        system.wait_until_even()
        pause_ms = 1000 * MANY_CONNECTIONS / (SHARE_OF_MAXIMUM * maximum.rate) - EXPECTED_MS
        others = replace(posts, pause_ms=max(1, round(pause_ms)))
        for number in range(1, scale.rounds + 1):
            posting = wrk.start(system.writer.url, others, seconds=seconds, connections=MANY_CONNECTIONS, seed=number)
            with usage.cpu_shares({program.name: program.pid for program in system.programs}) as shares:
                outcomes.append(openloop.run(_posts(system, tokens), rate=LOOKED_FOR, seconds=seconds))
            others_found.append(wrk.finish(posting))
            system.wait_until_even()
    rates = [found.rate + LOOKED_FOR for found in others_found]
    beside = {
        "rate": rates,
        "maximum": maximum.rate,
        "ms": {kind: outcomes[-1].summary(kind) for kind in ("post", "visible", "listed")},
        "failed": sum(outcome.failed for outcome in outcomes) + sum(found.failed for found in others_found),
        "generator_cpu": outcomes[-1].generator_cpu,
        "cpu": shares,
    }
    what = f"post to visible through another process, at {statistics.median(rates):.0f} posts/s, half of the maximum"
    return [
        _against_post("visible_p50", f"{what}: p50", outcomes, "visible", 50, 2.0, beside),
        _against_post("visible_p99", f"{what}: p99", outcomes, "visible", 99, 3.0, beside),
        _against_post("listed_p50", "the same, on the author's list: p50", outcomes, "listed", 50, None, beside),
    ]


def reading_under_writes(context: Context) -> list[Figure]:
    """Reads of recent tweets while entries are appended at the writer's maximum, against the same with an idle log."""
    system, scale = context.system, context.scale.few
    rate = maximum_write_rate(context)
    society = system.society
    count = min(RECENT_TWEETS, society.tweets)
    requests = Requests("/tweets/", society.tweet_id(society.tweets - count), STEP, count)
    reader = Contestant(system.reader.url, requests, {"reader": system.reader.pid, "redis": system.redis.pid})
    rounds, lags = [], []
    fed: list[float] = []
    shares: dict[str, float] = {}
    with system.measured(system.reader), system.paused(system.owner):
        wrk.warm_up(reader.url, requests, seconds=scale.warm_up_seconds, connections=MANY_CONNECTIONS)
        for number in range(1, scale.rounds + 1):
            idle, _ = reader.run(seconds=scale.seconds, connections=MANY_CONNECTIONS, seed=number)
            with _feeding(system, rate, 2 * scale.seconds + 1, fed):
                first, _ = reader.run(seconds=scale.seconds, connections=MANY_CONNECTIONS, seed=number)
                lag_before = _lag_seconds(system)
                busy, shares = reader.run(seconds=max(1, scale.seconds - 1), connections=MANY_CONNECTIONS, seed=number)
                lags.append(_lag_seconds(system) - lag_before)
            rounds.append(((first.rate + busy.rate) / 2, idle.rate))
    system.wait_until_even()
    beside = {"appended_per_second": fed, "wanted_per_second": round(rate), "cpu": shares}
    what = "a reader while the log grows at the writer's maximum"
    return [
        ratio_figure("reading_under_writes", f"{what}: reads", "its idle rate", rounds, at_least(0.7), beside=beside),
        measured_figure("lag_growth", f"{what}: growth of its lag in a round", lags, "s", at_most(0.1), beside=beside),
    ]


def maximum_write_rate(context: Context) -> float:
    """Posts a second of one writer with a core of its own over 64 connections, measured now."""
    system, scale = context.system, context.scale
    requests = tweets(context)
    with system.measured(system.writer), system.paused(system.owner):
        wrk.warm_up(system.writer.url, requests, seconds=scale.warm_up_seconds, connections=scale.connections)
        found = wrk.run(system.writer.url, requests, seconds=scale.seconds, connections=scale.connections, seed=1)
    system.wait_until_even()
    return found.rate


def _against_post(
    name: str,
    what: str,
    outcomes: list[Outcome],
    kind: str,
    percent: int,
    most: float | None,
    beside: dict[str, object],
) -> Figure:
    rounds = [(outcome.percentile(kind, percent), outcome.percentile("post", percent)) for outcome in outcomes]
    target = None if most is None else at_most(most)
    return ratio_figure(name, what, f"POST's own p{percent}", rounds, target, beside=beside)


def _posts(system: BenchSystem, tokens: Sequence[str]) -> Iterator[Request]:
    """Posts of the holders of these tokens, each looked for."""
    authors = [system.society.user_id(system.society.users - 1 - number) for number in range(len(tokens))]
    url = system.writer.url
    for number in itertools.count():
        author = number % len(tokens)
        body = b'{"content": "a tweet of about eighty characters, as most are, with a number: %d"}' % number
        message = openloop.post(url, "/tweets", body, tokens[author])
        look = (_by_id, _on_list(authors[author]))[number % 2]
        yield Request("post", url, message, then=_looking(look, system.reader.url))


def _looking(look: Look, url: str) -> openloop.Answered:
    return lambda answer: look(url, int(json.loads(answer.body)["id"]))


def _by_id(url: str, tweet_id: int) -> Request:
    message = openloop.get(url, f"/tweets/{tweet_id}")
    return Request("visible", url, message, is_done=lambda answer: answer.status == 200)


def _on_list(author_id: int) -> Look:
    def look(url: str, tweet_id: int) -> Request:
        message = openloop.get(url, f"/users/{author_id}/tweets?limit=5")
        return Request("listed", url, message, is_done=lambda answer: b'"id":%d,' % tweet_id in answer.body)

    return look


@contextmanager
def _feeding(system: BenchSystem, rate: float, seconds: float, reached: list[float]) -> Iterator[None]:
    """A feeder on the load's core, which feeds when this begins; at the end ``reached`` has the rate it reached."""
    users = ",".join(str(system.society.user_id(number)) for number in range(min(100, system.society.users)))
    told = {"REDIS_URL": system.redis.url, "RATE": str(rate), "SECONDS": str(seconds), "USER_IDS": users}
    feeder = subprocess.Popen(
        ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench.feeder"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **told},
        stdout=subprocess.PIPE,
        text=True,
    )
    with feeder:
        assert feeder.stdout is not None
        try:
            assert feeder.stdout.readline() == BEGINS
            yield
            reached.append(float(feeder.stdout.readline()))
        finally:
            feeder.kill()


def _lag_seconds(system: BenchSystem) -> float:
    """How much older what the reader has applied is than the newest entry."""
    with closing(system.log()) as log:
        head = log.head()
    return max(0, unix_ms_of(head) - unix_ms_of(system.position_of(system.reader))) / 1000
