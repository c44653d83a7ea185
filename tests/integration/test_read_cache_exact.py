"""The cache over a real replica: whatever happens between two reads, a cached answer is what a look would find."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.common import database, projection, views
from services.common.cache import Cache
from services.common.events import (
    Event,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    TweetRetweeted,
    TweetUnliked,
    TweetUnretweeted,
    UserCreated,
    UserFollowed,
)
from services.common.views import Window
from services.read.encoded import Encoded
from services.read.fresh_lookups import FreshLookups
from services.read.lookups import Lookups
from services.read.metrics import ReadMetrics
from services.read.replica import Replica
from services.read.store import Store
from tests.support.logbook import chained

ANN, BOB = 1, 2
TWEETS = (11, 12, 13)
PAGE = Window(2)
UNUSED_REDIS = "redis://127.0.0.1:9"

people = st.sampled_from([ANN, BOB])
tweets = st.sampled_from(TWEETS)
happenings: st.SearchStrategy[Event] = st.one_of(
    st.builds(TweetCreated, user_id=people, content=st.just("hi"), in_reply_to_id=st.none() | tweets),
    st.builds(TweetCreated, user_id=people, content=st.just("hi"), id=tweets, in_reply_to_id=tweets),
    st.builds(TweetDeleted, tweet_id=tweets, user_id=people),
    st.builds(TweetLiked, tweet_id=tweets, user_id=st.none() | people),
    st.builds(TweetUnliked, tweet_id=tweets, user_id=people),
    st.builds(TweetRetweeted, tweet_id=tweets, user_id=people),
    st.builds(TweetUnretweeted, tweet_id=tweets, user_id=people),
    st.builds(UserFollowed, follower_id=people, followee_id=people),
)
beginning: list[Event] = [
    UserCreated(username="ann", id=ANN),
    UserCreated(username="bob", id=BOB),
    TweetCreated(user_id=ANN, content="hello", id=11),
    TweetCreated(user_id=BOB, content="hello yourself", id=12, in_reply_to_id=11),
]
batches = st.lists(st.tuples(st.lists(happenings, min_size=1, max_size=4), st.booleans()), min_size=1, max_size=12)


@contextmanager
def new_replica(directory: Path) -> Iterator[Replica]:
    """An empty replica."""
    path = directory / "replica.db"
    engine = database.open_writer(path, "off")
    with engine.begin() as connection:
        projection.create_tables(connection)
    engine.dispose()
    replica = Replica(path)
    try:
        yield replica
    finally:
        replica.close()


def lookups_of(replica: Replica, cache_bytes: int) -> tuple[Store, Lookups]:
    """Look-ups in a replica over a cache of this size. Everything asked for is applied: Redis is not needed."""
    store: Store = Store(Cache(cache_bytes))
    store.adopt(replica)
    metrics = ReadMetrics(CollectorRegistry())
    fresh = FreshLookups(UNUSED_REDIS, metrics, lambda user_id: views.user(replica.reader, user_id))
    return store, Lookups(store, fresh, metrics, min_position_wait_seconds=1)


async def everything(lookups: Lookups) -> list[Encoded]:
    """Every answer that can be cached, about everything there is."""
    answers = []
    for tweet_id in TWEETS:
        answers.append(await lookups.tweet(tweet_id))
        answers += [await view(tweet_id, PAGE) for view in (lookups.replies, lookups.likers, lookups.retweeters)]
    for user_id in (ANN, BOB):
        answers += [await lookups.user(user_id), await lookups.tweets_by_author(user_id, PAGE, 0)]
    return answers


def shown(answers: list[Encoded]) -> list[tuple[int, bytes, str | None]]:
    """The answers without their positions: what was cached was read earlier."""
    return [(answer.status, answer.body, answer.link) for answer in answers]


async def check(script: list[tuple[list[Event], bool]], directory: Path) -> int:
    """Apply batch after batch, compare after each; returns how many answers came from the cache.

    The flag of a batch has somebody read between its commit and the moment when the cache is told of it.
    """
    with new_replica(directory) as replica:
        store, cached = lookups_of(replica, 1_000_000)
        _, uncached = lookups_of(replica, 0)
        position = 0
        for happened, is_read_in_between in [(beginning, False), *script]:
            batch = replica.apply(chained(happened, position))
            position = batch.position
            if is_read_in_between:
                await everything(cached)
            store.note_applied(batch)
            assert shown(await everything(cached)) == shown(await everything(uncached))
        return store.cache.hits


@settings(max_examples=60)
@given(batches)
def test_a_cached_answer_is_what_a_look_into_the_replica_would_find(script: list[tuple[list[Event], bool]]) -> None:
    """Deletions, undone reactions and replies, in any order, with reads in between: HAZARDS 8, 9, 10."""
    with TemporaryDirectory() as directory:
        asyncio.run(check(script, Path(directory)))


def test_answers_that_nothing_has_changed_stay_in_the_cache(tmp_path: Path) -> None:
    """Else a cache that forgets everything would pass the test above."""
    about_nothing = TweetUnliked(tweet_id=11, user_id=BOB)
    assert asyncio.run(check([([about_nothing], True)] * 2, tmp_path)) > len(TWEETS) * 4
