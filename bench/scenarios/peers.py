"""The same three requests to others: the way the seed describes it, and PyPI's mastodon_mock.

Each is asked in the way that suits it best: one tweet and one author again and again, which its cache may hold, over
few connections, as a slow server with many would answer none of them within a round; posts over as many as ours, where
the peer bears that. What each does and does not do is in docs/performance.md.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from bench.data import KEPT
from bench.results import Figure, ratio_figure
from bench.rounds import Contestant, compare
from bench.scenarios.context import Context
from bench.scenarios.writing import tweets
from bench.server import Server, serving
from bench.wrk import Requests
from tests.support.process import REPOSITORY, Program
from tests.support.redis_server import RedisServer

READING_CONNECTIONS_MAX: Final = 16
MOCK_CONNECTIONS_MAX: Final = 8
"""With 64 mastodon_mock 0.6.1 stops answering, for good; 16 it bears."""
SEED_TWEETS: Final = 10_000
SEED_USERS: Final = 250
MASTODON_MOCK: Final = "mastodon_mock==0.6.1"
_TOKEN: Final = "token"  # noqa: S105 - of an account that only this server knows
_MOCK_SETTINGS: Final = f"""
[database]
path = "mock.db"
[auth]
permissive = true
[[seed.accounts]]
username = "ann"
access_token = "{_TOKEN}"
"""
_TEXT: Final = "a tweet of about eighty characters, as most of them are, with a number: %d"


@dataclass(frozen=True, slots=True)
class Question:
    """One of the three requests: as it is asked of a server at ``url``, run by ``program``."""

    url: str
    program: Program
    requests: Requests


def seed_way(context: Context) -> list[Figure]:
    """FastAPI, a SQLModel session and a Redis connection for each request, one commit a message."""
    with _seed_services(context.directory, min(SEED_TWEETS, context.scale.tweets)) as (reader, writer):
        return _compared(
            context,
            "seed",
            "the seed's own way",
            Question(reader.url, reader, Requests("/tweets/", 1)),
            Question(reader.url, reader, Requests("/users/", 1, suffix="/tweets?limit=20")),
            Question(
                writer.url,
                writer,
                Requests("/tweets", method="POST", body=f'{{"content": "{_TEXT}", "user_id": 1}}'),
            ),
            context.scale.connections,
        )


def mastodon_mock(context: Context) -> list[Figure]:
    """A server of the Mastodon API for tests, one process over SQLite."""
    context.directory.mkdir(parents=True, exist_ok=True)
    (context.directory / "settings.toml").write_text(_MOCK_SETTINGS)
    tokens = context.directory / "tokens"
    tokens.write_text(f"{_TOKEN}\n")
    arguments = ["mastodon_mock", "serve", "--config", "settings.toml", "--port", "{port}", "--log-level", "error"]
    server = Server("mastodon_mock", context.directory, {"PYTHONPATH": ""}, arguments, _mock_python())
    with serving(server):
        status_id, account_id = _post_statuses(server.url, 20)
        return _compared(
            context,
            "mock",
            "`mastodon_mock`",
            Question(server.url, server, Requests("/api/v1/statuses/", status_id)),
            Question(server.url, server, Requests("/api/v1/accounts/", account_id, suffix="/statuses?limit=20")),
            Question(
                server.url,
                server,
                Requests("/api/v1/statuses", method="POST", tokens=tokens, body=f'{{"status": "{_TEXT}"}}'),
            ),
            min(MOCK_CONNECTIONS_MAX, context.scale.connections),
        )


def _compared(
    context: Context,
    name: str,
    peer: str,
    tweet: Question,
    timeline: Question,
    post: Question,
    connections: int,
) -> list[Figure]:
    system, few = context.system, context.scale.few
    posting = replace(few, connections=connections)
    reading = replace(few, connections=min(READING_CONNECTIONS_MAX, connections))
    society, reader, writer = system.society, system.reader, system.writer
    ours = {
        "tweet": Question(reader.url, reader, Requests("/tweets/", society.tweet_id(0))),
        "timeline": Question(reader.url, reader, Requests("/users/", society.user_id(0), suffix="/tweets?limit=20")),
        "post": Question(writer.url, writer, tweets(context)),
    }
    whats = {"tweet": "`GET` of a tweet", "timeline": "`GET` of an author's tweets", "post": "`POST` of a tweet"}
    figures = []
    for kind, theirs in {"tweet": tweet, "timeline": timeline, "post": post}.items():
        asked = ours[kind]
        with system.measured(asked.program), system.paused(system.owner):
            comparison = compare(
                Contestant(asked.url, asked.requests, {"ours": asked.program.pid}),
                Contestant(theirs.url, theirs.requests, {"theirs": theirs.program.pid}),
                posting if kind == "post" else reading,
            )
        system.wait_until_even()
        figures.append(
            ratio_figure(f"{name}_{kind}", f"{whats[kind]}: times", peer, comparison.rates, beside=comparison.beside)
        )
    return figures


@contextmanager
def _seed_services(directory: Path, tweets_to_read: int) -> Iterator[tuple[Server, Server]]:
    """The seed's read and write service, with rows to read. Its consumer is not started: nothing waits for it."""
    directory.mkdir(parents=True, exist_ok=True)
    redis = RedisServer(directory / "redis")
    told = {
        "REDIS_URL": redis.url,
        "DATABASE": str(directory / "seed.db"),
        "TWEETS": str(tweets_to_read),
        "USERS": str(SEED_USERS),
    }
    module = "bench.baselines.seed_way"
    with ExitStack() as opened:
        opened.callback(redis.close)
        redis.start()
        subprocess.run([sys.executable, "-m", module, "fill"], env={**told, "PYTHONPATH": str(REPOSITORY)}, check=True)
        reader = opened.enter_context(serving(Server("seed-read", directory, told, [module, "read"])))
        writer = opened.enter_context(serving(Server("seed-write", directory, told, [module, "write"])))
        yield reader, writer


def _mock_python() -> str:
    """A Python that has mastodon_mock, in an environment of its own, which is kept."""
    environment = KEPT / MASTODON_MOCK
    python = environment / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv", path=Path(sys.executable).parent) or "uv"
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, MASTODON_MOCK], check=True)
    return str(python)


def _post_statuses(url: str, count: int) -> tuple[int, int]:
    """Post so many; the ids of the last one and of its author."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {_TOKEN}"}, trust_env=False) as http:
        for number in range(count):
            answer = http.post("/api/v1/statuses", json={"status": _TEXT % number}).raise_for_status().json()
    return int(answer["id"]), int(answer["account"]["id"])
