"""What a recovery costs: it grows with the accounts, in portions, and not with what they have written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, event

from services.common import keys
from services.common.database import sqlite_library
from services.common.errors import FenceLost
from services.common.log.client import ACCOUNTS_A_CALL, EventLog, StoredCredential
from services.common.log.idempotency import IdempotencyAnswer, IdempotencyClaim, position_of_hour
from services.db_updater.applier import Step
from tests.support.owner import append, database_path, following, tweet, user
from tests.support.redis_server import RedisServer

OF_ACCOUNTS = {"users", "credentials", "held_names", "idempotency_answers", "dead_letters"}
"""The tables that a recovery may read whole."""


def test_more_tweets_make_no_start_over_an_empty_redis_longer(tmp_path: Path, redis_server: RedisServer) -> None:
    """Of few and of many tweets: the same statements, none of which reads a table of tweets, likes or follows."""
    few, many = (recovery_of(tmp_path / str(tweets), redis_server, tweets) for tweets in (3, 300))
    assert [text for text, _ in few] == [text for text, _ in many]
    assert scanned(tmp_path / "300", many) <= OF_ACCOUNTS


def recovery_of(directory: Path, redis_server: RedisServer, tweets: int) -> list[tuple[str, Any]]:
    """The statements, with their parameters, from the start of an owner to its new epoch."""
    redis_server.flush()
    with closing(EventLog(redis_server.url)) as log, following(directory, redis_server.url) as owner:
        owner.wait_until_ready()
        ada, _bob = append(log, user("ada"), user("bob"))
        owner.wait_until_applied(append(log, *(tweet(ada) for _ in range(tweets)))[-1])
    redis_server.flush()
    found: list[tuple[str, Any]] = []
    is_over: list[Step] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not is_over and statement.startswith("SELECT"):
            found.append((statement, parameters))

    def at(step: Step) -> None:
        if step is Step.EPOCH_STARTED:
            is_over.append(step)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        with following(directory, redis_server.url, at=at) as owner:
            owner.wait_until_epoch(2)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return found


def scanned(directory: Path, statements: list[tuple[str, Any]]) -> set[str]:
    """The tables that SQLite says it reads from one end to the other for these statements."""
    path = database_path(directory)
    with closing(sqlite_library().connect(path)) as connection:
        connection.execute("ATTACH ? AS private", (str(path.with_name(f"{path.stem}.private.db")),))
        plans = [
            row[-1].split()
            for statement, parameters in statements
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    # The greatest of a column without an index is a SEARCH to SQLite, too; but then it names nothing that it is USING.
    whole = {table for action, table, *how in plans if action == "SCAN" or (action == "SEARCH" and "USING" not in how)}
    return whole - {"applied", "last_batch", "CONSTANT"}


@contextmanager
def commands_noted(redis_server: RedisServer) -> Iterator[list[str]]:
    """The commands that clients send meanwhile, not those of scripts; there when the block has ended."""
    names: list[str] = []
    with redis_server.client() as redis, redis_server.client() as watching, watching.monitor() as monitor:
        redis.echo("begins")
        assert any("ECHO" in command["command"] for command in monitor.listen())
        yield names
        redis.echo("over")
        for command in monitor.listen():
            if command["command"].startswith("ECHO"):
                return
            if command["client_type"] != "lua":
                names.append(command["command"].split()[0])


def test_hundreds_of_accounts_are_one_call(redis_server: RedisServer, log: EventLog) -> None:
    """Each call that writes is an fsync, and some for each account took minutes."""
    fence = log.raise_fence(0)
    log.write_accounts(fence, {1: "User1"}, kept([1]))  # from here on Redis knows the script
    with commands_noted(redis_server) as commands:
        log.write_accounts(fence, {number: f"User{number}" for number in range(1, 2_001)}, kept(range(1, 1_001)))
    assert commands == ["EVALSHA"] * (2_000 // ACCOUNTS_A_CALL)
    with redis_server.client() as redis:
        assert log.credentials([1, 1_000, 1_001]) == kept([1, 1_000])
        assert log.user_named("user2000") == 2_000
        assert [count(redis, prefix) for prefix in (keys.NAME_PREFIX, keys.EMAIL_PREFIX)] == [2_000, 1_000]


def test_a_portion_of_answers_is_one_write_for_each_hour(redis_server: RedisServer, log: EventLog) -> None:
    """The same for what was appended under idempotency keys, of which there may be more than accounts."""
    answers = [
        IdempotencyAnswer(
            IdempotencyClaim(b"%016d" % number, b"%016d" % number), position_of_hour(490_000 + number // 400)
        )
        for number in range(500)
    ]
    log.head()  # from here on there is a connection
    with commands_noted(redis_server) as commands:
        log.write_answers(answers)
    assert commands == ["SADD", "HSET"] * 2


def test_a_portion_of_accounts_is_not_written_by_who_lost_the_fence(redis_server: RedisServer, log: EventLog) -> None:
    """Another owner took over between two portions: what it has written stays as it is."""
    fence = log.raise_fence(0)
    log.raise_fence(fence)
    with pytest.raises(FenceLost):
        log.write_accounts(fence, {1: "ada"}, kept([1]))
    with redis_server.client() as redis:
        assert redis.keys() == [keys.META.encode()]


def kept(user_ids: Any) -> dict[int, StoredCredential]:
    """What is kept of these users, no two alike; every third has no password."""
    return {
        number: StoredCredential(
            f"User{number}",
            f"{number}@example.com",
            f"hmac of {number}",
            f"hash {number}" if number % 3 else None,
            revoked_position=2**52 + number,
            suspended_position=number % 2,
            position=2**52 + 1 + number,
        )
        for number in user_ids
    }


def count(redis: Redis, prefix: str) -> int:
    """How many keys begin so."""
    return sum(1 for _ in redis.scan_iter(f"{prefix}*", count=1000))
