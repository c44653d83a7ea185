"""Reads of one reader on a core of its own, against a bare server that answers bodies of the same size."""

from __future__ import annotations

from typing import Final

import httpx

from bench.data import STEP
from bench.results import Figure, Target, at_least, ratio_figure
from bench.rounds import Contestant, compare
from bench.scenarios.context import Context
from bench.server import bare, serving
from bench.wrk import Requests

BARE: Final = "bare ASGI on uvicorn, same body size"


def tweet_hot(context: Context) -> list[Figure]:
    """One tweet, again and again."""
    requests = Requests("/tweets/", context.system.society.tweet_id(0))
    return [_against_bare(context, "tweet_hot", "`GET /tweets/{id}`, hot", requests, at_least(0.9))]


def tweet_uniform(context: Context) -> list[Figure]:
    """Any tweet, of more than the cache holds."""
    society = context.system.society
    requests = Requests("/tweets/", society.tweet_id(0), STEP, society.tweets)
    what = f"the same, uniform over {society.tweets:,} tweets"
    return [_against_bare(context, "tweet_uniform", what, requests, at_least(0.5))]


def timeline_hot(context: Context) -> list[Figure]:
    """The newest tweets of one author."""
    requests = Requests("/users/", context.system.society.user_id(0), suffix="/tweets?limit=20")
    what = "`GET /users/{id}/tweets?limit=20`, hot"
    return [_against_bare(context, "timeline_hot", what, requests, at_least(0.85))]


def timeline_uniform(context: Context) -> list[Figure]:
    """The newest tweets of any author."""
    society = context.system.society
    requests = Requests("/users/", society.user_id(0), STEP, society.users, suffix="/tweets?limit=20")
    what = f"the same, uniform over {society.users:,} users"
    return [_against_bare(context, "timeline_uniform", what, requests, at_least(0.3))]


def _against_bare(context: Context, name: str, what: str, requests: Requests, target: Target) -> Figure:
    system = context.system
    reader = system.reader
    body_bytes = _mean_body_bytes(reader.url, requests)
    with system.measured(reader), serving(bare(context.directory, body_bytes)) as idle:
        pids = {"redis": system.redis.pid, "owner": system.owner.pid}
        ours = Contestant(reader.url, requests, {"reader": reader.pid, **pids})
        comparison = compare(ours, Contestant(idle.url, requests, {"bare": idle.pid}), context.scale)
    return ratio_figure(
        name, what, BARE, comparison.rates, target, beside={"body_bytes": body_bytes, **comparison.beside}
    )


def _mean_body_bytes(url: str, requests: Requests) -> int:
    """What the bodies of some answers have on the average."""
    numbers = range(0, requests.count, max(1, requests.count // 50))
    with httpx.Client(base_url=url, trust_env=False, headers={"Accept-Encoding": "identity"}) as http:
        paths = (requests.path(number) for number in numbers)
        sizes = [len(http.get(path).raise_for_status().content) for path in paths]
    return sum(sizes) // len(sizes)
