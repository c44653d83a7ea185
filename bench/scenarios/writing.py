"""Durable writes of one writer on a core of its own, against a bare server, and against the append itself.

Whoever follows the log is stalled meanwhile: owner and reader would take the core of Redis and of the generator, who on
a machine with more cores have theirs. (Of one connection the reader's part is small, and it goes on.) They catch up
after; how fast they are, is measured by themselves (bench/scenarios/applying.py). So the writer has met all authors and
tweets before: what it does not know it asks a reader, and that is measured with likes of any tweet, where the reader
goes on.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import httpx

from bench import wrk
from bench.data import STEP
from bench.machine import SERVER_CORE
from bench.results import Figure, Target, at_least, at_most, ratio_figure
from bench.rounds import Contestant, compare
from bench.scenarios.context import Context
from bench.server import bare, serving
from bench.wrk import Requests
from tests.support.process import REPOSITORY, ServiceProcess

BARE: Final = "bare ASGI POST that reads the body"
LIKED: Final = 1_000
"""Of so many tweets the writer knows that they exist; of others it asks a reader first."""
STALLED_SECONDS_MAX: Final = 30
"""A minute after the writer has asked for an author it asks again, and nobody would answer."""
CALLS_A_SECOND: Final = 1_000


def tweets(context: Context) -> Requests:
    """Posts of new tweets by the holders of the tokens."""
    body = '{"content": "a tweet of about eighty characters, as most of them are, with a number: %d"}'
    return Requests("/tweets", method="POST", tokens=context.system.tokens(), body=body)


def likes(context: Context, of_tweets: int) -> Requests:
    """Likes of any of so many tweets, by the holders of the tokens."""
    first = context.system.society.tweet_id(0)
    tokens = context.system.tokens()
    return Requests("/tweets/", first, STEP, of_tweets, suffix="/like", method="POST", tokens=tokens, body="{}")


def post(context: Context) -> list[Figure]:
    """Tweets of many authors over 64 connections."""
    what = "`POST /tweets` durable, 64 connections, auth and validation on"
    ours = _against_bare(context, "post", what, tweets(context), at_least(0.65))
    return [ours, _log_alone(context, ours, "log_of_posts")]


def like(context: Context) -> list[Figure]:
    """Likes by many users over 64 connections: of tweets that are known, and of any."""
    society = context.system.society
    known, all_tweets = min(LIKED, society.tweets), society.tweets
    what = f"`POST /tweets/{{id}}/like`, of {known:,} tweets"
    any_what = f"the same, of any of {all_tweets:,} tweets"
    ours = _against_bare(context, "like", what, likes(context, known), at_least(0.65))
    return [
        ours,
        _log_alone(context, ours, "log_of_likes", society.tweet_id(0)),
        _against_bare(context, "like_uniform", any_what, likes(context, all_tweets), None, are_known=False),
    ]


def post_alone(context: Context) -> list[Figure]:
    """One connection: how long a post takes where nobody else posts, against the append alone."""
    system, scale = context.system, context.scale
    requests = tweets(context)
    rounds, slowest = [], []
    _introduce(context, requests)
    with system.measured(system.writer), system.paused(system.owner):
        wrk.warm_up(system.writer.url, requests, seconds=scale.warm_up_seconds, connections=1)
        for number in range(1, scale.rounds + 1):
            ours = wrk.run(system.writer.url, requests, seconds=scale.seconds, connections=1, seed=number)
            rounds.append((ours.p50_ms, _append_ms(context, round(CALLS_A_SECOND * scale.seconds))))
            slowest.append(ours.p99_ms)
    system.wait_until_even()
    return [
        ratio_figure(
            "post_alone",
            "the same, one connection: median latency",
            "one EVALSHA from Python, same writes and fsync",
            rounds,
            at_most(1.5),
            beside={"p50_ms": [ours for ours, _ in rounds], "append_p50_ms": [a for _, a in rounds], "p99_ms": slowest},
        )
    ]


def _log_alone(context: Context, served: Figure, name: str, liked_id: int = 0) -> Figure:
    """What the log takes of the same with no server in between and no generator beside it: the most there can be."""
    system, scale = context.system, context.scale.few
    told = {"LIKED_ID": str(liked_id), "SECONDS": str(scale.seconds), "ITEMS": str(scale.connections // 2)}
    with system.paused(system.owner, system.reader):
        rates = [_baseline(context, "log_alone", told) for _ in range(scale.rounds)]
    system.wait_until_even()
    bare_rate = statistics.median(theirs for _, theirs in served.rounds)
    what = "the same items straight into the log, without a server: the most there can be"
    return ratio_figure(name, what, served.baseline, [(rate, bare_rate) for rate in rates])


def _append_ms(context: Context, calls: int) -> float:
    return _baseline(context, "evalsha", {"CALLS": str(calls)})


def _baseline(context: Context, module: str, told: Mapping[str, str]) -> float:
    """The figure that a module of baselines prints, which has the server's core meanwhile."""
    system = context.system
    about = {"REDIS_URL": system.redis.url, "USER_ID": str(system.society.user_id(0))}
    answered = subprocess.run(
        ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", f"bench.baselines.{module}"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **about, **told},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(answered.stdout)


def _against_bare(
    context: Context, name: str, what: str, requests: Requests, target: Target | None, *, are_known: bool = True
) -> Figure:
    system = context.system
    writer = system.writer
    body_bytes = _body_bytes(context, requests)
    if are_known:
        _introduce(context, requests)
    with (
        system.measured(writer),
        system.paused(*_stalled(context, are_known=are_known)),
        serving(bare(context.directory, body_bytes)) as idle,
    ):
        pids = {"writer": writer.pid, "redis": system.redis.pid, "reader": system.reader.pid}
        theirs = Contestant(idle.url, requests, {"bare": idle.pid})
        comparison = compare(Contestant(writer.url, requests, pids), theirs, context.scale)
    system.wait_until_even()
    return ratio_figure(
        name, what, BARE, comparison.rates, target, beside={"body_bytes": body_bytes, **comparison.beside}
    )


def _stalled(context: Context, *, are_known: bool) -> list[ServiceProcess]:
    """Who is stalled meanwhile. In runs that take too long the writer asks for authors anew, and needs the reader."""
    system, scale = context.system, context.scale
    is_short = 2 * scale.rounds * scale.seconds <= STALLED_SECONDS_MAX
    return [system.owner, system.reader] if are_known and is_short else [system.owner]


def _introduce(context: Context, requests: Requests) -> None:
    """Have the writer meet everybody and everything that such requests are about; authors for the next 45 seconds."""
    assert requests.tokens is not None
    tokens = requests.tokens.read_text().split()
    with httpx.Client(base_url=context.system.writer.url, trust_env=False) as client:
        for number in range(max(len(tokens), requests.count)):
            _send(client, requests, number % requests.count, tokens[number % len(tokens)])


def _body_bytes(context: Context, requests: Requests) -> int:
    """The size of the answer to such a request."""
    assert requests.tokens is not None
    with httpx.Client(base_url=context.system.writer.url, trust_env=False) as client:
        return len(_send(client, requests, 0, requests.tokens.read_text().split()[0]).content)


def _send(client: httpx.Client, requests: Requests, number: int, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = requests.body.replace("%d", "1000000")
    return client.post(requests.path(number), content=body, headers=headers).raise_for_status()
