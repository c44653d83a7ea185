"""The projection is a pure function of the log: same entries, same tables, whatever the batches and the copy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text
from sqlmodel import col

from services.common import database, projection
from services.common.errors import StorageUnfit
from services.common.events import (
    EpochStarted,
    Event,
    TweetCreated,
    TweetLiked,
    TweetRetweeted,
    UserCreated,
    UserFollowed,
    UserUnfollowed,
)
from services.common.log.entry import Entry
from services.common.models import DeadLetter, Follow, Like, Retweet, Tweet, User
from services.common.projection import AppliedBatch
from tests.support.logbook import chained
from tests.support.projection_model import Model

ANN, BOB, EVE, NOBODY = 1, 2, 3, 999
TWEETS = (11, 12, 13)
people = st.sampled_from([ANN, BOB, EVE, NOBODY])
tweets = st.sampled_from([*TWEETS, NOBODY])

anything: st.SearchStrategy[Event | tuple[str, bytes]] = st.one_of(
    st.builds(UserCreated, username=st.sampled_from(["ann", "Ann", "bob", "eve"]), id=people),
    st.builds(TweetCreated, user_id=people, content=st.sampled_from(["hello", "again"]), id=tweets),
    st.builds(TweetLiked, tweet_id=tweets, user_id=st.none() | people),
    st.builds(TweetRetweeted, tweet_id=tweets, user_id=st.none() | people),
    st.builds(UserFollowed, follower_id=people, followee_id=people),
    st.builds(UserUnfollowed, follower_id=people, followee_id=people),
    st.builds(EpochStarted, epoch=st.integers(1, 5)),
    st.tuples(st.sampled_from(["tweet_liked", "user_created", "no_such_type"]), st.sampled_from([b"", b"{}", b"[1]"])),
)
logs = st.lists(anything, min_size=1, max_size=60)


def open_projection(folder: Path) -> Engine:
    """A new, empty copy."""
    engine = database.open_writer(folder / "copy.db", "off")
    with engine.begin() as connection:
        projection.create_tables(connection)
    return engine


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Engine]:
    """An empty copy for one test."""
    engine = open_projection(tmp_path)
    yield engine
    engine.dispose()


def apply_in_batches(engine: Engine, entries: list[Entry], batch_entries: int) -> list[AppliedBatch]:
    """Apply the whole log, a transaction a batch."""
    remaining, batches = iter(entries), []
    while some := list(islice(remaining, batch_entries)):
        with engine.begin() as connection:
            batches.append(projection.apply(connection, some))
    return batches


def hashes(engine: Engine) -> dict[str, str]:
    """The table hashes of a copy."""
    with engine.begin() as connection:
        return projection.table_hashes(connection)


@settings(max_examples=60, deadline=None)
@given(logs)
def test_batches_of_any_size_give_the_same_tables_as_a_slow_simple_model(
    records: list[Event | tuple[str, bytes]],
) -> None:
    """HAZARDS 6: batches of 1, 7 and 1,000 agree with each other and with a model that knows no database."""
    entries = chained(records)
    expected = Model.of(entries)
    seen = set()
    for batch_entries in (1, 7, 1000):
        with TemporaryDirectory() as folder:
            engine = open_projection(Path(folder))
            apply_in_batches(engine, entries, batch_entries)
            assert Model.read(engine) == expected
            seen.add(tuple(sorted(hashes(engine).items())))
            engine.dispose()
    assert len(seen) == 1


@settings(max_examples=30, deadline=None)
@given(logs)
def test_counters_equal_rows(records: list[Event | tuple[str, bytes]]) -> None:
    """A counter changes only when a row did."""
    with TemporaryDirectory() as folder:
        engine = open_projection(Path(folder))
        apply_in_batches(engine, chained(records), 7)
        with engine.begin() as connection:
            for counter, rows in (
                (func.sum(col(Tweet.likes)), Like),
                (func.sum(col(Tweet.retweets)), Retweet),
                (func.sum(col(User.followers_count)), Follow),
                (func.sum(col(User.following_count)), Follow),
            ):
                counted = connection.execute(select(func.coalesce(counter, 0))).scalar_one()
                assert counted == connection.execute(select(func.count()).select_from(rows)).scalar_one()
        engine.dispose()


def test_follow_undo_follow_in_one_batch_keeps_the_last_position(copy: Engine) -> None:
    """HAZARDS 6: statements grouped by type must not reorder what happened to one key."""
    entries = chained(
        [
            UserCreated(username="ann", id=ANN),
            UserCreated(username="bob", id=BOB),
            UserFollowed(follower_id=ANN, followee_id=BOB),
            UserUnfollowed(follower_id=ANN, followee_id=BOB),
            UserFollowed(follower_id=ANN, followee_id=BOB),
        ]
    )
    apply_in_batches(copy, entries[:3], 1000)
    apply_in_batches(copy, entries[3:], 1000)
    with copy.begin() as connection:
        assert connection.execute(select(col(Follow.position))).scalars().all() == [entries[-1].position]


def test_a_malformed_entry_becomes_a_dead_letter_and_the_next_goes_on(copy: Engine) -> None:
    """One bad entry may neither stop the log nor vanish without a trace."""
    entries = chained([("tweet_liked", b"nonsense"), UserCreated(username="ann", id=ANN)])
    (batch,) = apply_in_batches(copy, entries, 1000)
    assert batch.dead_letters == [(entries[0], "malformed_payload")]
    with copy.begin() as connection:
        kept = connection.execute(select(col(DeadLetter.position), col(DeadLetter.reason))).all()
        assert kept == [(entries[0].position, "malformed_payload")]
        assert connection.execute(select(col(User.username))).scalars().all() == ["ann"]


def test_an_account_whose_name_is_taken_is_a_dead_letter(copy: Engine) -> None:
    """append.lua rules it out; should it happen all the same, every copy refuses the same one."""
    entries = chained([UserCreated(username="ann"), UserCreated(username="ANN")])
    (batch,) = apply_in_batches(copy, entries, 1000)
    assert batch.dead_letters == [(entries[1], "username_taken")]
    assert batch.users_created == [entries[0].position]


def test_a_batch_says_what_it_touched(copy: Engine) -> None:
    """Caches raise exactly these generations; what had no effect touches nothing."""
    apply_in_batches(
        copy,
        chained(
            [
                UserCreated(username="ann", id=ANN),
                UserCreated(username="bob", id=BOB),
                TweetCreated(user_id=ANN, content="hello", id=11),
                TweetLiked(tweet_id=11, user_id=BOB),
            ]
        ),
        1000,
    )
    after = 2**50
    like, again, follow = chained(
        [
            TweetLiked(tweet_id=11),
            TweetLiked(tweet_id=11, user_id=BOB),
            UserFollowed(follower_id=BOB, followee_id=ANN),
        ],
        after_position=after,
    )
    (liked,) = apply_in_batches(copy, [like], 1)
    assert (liked.touched.tweets, liked.touched.authors, liked.touched.users) == ({11}, {ANN}, set())
    (repeated,) = apply_in_batches(copy, [again], 1)
    assert (repeated.touched.tweets, repeated.ignored) == (set(), {"repeated": 1})
    (followed,) = apply_in_batches(copy, [follow], 1)
    assert (followed.touched.users, followed.touched.tweets) == ({ANN, BOB}, set())


def test_a_failed_transaction_leaves_no_trace(copy: Engine) -> None:
    """The position moves with the rows or not at all, so a replay starts from the right place."""
    entries = chained([UserCreated(username="ann", id=ANN)])
    before = hashes(copy)
    with pytest.raises(RuntimeError, match="power cut"), copy.begin() as connection:
        projection.apply(connection, entries)
        raise RuntimeError("power cut")
    with copy.begin() as connection:
        assert projection.applied(connection).position == 0
    assert hashes(copy) == before


def test_a_database_of_another_projection_version_is_never_opened(copy: Engine) -> None:
    """Guessing what another version meant would make copies differ."""
    with copy.begin() as connection:
        connection.execute(text("UPDATE applied SET projection_version = projection_version + 1"))
    with pytest.raises(StorageUnfit, match="twitter rebuild"), copy.begin() as connection:
        projection.applied(connection)
