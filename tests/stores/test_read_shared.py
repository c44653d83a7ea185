"""READ_STORE=shared: what can only go wrong where rows, cache and log belong to different processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from services.common import keys
from services.common.errors import PositionNotReached
from services.common.events import AccountDeleted, TweetCreated, TweetDeleted, TweetLiked, UserCreated
from services.common.log.client import EventLog
from services.common.views import Window
from services.read.encoded import Encoded
from services.read.shared_database import SharedDatabases
from tests.support.ports import HOST, free_port
from tests.support.reading import Owner, ReadProcess, append, body, reading
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog
from tests.support.wait import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(redis_server: RedisServer) -> ScriptedLog:
    """A started log."""
    return ScriptedLog.started(redis_server.url)


@pytest.fixture
def owner(log: ScriptedLog, tmp_path: Path) -> Iterator[Owner]:
    """An owner that has applied everything so far: one epoch."""
    with closing(Owner(EventLog(log.url), tmp_path / "owner.db")) as made:
        made.catch_up()
        yield made


@pytest.fixture
async def process(owner: Owner, log: ScriptedLog, tmp_path: Path) -> AsyncIterator[ReadProcess]:
    """A process that reads the owner's database, with the log's Redis for its cache."""
    async with reading("shared", owner, log.url, tmp_path / "unused") as running:
        yield running


async def test_a_row_that_was_read_before_its_deletion_is_in_no_cache_after_it(
    process: ReadProcess, owner: Owner, log: ScriptedLog, tmp_path: Path
) -> None:
    """HAZARDS 17: delete at P; readers refill both caches from the old row; the owner commits P; clients ask with P."""
    ada, tweet = append(log, UserCreated(username="ada"), TweetCreated(user_id=1, content="hello"))
    (tweet,) = append(log, TweetCreated(user_id=ada, content="hello"))
    owner.catch_up()
    async with reading("shared", owner, log.url, tmp_path / "unused") as other:
        for each in (process, other):
            await each.lookups.reach(tweet)
        (deletion,) = append(log, TweetDeleted(tweet_id=tweet, user_id=ada))
        assert body(await process.lookups.tweet(tweet))["content"] == "hello"
        assert body(await other.lookups.tweet(tweet))["content"] == "hello"
        assert other.metric("shared_cache_lookups_total", result="found") == 1
        assert max(each.lookups.applied_position for each in (process, other)) < deletion
        owner.catch_up()
        for each in (process, other):
            await each.lookups.reach(deletion)
            answer = await each.lookups.tweet(tweet)
            assert (answer.status, answer.read_position >= deletion) == (404, True)


async def test_a_response_that_is_put_into_the_shared_cache_late_is_not_served(
    process: ReadProcess, owner: Owner, log: ScriptedLog
) -> None:
    """HAZARDS 8, between processes: one stalls with an old response in its hands, and puts it there at last."""
    (ada,) = append(log, UserCreated(username="ada"))
    (tweet,) = append(log, TweetCreated(user_id=ada, content="hello"))
    owner.catch_up()
    await process.lookups.reach(tweet)
    assert body(await process.lookups.tweet(tweet))["likes"] == 0
    (key,) = log.redis.keys(f"{keys.RESPONSE_PREFIX}*")
    old = log.redis.get(key)
    assert isinstance(old, bytes)
    (like,) = append(log, TweetLiked(tweet_id=tweet))
    owner.catch_up()
    await process.lookups.reach(like)
    log.redis.set(key, old)
    assert body(await process.lookups.tweet(tweet))["likes"] == 1
    assert process.store.cache.fills_refused == 1
    assert log.redis.get(key) != old


async def test_a_response_from_before_this_process_began_is_not_judged_by_it(
    owner: Owner, log: ScriptedLog, tmp_path: Path
) -> None:
    """It has not followed the log from there on, so it cannot know what changed."""
    (ada,) = append(log, UserCreated(username="ada"))
    (tweet,) = append(log, TweetCreated(user_id=ada, content="hello"))
    owner.catch_up()
    async with reading("shared", owner, log.url, tmp_path / "unused") as first:
        assert body(await first.lookups.tweet(tweet))["likes"] == 0
    append(log, TweetLiked(tweet_id=tweet))
    owner.catch_up()
    async with reading("shared", owner, log.url, tmp_path / "unused") as second:
        assert body(await second.lookups.tweet(tweet))["likes"] == 1
        assert second.metric("shared_cache_lookups_total", result="found") == 1


async def test_concurrent_misses_share_one_load(process: ReadProcess, owner: Owner, log: ScriptedLog) -> None:
    """A tweet that everybody asks for at once is asked for once."""
    (ada,) = append(log, UserCreated(username="ada"))
    owner.catch_up()
    await process.lookups.reach(ada)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(process.lookups.user, ada)
    assert process.metric("shared_cache_lookups_total", result="absent") == 1


async def test_without_the_shared_cache_the_database_answers(owner: Owner, log: ScriptedLog, tmp_path: Path) -> None:
    """It is asked again after a while; nobody waits for it meanwhile."""
    (ada,) = append(log, UserCreated(username="ada"))
    owner.catch_up()
    nowhere = f"redis://{HOST}:{free_port()}"
    async with reading("shared", owner, log.url, tmp_path / "unused", cache_url=nowhere) as process:
        for name in ("ada", "bob", "eve"):
            await process.lookups.user_by_username(name)
        assert body(await process.lookups.user(ada))["username"] == "ada"
        assert process.metric("shared_cache_lookups_total", result="unavailable") == 1


async def test_a_database_that_is_older_than_it_was_is_not_shown(
    process: ReadProcess, owner: Owner, log: ScriptedLog
) -> None:
    """A server that lags behind another, or a database that was restored: a 503 until it has caught up."""
    (ada,) = append(log, UserCreated(username="ada"))
    owner.catch_up()
    await process.lookups.reach(ada)
    process.store.backing.position = ada + 1
    with pytest.raises(PositionNotReached):
        await process.lookups.user(ada)


async def test_a_database_that_is_not_there_yet_is_waited_for_and_not_made(log: ScriptedLog, tmp_path: Path) -> None:
    """Readers may start before the owner; an empty file would be taken for one that somebody damaged."""
    path = tmp_path / "owner.db"
    databases = SharedDatabases(path)
    with pytest.raises(Exception, match="is at 0, not yet at"):
        databases.open(at_least=0, is_cancelled=lambda: False)
    assert not path.exists()
    with closing(Owner(EventLog(log.url), path)) as owner:
        with pytest.raises(Exception, match="is at 0, not yet at"):
            databases.open(at_least=0, is_cancelled=lambda: False)
        owner.catch_up()
        databases.open(at_least=0, is_cancelled=lambda: False).close()


async def test_a_new_epoch_is_followed_and_nothing_older_is_served(
    process: ReadProcess, owner: Owner, log: ScriptedLog
) -> None:
    """The log was replaced, and its entries that nobody had applied are gone: this process goes on behind the epoch."""
    (ada,) = append(log, UserCreated(username="ada"))
    owner.catch_up()
    await process.lookups.reach(ada)
    process.store.cache.fill("seen", Encoded(200, b""), size_bytes=1, read_position=ada, made_from=[])
    append(log, TweetCreated(user_id=ada, content="lost"))
    status = EventLog(log.url).status()
    epoch = EventLog(log.url).start_epoch(2, fence=1, base_position=ada, seen=status)
    owner.catch_up()
    await process.lookups.reach(epoch)
    assert process.store.cache.get("seen") is None
    assert (await process.lookups.user(ada)).read_position == epoch


async def test_an_account_deletion_empties_what_was_cached_below_it(
    process: ReadProcess, owner: Owner, log: ScriptedLog
) -> None:
    """Whom she followed is in no row any more, so nobody can say what else has changed."""
    ada, bob = append(log, UserCreated(username="ada"), UserCreated(username="bob"))
    owner.catch_up()
    await process.lookups.reach(bob)
    await process.lookups.tweets_by_author(bob, Window(3), 0)
    assert len(process.store.cache) == 1
    (deletion,) = append(log, AccountDeleted(user_id=ada))
    owner.catch_up()
    await process.lookups.reach(deletion)
    assert len(process.store.cache) == 0
    eventually(lambda: process.follower.readiness() is None)
