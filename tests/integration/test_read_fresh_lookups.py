"""What the replica has not applied yet is found in Redis by its id: on proof, or 503, never a wrong 404."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from services.common import keys
from services.common.errors import LogUnavailable
from services.common.events import TweetCreated, TweetDeleted, TweetLiked, UserCreated
from services.common.ids import created_at, entry_id
from services.common.log.append import AppendItem, CredentialClaim
from services.common.log.client import EventLog
from services.common.log.pipelines import pipelines_to
from services.common.views import Answer, TweetView, UserView
from services.read.fresh_lookups import FreshLookups
from services.read.metrics import ReadMetrics
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog

pytestmark = pytest.mark.anyio

ADA = UserView(7, "ada", "2026-01-01T00:00:00.000Z", followers_count=3, following_count=1)


@pytest.fixture
def log(redis_server: RedisServer) -> ScriptedLog:
    """A started log."""
    return ScriptedLog.started(redis_server.url)


@pytest.fixture
async def fresh(redis_server: RedisServer) -> AsyncIterator[FreshLookups]:
    """Look-ups beside a replica that has applied user 7 and nothing else."""
    lookups = lookups_at(redis_server.url)
    yield lookups
    await lookups.aclose()


def lookups_at(url: str) -> FreshLookups:
    """Look-ups beside a replica that has applied user 7 and nothing else."""

    async def applied_user(user_id: int) -> Answer[UserView | None]:
        return Answer(7, ADA if user_id == ADA.id else None)

    return FreshLookups(pipelines_to(url), ReadMetrics(CollectorRegistry()), applied_user)


def new(tweet: int, content: str, author: UserView, in_reply_to_id: int | None = None) -> TweetView:
    """A tweet that nobody has reacted to."""
    return TweetView(tweet, content, author.id, created_at(tweet), 0, 0, author, 0, in_reply_to_id, None)


def append(log: ScriptedLog, item: AppendItem) -> int:
    """Append one event; returns its position."""
    return int(log.call([item]).results[0])


def user(name: str) -> AppendItem:
    """A new account."""
    return AppendItem(UserCreated(username=name), credential=CredentialClaim(f"{name}@example.org", name))


async def test_a_new_tweet_is_found_with_the_replicas_view_of_its_author(log: ScriptedLog, fresh: FreshLookups) -> None:
    """The entry says who it was; the rows how she looks."""
    tweet = append(log, AppendItem(TweetCreated(user_id=7, content="hello")))
    assert await fresh.tweet(tweet) == new(tweet, "hello", ADA)


async def test_a_new_tweet_of_a_new_user_is_found_with_both_entries(log: ScriptedLog, fresh: FreshLookups) -> None:
    """Neither is applied yet."""
    bob = append(log, user("Bob"))
    tweet = append(log, AppendItem(TweetCreated(user_id=bob, content="first")))
    author = UserView(bob, "Bob", created_at(bob), 0, 0)
    assert await fresh.user(bob) == author
    assert await fresh.tweet(tweet) == new(tweet, "first", author)


async def test_a_reply_says_what_it_replies_to(log: ScriptedLog, fresh: FreshLookups) -> None:
    """As the entry does."""
    tweet = append(log, AppendItem(TweetCreated(user_id=7, content="hi", in_reply_to_id=5)))
    assert await fresh.tweet(tweet) == new(tweet, "hi", ADA, in_reply_to_id=5)


async def test_a_tweet_deleted_before_it_was_applied_is_not_served_from_the_log(
    log: ScriptedLog, fresh: FreshLookups
) -> None:
    """HAZARDS 9: the entry of its creation is still there; only the author's word counts, and it lasts."""
    tweet = append(log, AppendItem(TweetCreated(user_id=7, content="hello")))
    stranger = append(log, AppendItem(TweetDeleted(tweet_id=tweet, user_id=8)))
    assert await fresh.tweet(tweet) == new(tweet, "hello", ADA)
    append(log, AppendItem(TweetDeleted(tweet_id=tweet, user_id=7)))
    assert await fresh.tweet(tweet) is None
    event_log = EventLog(log.url)
    event_log.trim(tweet - 1, fence=1)
    assert await fresh.tweet(tweet) is None
    event_log.trim(stranger, fence=1)
    assert log.redis.zrange(keys.DELETED, 0, -1) == [f"{tweet}:7".encode()]
    with pytest.raises(LogUnavailable):
        await fresh.tweet(tweet)
    event_log.trim(stranger + 10, fence=1)
    assert not log.redis.exists(keys.DELETED)
    event_log.close()


async def test_what_the_log_does_not_hold_is_provably_absent(log: ScriptedLog, fresh: FreshLookups) -> None:
    """Between two entries, above the head, another kind of entry, a fixture's entry, an author who is not there."""
    first = append(log, AppendItem(TweetCreated(user_id=7, content="a")))
    like = append(log, AppendItem(TweetLiked(tweet_id=first)))
    fixture = append(log, AppendItem(TweetCreated(user_id=7, content="b", id=5)))
    orphan = append(log, AppendItem(TweetCreated(user_id=6, content="c")))
    log.set_time(log.now_ms + 10)
    last = append(log, AppendItem(TweetCreated(user_id=7, content="d")))
    for absent in (orphan + 1, last + 1, like, fixture, orphan):
        assert await fresh.tweet(absent) is None
        assert await fresh.user(absent) is None


async def test_what_was_trimmed_before_it_was_applied_is_unknown_not_absent(
    log: ScriptedLog, fresh: FreshLookups
) -> None:
    """The reader is behind the horizon: a 404 for a tweet that exists would be a lie."""
    tweets = [append(log, AppendItem(TweetCreated(user_id=7, content="a"))) for _ in range(3)]
    event_log = EventLog(log.url)
    event_log.trim(tweets[1], fence=1)
    for trimmed in tweets[:2]:
        with pytest.raises(LogUnavailable):
            await fresh.tweet(trimmed)
    assert await fresh.tweet(tweets[2]) is not None
    event_log.trim(tweets[2], fence=1)
    with pytest.raises(LogUnavailable):
        await fresh.tweet(tweets[2])
    assert await fresh.tweet(tweets[2] + 1) is None
    event_log.close()


async def test_an_entry_of_a_newer_version_is_unknown(log: ScriptedLog, fresh: FreshLookups) -> None:
    """This program cannot tell whether it is a tweet."""
    prev = append(log, AppendItem(TweetCreated(user_id=7, content="a")))
    log.redis.xadd(keys.STREAM, {"e": "poll_created", "v": 2, "p": prev, "d": "{}"}, id=entry_id(prev + 1))
    with pytest.raises(LogUnavailable):
        await fresh.tweet(prev + 1)


async def test_redis_that_is_stalled_or_gone_is_unavailable_within_its_bound(fresh_redis: RedisServer) -> None:
    """And found again when it is back, by the same client."""
    log = ScriptedLog(fresh_redis.url)
    log.start()
    tweet = append(log, AppendItem(TweetCreated(user_id=7, content="a")))
    fresh = lookups_at(fresh_redis.url)
    assert await fresh.tweet(tweet) is not None
    fresh_redis.pause()
    with pytest.raises(LogUnavailable):
        await fresh.tweet(tweet)
    fresh_redis.resume()
    assert await fresh.tweet(tweet) is not None
    fresh_redis.kill()
    with pytest.raises(LogUnavailable):
        await fresh.tweet(tweet)
    fresh_redis.start()
    assert await fresh.tweet(tweet) is not None
    await fresh.aclose()
