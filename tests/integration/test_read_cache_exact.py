"""The cache over real rows: whatever happens between two reads, a cached answer is what a look would find."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from services.common import database, projection, views
from services.common.cache import Cache
from services.common.events import (
    AccountDeleted,
    Event,
    TokensRevoked,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    TweetRetweeted,
    TweetUnliked,
    TweetUnretweeted,
    UserCreated,
    UserFollowed,
    UserUnfollowed,
)
from services.common.log.entry import Entry
from services.common.log.pipelines import pipelines_to
from services.common.views import Window, home_timeline
from services.read.encoded import Encoded
from services.read.fresh_lookups import FreshLookups
from services.read.generations import Changes
from services.read.lookups import Lookups
from services.read.metrics import ReadMetrics
from services.read.replica import Replica
from services.read.shared_database import SharedDatabase
from services.read.store import Backing, Store
from tests.support.logbook import chained

ANN, BOB, EVE = PEOPLE = 1, 2, 3
TWEETS = (11, 12, 13)
PAGE = Window(2)
HOMES = (PAGE, Window(1), Window(2, max_id=13), Window(2, since_id=11))
"""Parts of home timelines: the first page, as it is and cut short, one further down, and what is new."""
UNUSED_REDIS = "redis://127.0.0.1:9"

people = st.sampled_from(PEOPLE)
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
    st.builds(UserUnfollowed, follower_id=people, followee_id=people),
    st.builds(AccountDeleted, user_id=people),
)
beginning: list[Event] = [
    UserCreated(username="ann", id=ANN),
    UserCreated(username="bob", id=BOB),
    UserCreated(username="eve", id=EVE),
    TweetCreated(user_id=ANN, content="hello", id=11),
    TweetCreated(user_id=BOB, content="hello yourself", id=12, in_reply_to_id=11),
    UserFollowed(follower_id=ANN, followee_id=BOB),
]
batches = st.lists(st.tuples(st.lists(happenings, min_size=1, max_size=4), st.booleans()), min_size=1, max_size=12)


class Rows(Protocol):
    """What a batch is applied to. ``read_early`` is called while some know of it and others do not."""

    @property
    def backing(self) -> Backing:
        """What answers from them."""

    async def apply(self, entries: list[Entry], read_early: Callable[[], Awaitable[object]]) -> Changes:
        """Apply a batch."""


@dataclass
class OwnRows:
    """A replica, which applies the log itself."""

    backing: Replica

    async def apply(self, entries: list[Entry], read_early: Callable[[], Awaitable[object]]) -> Changes:
        changes = self.backing.apply(entries)
        await read_early()
        return changes


@dataclass
class SharedRows:
    """A database that somebody else applies the log to."""

    owner: Engine
    backing: SharedDatabase

    async def apply(self, entries: list[Entry], read_early: Callable[[], Awaitable[object]]) -> Changes:
        with self.owner.begin() as connection:
            projection.apply(connection, entries)
        await read_early()
        return self.backing.apply(entries)


@contextmanager
def new_rows(read_store: str, directory: Path) -> Iterator[Rows]:
    """Empty tables of either kind."""
    path = directory / "rows.db"
    engine = database.open_writer(path, "off")
    with engine.begin() as connection:
        projection.create_tables(connection)
    rows: Rows
    if read_store == "shared":
        rows = SharedRows(engine, SharedDatabase(path, 0, is_cancelled=lambda: True))
    else:
        engine.dispose()
        rows = OwnRows(Replica(path))
    try:
        yield rows
    finally:
        rows.backing.close()
        engine.dispose()


def lookups_of(rows: Rows, cache_bytes: int) -> tuple[Store, Lookups]:
    """Look-ups in rows over a cache of this size. Everything asked for is applied: Redis is not needed."""
    store: Store = Store(Cache(cache_bytes))
    store.adopt(rows.backing)
    metrics = ReadMetrics(CollectorRegistry())
    fresh = FreshLookups(
        pipelines_to(UNUSED_REDIS),
        metrics,
        lambda user_id: rows.backing.look_up(lambda reader: views.user(reader, user_id)),
    )
    return store, Lookups(store, fresh, metrics, min_position_wait_seconds=1)


async def everything(lookups: Lookups) -> list[Encoded]:
    """Every answer that can be cached, about everything there is."""
    answers = []
    for tweet_id in TWEETS:
        answers.append(await lookups.tweet(tweet_id))
        answers += [await view(tweet_id, PAGE) for view in (lookups.replies, lookups.likers, lookups.retweeters)]
    for user_id in PEOPLE:
        answers += [await lookups.user(user_id), await lookups.tweets_by_author(user_id, PAGE, 0)]
        for window in HOMES:
            answers.append(lookups.home_now(user_id, window) or await lookups.home(user_id, window))
            answers.append(await lookups.home(user_id, window))  # what is asked for again is kept
    return answers


def shown(answers: list[Encoded]) -> list[tuple[int, bytes, str | None]]:
    """The answers without their positions: what was cached was read earlier."""
    return [(answer.status, answer.body, answer.link) for answer in answers]


async def check(read_store: str, script: list[tuple[list[Event], bool]], directory: Path) -> int:
    """Apply batch after batch, compare after each; returns how many answers came from the cache.

    The flag of a batch has somebody read between its commit and the moment when the cache is told of it.
    """
    with new_rows(read_store, directory) as rows:
        store, cached = lookups_of(rows, 1_000_000)
        _, uncached = lookups_of(rows, 0)
        position = 0

        async def read_early() -> None:
            await everything(cached)

        async def pass_over() -> None:
            """Nobody reads meanwhile."""

        for happened, is_read_in_between in [(beginning, False), *script]:
            changes = await rows.apply(chained(happened, position), read_early if is_read_in_between else pass_over)
            position = changes.position
            store.note_applied(changes)
            assert shown(await everything(cached)) == shown(await everything(uncached))
        return store.cache.hits


@pytest.mark.parametrize("read_store", ["replica", "shared"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.differing_executors])
@given(batches)
def test_a_cached_answer_is_what_a_look_into_the_rows_would_find(
    read_store: str, script: list[tuple[list[Event], bool]]
) -> None:
    """Deletions, undone reactions and replies, in any order, with reads in between: HAZARDS 8, 9, 10, 17."""
    with TemporaryDirectory() as directory:
        asyncio.run(check(read_store, script, Path(directory)))


@pytest.mark.parametrize("read_store", ["replica", "shared"])
def test_answers_that_nothing_has_changed_stay_in_the_cache(read_store: str, tmp_path: Path) -> None:
    """Else a cache that forgets everything would pass the test above."""
    about_nothing = TokensRevoked(user_id=BOB)
    assert asyncio.run(check(read_store, [([about_nothing], True)] * 2, tmp_path)) > len(TWEETS) * 4 + len(HOMES) * 2


by_eve = TweetCreated(user_id=EVE, content="hi", id=13)
retweeted = TweetRetweeted(tweet_id=13, user_id=BOB)


@pytest.mark.parametrize("read_store", ["replica", "shared"])
@pytest.mark.parametrize(
    ("before", "happens"),
    [
        ([], TweetCreated(user_id=BOB, content="new")),
        ([], TweetCreated(user_id=ANN, content="new")),
        ([], TweetDeleted(tweet_id=12, user_id=BOB)),
        ([by_eve], retweeted),
        ([by_eve, retweeted], TweetUnretweeted(tweet_id=13, user_id=BOB)),
        ([by_eve, retweeted], TweetDeleted(tweet_id=13, user_id=EVE)),
        ([by_eve, retweeted], TweetLiked(tweet_id=13)),
        ([by_eve, retweeted], UserFollowed(follower_id=EVE, followee_id=ANN)),
        # Somebody who is not on the page follows Bob, who is on it only as who retweeted.
        (
            [by_eve, retweeted, TweetDeleted(tweet_id=12, user_id=BOB), UserCreated(username="zoe", id=4)],
            UserFollowed(follower_id=4, followee_id=BOB),
        ),
        ([by_eve], UserFollowed(follower_id=ANN, followee_id=EVE)),
        ([], UserUnfollowed(follower_id=ANN, followee_id=BOB)),
        ([], AccountDeleted(user_id=BOB)),
        ([], AccountDeleted(user_id=ANN)),
        # Of what is on the page nothing changes; that there is more, does.
        (
            [by_eve, retweeted, *(TweetCreated(user_id=BOB, content="above") for _ in range(2))],
            TweetDeleted(tweet_id=13, user_id=EVE),
        ),
    ],
    ids=str,
)
def test_a_kept_home_timeline_changes_with_whatever_it_is_made_of(
    read_store: str, before: list[Event], happens: Event, tmp_path: Path
) -> None:
    """One by one, as generated scripts may miss one: Ann follows Bob, who retweets Eve, whom she does not follow."""
    asyncio.run(check(read_store, [(before, False)] * bool(before) + [([happens], True)], tmp_path))


@pytest.mark.parametrize("read_store", ["replica", "shared"])
def test_a_page_that_was_cut_short_goes_further_when_what_it_passed_over_is_gone(
    read_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob's tweet is on an earlier page, as Ann has retweeted it: this one names it nowhere, and ends with it."""
    monkeypatch.setattr(home_timeline, "APPEARANCES_MAX", 1)
    passed_over = [TweetRetweeted(tweet_id=12, user_id=ANN)]
    asyncio.run(
        check(read_store, [([*passed_over], False), ([TweetDeleted(tweet_id=12, user_id=BOB)], True)], tmp_path)
    )


@pytest.mark.parametrize("reacted", [TweetLiked, TweetRetweeted])
@pytest.mark.parametrize("read_store", ["replica", "shared"])
def test_a_page_of_who_reacted_says_that_there_are_more_only_while_there_are(
    read_store: str, reacted: type[TweetLiked | TweetRetweeted], tmp_path: Path
) -> None:
    """The account below the last one shown is deleted: nothing that is shown has changed, but that was all."""
    three = [reacted(tweet_id=11, user_id=user_id) for user_id in (EVE, BOB, ANN)]
    asyncio.run(check(read_store, [([*three], False), ([AccountDeleted(user_id=EVE)], True)], tmp_path))
