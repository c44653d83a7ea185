"""Whatever READ_STORE names, and whichever database is behind it, a reader answers alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.database import database_of
from services.common.errors import PositionNotReached
from services.common.events import (
    AccountDeleted,
    Event,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    UserCreated,
    UserFollowed,
    UserUpdated,
)
from services.common.log.client import EventLog
from services.common.views import Window
from tests.support.reading import Owner, ReadProcess, ReadStore, append, body, reading
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog

pytestmark = pytest.mark.anyio

PAGE = Window(10)


@dataclass
class World:
    """A log, its owner, and a process that reads. What happens is applied by all of them."""

    log: ScriptedLog
    owner: Owner
    process: ReadProcess

    def append(self, *happened: Event) -> list[int]:
        """Append events; nobody has applied them."""
        return append(self.log, *happened)

    async def happen(self, *happened: Event) -> list[int]:
        """Append events, and wait until all have applied them."""
        positions = self.append(*happened)
        self.owner.catch_up()
        await self.process.lookups.reach(positions[-1])
        return positions


@pytest.fixture(params=["replica", "shared", "shared-postgresql", "replica-postgresql"])
def stores(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path
) -> Iterator[tuple[ReadStore, Owner, ScriptedLog]]:
    """Each store, over an owner of each database."""
    read_store, _, database = request.param.partition("-")
    log = ScriptedLog(redis_server.url)
    log.start()
    is_postgresql = database == "postgresql"
    url = request.getfixturevalue("postgresql").new_database() if is_postgresql else str(tmp_path / "owner.db")
    with closing(Owner(EventLog(log.url), database_of(url))) as owner:
        owner.catch_up()
        yield read_store, owner, log


@pytest.fixture
async def world(stores: tuple[ReadStore, Owner, ScriptedLog], tmp_path: Path) -> AsyncIterator[World]:
    """A process that reads each store."""
    read_store, owner, log = stores
    async with reading(read_store, owner, log.url, tmp_path / "replica") as process:
        yield World(log, owner, process)


async def test_an_answer_from_the_cache_is_as_new_as_its_position(world: World) -> None:
    """Counters, lists and what is embedded change with the event that changes them, not before it is asked for."""
    ada, bob = await world.happen(UserCreated(username="Ada"), UserCreated(username="bob"))
    (tweet,) = await world.happen(TweetCreated(user_id=ada, content="hello"))
    lookups = world.process.lookups
    for likes in range(3):
        assert body(await lookups.tweet(tweet))["likes"] == likes
        assert body(await lookups.tweets_by_author(ada, PAGE, 0))[0]["likes"] == likes
        hits = world.process.store.cache.hits
        assert body(await lookups.tweet(tweet))["likes"] == likes
        assert world.process.store.cache.hits == hits + 1
        await world.happen(TweetLiked(tweet_id=tweet))
    (reply,) = await world.happen(TweetCreated(user_id=bob, content="and you", in_reply_to_id=tweet))
    assert body(await lookups.tweet(tweet))["reply_count"] == 1
    await world.happen(TweetDeleted(tweet_id=reply, user_id=bob))
    assert (body(await lookups.tweet(tweet))["reply_count"], body(await lookups.replies(tweet, PAGE))) == (0, [])
    assert (await lookups.tweet(reply)).status == 404
    await world.happen(UserUpdated(user_id=ada, bio="counts"))
    assert body(await lookups.user(ada))["bio"] == "counts"


async def test_what_there_is_not_is_cached_and_appears_when_it_is_there(world: World) -> None:
    """By name nobody knows the position at which somebody will be."""
    lookups = world.process.lookups
    assert (await lookups.user_by_username("ada")).status == 404
    assert (await lookups.user_by_username("ADA")).status == 404
    (ada,) = await world.happen(UserCreated(username="Ada"))
    assert body(await lookups.user_by_username("ada"))["id"] == ada


async def test_an_account_that_is_deleted_is_gone_from_everything(world: World) -> None:
    """Its tweets, its follows, and the counts of those whom it followed."""
    ada, bob = await world.happen(UserCreated(username="ada"), UserCreated(username="bob"))
    tweet, _ = await world.happen(
        TweetCreated(user_id=ada, content="hello"), UserFollowed(follower_id=ada, followee_id=bob)
    )
    lookups = world.process.lookups
    assert body(await lookups.user(bob))["followers_count"] == 1
    assert (await lookups.tweet(tweet)).status == (await lookups.user_by_username("ada")).status == 200
    assert len(body(await lookups.followers(bob, PAGE))) == len(body(await lookups.home(ada, PAGE))) == 1
    await world.happen(AccountDeleted(user_id=ada))
    assert body(await lookups.user(bob))["followers_count"] == 0
    assert body(await lookups.followers(bob, PAGE)) == []
    gone = (lookups.tweet(tweet), lookups.user(ada), lookups.user_by_username("ada"), lookups.home(ada, PAGE))
    assert [(await each).status for each in gone] == [404] * 4


async def test_what_nobody_has_applied_is_found_by_its_id(world: World) -> None:
    """In the log, with its author as the rows have her."""
    (ada,) = await world.happen(UserCreated(username="ada"))
    bob, tweet, by_bob = world.append(
        UserCreated(username="bob"), TweetCreated(user_id=ada, content="fresh"), TweetCreated(user_id=2, content="?")
    )
    lookups = world.process.lookups
    assert body(await lookups.tweet(tweet))["user"]["username"] == "ada"
    assert body(await lookups.user(bob))["username"] == "bob"
    assert (await lookups.tweet(by_bob)).status == (await lookups.tweet(by_bob + 1)).status == 404


async def test_a_position_that_is_not_reached_is_refused(
    stores: tuple[ReadStore, Owner, ScriptedLog], tmp_path: Path
) -> None:
    """A read waits for it within a bound; nothing older is ever shown instead."""
    read_store, owner, log = stores
    async with reading(read_store, owner, log.url, tmp_path / "replica", wait_seconds=5) as process:
        process.lookups._min_position_wait_seconds = 0.05
        with pytest.raises(PositionNotReached):
            await process.lookups.reach(owner.position + 1)
