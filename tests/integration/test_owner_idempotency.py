"""The owner's copy of idempotency keys: kept for a day, in no copy that others get, and written anew after a loss."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from services.common import keys, snapshot
from services.common.ids import BEGINNING
from services.common.log.append import AppendItem, Repeated
from services.common.log.client import EventLog
from services.common.log.entry import Entry
from services.common.log.idempotency import (
    WINDOW_HOURS,
    IdempotencyAnswer,
    IdempotencyClaim,
    hour_of,
    position_of_hour,
)
from tests.support.databases import USES_POSTGRESQL
from tests.support.owner import (
    append,
    archive_path,
    archived,
    database_path,
    following,
    open_volume,
    reported,
    tweet,
    user,
)
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually


def claim(name: str) -> IdempotencyClaim:
    """A claim with digests that can be found again."""
    return IdempotencyClaim(f"scope of {name}".ljust(16).encode(), f"print of {name}".ljust(16).encode())


def claimed(name: str, user_id: int = 1) -> AppendItem:
    """A tweet under a claim."""
    return msgspec.structs.replace(tweet(user_id, name), claim=claim(name))


def kept(directory: Path) -> list[IdempotencyAnswer]:
    """What an owner of this directory, that has left, keeps."""
    with closing(open_volume(directory)) as volume:
        return [answer for answers in volume.private.answers.read(2) for answer in answers]


@pytest.mark.skipif(USES_POSTGRESQL, reason="looks for bytes in SQLite's files; there it is a schema of its own")
def test_claims_are_kept_privately_and_nowhere_else(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Not in the database, of which snapshots are made, nor in the archive, nor in its WAL: grep the bytes."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        positions = append(log, *(claimed(f"{number}", ada) for number in range(5)))
        owner.wait_until_applied(positions[-1])
        snapshot.make(database_path(tmp_path), tmp_path / "copy.db")
        public = [*tmp_path.glob("twitter.db*"), tmp_path / "copy.db", *archive_path(tmp_path).iterdir()]
        assert all(b"scope of" not in path.read_bytes() for path in public)
    assert [entry.claim for entry in archived(tmp_path)] == [b""] * 7
    assert kept(tmp_path) == [
        IdempotencyAnswer(claim(f"{number}"), position) for number, position in enumerate(positions)
    ]


def test_answers_are_whole_again_after_redis_was_emptied(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """Each repetition is recognised in the new epoch, and no key is forgotten or has another answer."""
    with following(tmp_path, redis_server.url, batch_entries_max=7) as owner:
        owner.wait_until_ready()
        items = [claimed(f"{number}") for number in range(30)]
        positions = append(log, *items)
        owner.wait_until_applied(positions[-1])
        with redis_server.client() as redis:
            before = {key: redis.hgetall(key) for key in redis.keys("idempotency:[0-9]*")}
        redis_server.flush()
        owner.wait_until_epoch(2)
        with redis_server.client() as redis:
            assert {key: redis.hgetall(key) for key in redis.keys("idempotency:[0-9]*")} == before
        assert log.append(items).results == [Repeated(position) for position in positions]


def test_the_key_of_a_discarded_entry_is_free_again(tmp_path: Path, fresh_redis: RedisServer) -> None:
    """What never happened can be done; what was lost only from Redis was done."""
    with closing(EventLog(fresh_redis.url)) as log:
        with following(tmp_path / "owner", fresh_redis.url) as owner:
            owner.wait_until_ready()
            (first,) = append(log, claimed("first"))
            owner.wait_until_applied(first)
        fresh_redis.copy_data(tmp_path / "older")
        with following(tmp_path / "owner", fresh_redis.url) as owner:
            owner.wait_until_ready()
            (second,) = append(log, claimed("second"))
            owner.wait_until_applied(second)
        fresh_redis.kill()
        fresh_redis.come_back_with(tmp_path / "older")
        (discarded,) = append(log, claimed("discarded"))
        with following(tmp_path / "owner", fresh_redis.url) as owner:
            owner.wait_until_epoch(2)
            *again, anew = log.append([claimed("first"), claimed("second"), claimed("discarded")]).results
        assert again == [Repeated(first), Repeated(second)]
        assert isinstance(anew, int)
        assert anew > discarded
    *entries, _ = reported(tmp_path / "owner")
    assert [entry["position"] for entry in entries] == [discarded]


def test_a_claim_that_was_kept_before_a_crash_and_never_applied_is_forgotten(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """The private file is committed first; if the log then loses the batch, nobody may be told that it was done."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        (applied,) = append(log, claimed("applied"))
        owner.wait_until_applied(applied)
    with closing(open_volume(tmp_path)) as volume:
        lost = claim("lost")
        volume.private.answers.save([Entry(applied + 1, applied, "tweet_created", 1, b"{}", b"".join(lost))])
    redis_server.flush()
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_epoch(2)
        assert isinstance(log.append([claimed("lost")]).results[0], int)


def test_the_owner_drops_what_is_out_of_the_window(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Whole hours, in Redis and in its own file; the oldest hour of the window stays."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
    hour = hour_of(log.head())
    positions = [position_of_hour(hour - WINDOW_HOURS - 1), position_of_hour(hour - WINDOW_HOURS)]
    with closing(open_volume(tmp_path)) as volume:
        volume.private.answers.save(
            [Entry(position, BEGINNING, "", 1, b"", b"".join(claim(f"{position}"))) for position in positions]
        )
    log.write_answers([IdempotencyAnswer(claim(f"{position}"), position) for position in positions])
    with redis_server.client() as redis, following(tmp_path, redis_server.url):
        eventually(lambda: not redis.exists(keys.idempotency(hour - WINDOW_HOURS - 1)))
        eventually(lambda: redis.smembers(keys.IDEMPOTENCY_HOURS) == {str(hour - WINDOW_HOURS).encode()})
        assert redis.exists(keys.idempotency(hour - WINDOW_HOURS))
    assert [answer.position for answer in kept(tmp_path)] == positions[1:]


def test_one_key_twice_in_a_batch_days_apart_is_kept_for_the_later(tmp_path: Path) -> None:
    """An owner that was away for days meets both at once."""
    with closing(open_volume(tmp_path)) as volume:
        entries = [Entry(position, BEGINNING, "", 1, b"", b"".join(claim("one"))) for position in (5, 9)]
        volume.private.answers.save(entries)
    assert kept(tmp_path) == [IdempotencyAnswer(claim("one"), 9)]
