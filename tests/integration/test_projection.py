"""The projection is a pure function of the log: same entries, same tables, whatever the batches and the copy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from services.common import database, events, projection
from services.common.errors import StorageUnfit
from services.common.events import (
    AccountDeleted,
    DeadLetterDropped,
    DeadLetterReplayed,
    EpochStarted,
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
    UserReinstated,
    UserSuspended,
    UserUnfollowed,
    UserUpdated,
)
from services.common.log.entry import Entry
from services.common.models import DeadLetter, Follow, Like, Retweet, Tweet, User
from services.common.projection import AppliedBatch
from services.common.projection.statements import KEYS_PER_QUERY
from tests.support.logbook import chained
from tests.support.projection_model import Model

ANN, BOB, EVE, NOBODY = 1, 2, 3, 999
TWEETS = (11, 12, 13)
people = st.sampled_from([ANN, BOB, EVE, NOBODY])
tweets = st.sampled_from([*TWEETS, NOBODY])
letters = st.sampled_from([entry.position for entry in chained([EpochStarted(epoch=1)] * 12)])

anything: st.SearchStrategy[Event | tuple[str, bytes]] = st.one_of(
    st.builds(UserCreated, username=st.sampled_from(["ann", "Ann", "bob", "eve"]), id=people),
    st.builds(
        TweetCreated,
        user_id=people,
        content=st.sampled_from(["hello", "again"]),
        id=st.none() | tweets,
        in_reply_to_id=st.none() | tweets,
        quote_of_id=st.none() | tweets,
    ),
    st.builds(TweetDeleted, tweet_id=tweets, user_id=people),
    st.builds(TweetLiked, tweet_id=tweets, user_id=st.none() | people),
    st.builds(TweetUnliked, tweet_id=tweets, user_id=people),
    st.builds(TweetRetweeted, tweet_id=tweets, user_id=st.none() | people),
    st.builds(TweetUnretweeted, tweet_id=tweets, user_id=people),
    st.builds(UserFollowed, follower_id=people, followee_id=people),
    st.builds(UserUnfollowed, follower_id=people, followee_id=people),
    st.builds(UserUpdated, user_id=people, display_name=st.none() | st.just("Ann"), bio=st.none() | st.just("hi")),
    st.builds(AccountDeleted, user_id=people),
    st.builds(TokensRevoked, user_id=people),
    st.builds(UserSuspended, user_id=people),
    st.builds(UserReinstated, user_id=people),
    st.builds(DeadLetterReplayed, position=letters),
    st.builds(DeadLetterDropped, position=letters),
    st.builds(EpochStarted, epoch=st.integers(1, 5)),
    st.tuples(
        st.sampled_from(["tweet_liked", "user_created", "dead_letter_replayed", "no_such_type"]),
        st.sampled_from([b"", b"{}", b"[1]"]),
    ),
)
# From nothing at all, or with people and tweets there to do something to.
people_there = [UserCreated(username=name, id=number) for number, name in ((ANN, "ann"), (BOB, "bob"), (EVE, "eve"))]
conversation = [
    *people_there,
    TweetCreated(user_id=ANN, content="hello", id=11),
    TweetCreated(user_id=BOB, content="you too", id=12, in_reply_to_id=11),
]
logs = st.builds(
    lambda before, happened: [*before, *happened],
    st.sampled_from([[], conversation]),
    st.lists(anything, min_size=1, max_size=60),
)


def open_projection(folder: Path) -> Engine:
    """A new, empty copy."""
    folder.mkdir(exist_ok=True)
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


@pytest.mark.timeout(300)  # 180 logs applied: seconds, but minutes where the machine is busy
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


@pytest.mark.timeout(300)
@settings(max_examples=30, deadline=None)
@given(logs)
def test_counters_equal_rows(records: list[Event | tuple[str, bytes]]) -> None:
    """A counter changes only when a row did."""
    with TemporaryDirectory() as folder:
        engine = open_projection(Path(folder))
        apply_in_batches(engine, chained(records), 7)
        with engine.begin() as connection:
            parents = aliased(Tweet)
            replies = select(func.count()).where(
                col(Tweet.in_reply_to_id) == col(parents.id), col(Tweet.deleted).is_(False)
            )
            miscounted = select(col(parents.id)).where(col(parents.reply_count) != replies.scalar_subquery())
            assert connection.execute(miscounted).all() == []
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


def played(copy: Engine, *happened: Event | tuple[str, bytes]) -> list[AppliedBatch]:
    """Apply a conversation (ann's tweet 11, bob's reply 12) in one batch, and then what happened in another."""
    entries = chained([*conversation, *happened])
    apply_in_batches(copy, entries[: len(conversation)], 1000)
    return apply_in_batches(copy, entries[len(conversation) :], 1000)


def row(copy: Engine, tweet_id: int) -> Tweet:
    """A tweet's row, a tombstone's too."""
    with Session(copy) as session:
        found = session.get(Tweet, tweet_id)
        assert found is not None
        return found


@pytest.mark.parametrize(
    ("liked", "undone"), [(TweetLiked, TweetUnliked), (TweetRetweeted, TweetUnretweeted)], ids=["like", "retweet"]
)
def test_a_reaction_undone_and_repeated_in_one_batch_counts_once_at_its_last_position(
    copy: Engine, liked: type[TweetLiked | TweetRetweeted], undone: type[TweetUnliked | TweetUnretweeted]
) -> None:
    """The order per key holds; undoing twice, or for somebody who does not exist, changes nothing."""
    did, undid = liked(tweet_id=11, user_id=BOB), undone(tweet_id=11, user_id=BOB)
    (batch,) = played(copy, did, undid, undid, undone(tweet_id=11, user_id=NOBODY), did)
    assert batch.ignored == {"nothing_to_undo": 1, "no_such_user": 1}
    assert {row(copy, 11).likes, row(copy, 11).retweets} == {0, 1}
    table = Like if liked is TweetLiked else Retweet
    with copy.begin() as connection:
        assert connection.execute(select(table.position)).scalars().all() == [batch.position]  # type: ignore[call-overload]


def test_an_anonymous_like_cannot_be_undone_by_its_position(copy: Engine) -> None:
    """It is the key of the row, and every client was told of it."""
    (batch,) = played(copy, TweetLiked(tweet_id=11))
    entries = chained([TweetUnliked(tweet_id=11, user_id=batch.position)], batch.position)
    (undone,) = apply_in_batches(copy, entries, 1)
    assert (undone.ignored, row(copy, 11).likes) == ({"no_such_user": 1}, 1)


def test_a_deleted_tweet_is_a_tombstone_that_nothing_can_be_done_to(copy: Engine) -> None:
    """Its text is gone, its rows stay; a stranger's deletion and a second one are without effect."""
    (batch,) = played(
        copy,
        TweetLiked(tweet_id=11, user_id=BOB),
        TweetDeleted(tweet_id=11, user_id=BOB),
        TweetLiked(tweet_id=11),
        TweetDeleted(tweet_id=11, user_id=ANN),
        TweetDeleted(tweet_id=11, user_id=ANN),
        TweetLiked(tweet_id=11),
        TweetUnliked(tweet_id=11, user_id=BOB),
    )
    assert batch.ignored == {"not_the_author": 1, "no_such_tweet": 2}
    tomb = row(copy, 11)
    assert (tomb.deleted, tomb.content, tomb.likes, tomb.reply_count) == (True, "", 1, 1)


def test_a_reply_raises_its_parents_generation_and_its_deletion_does_again(copy: Engine) -> None:
    """The parent shows its count, and so do the lists of the parent's author; in one batch they cancel out."""
    (replied,) = played(copy, TweetCreated(user_id=EVE, content="me too", id=13, in_reply_to_id=11))
    assert (replied.touched.tweets, replied.touched.authors) == ({11, 13}, {ANN, EVE})
    assert row(copy, 11).reply_count == 2
    (deleted,) = apply_in_batches(copy, chained([TweetDeleted(tweet_id=13, user_id=EVE)], replied.position), 1)
    assert (deleted.touched.tweets, deleted.touched.authors) == ({11, 13}, {ANN, EVE})
    assert row(copy, 11).reply_count == 1
    brief = [
        TweetCreated(user_id=EVE, content="oh", id=14, in_reply_to_id=11),
        TweetDeleted(tweet_id=14, user_id=EVE),
    ]
    (both,) = apply_in_batches(copy, chained(brief, deleted.position), 2)
    assert both.touched.tweets == {11, 14}
    assert (row(copy, 11).reply_count, row(copy, 14).content) == (1, "")


def test_a_reply_to_a_deleted_tweet_stays_one_and_a_reply_to_nothing_stands_alone(copy: Engine) -> None:
    """Neither is lost: both were acknowledged. What never was has no row to count in."""
    played(
        copy,
        TweetDeleted(tweet_id=11, user_id=ANN),
        TweetCreated(user_id=EVE, content="too late", id=13, in_reply_to_id=11, quote_of_id=11),
        TweetCreated(user_id=EVE, content="to nobody", id=14, in_reply_to_id=NOBODY, quote_of_id=14),
    )
    assert (row(copy, 13).in_reply_to_id, row(copy, 13).quote_of_id, row(copy, 11).reply_count) == (11, 11, 2)
    assert (row(copy, 14).in_reply_to_id, row(copy, 14).quote_of_id) == (None, None)


def test_a_malformed_entry_becomes_a_dead_letter_and_the_next_goes_on(copy: Engine) -> None:
    """One bad entry may neither stop the log nor vanish without a trace."""
    entries = chained([("tweet_liked", b"nonsense"), UserCreated(username="ann", id=ANN)])
    (batch,) = apply_in_batches(copy, entries, 1000)
    assert batch.dead_letters == [(entries[0], "malformed_payload")]
    with copy.begin() as connection:
        kept = connection.execute(select(col(DeadLetter.position), col(DeadLetter.reason))).all()
        assert kept == [(entries[0].position, "malformed_payload")]
        assert connection.execute(select(col(User.username))).scalars().all() == ["ann"]


def test_a_dead_letter_is_replayed_by_code_that_understands_it(copy: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its own position, as its client was told; caches hear of it, and no letter is left."""
    liked = events.encode(TweetLiked(tweet_id=11))
    (refused,) = played(copy, ("tweet_favoured", liked))
    (letter, reason) = refused.dead_letters[0]
    assert reason == "unknown_type"
    monkeypatch.setitem(events._decoders, "tweet_favoured", events._decoders[TweetLiked.name])
    (replayed,) = apply_in_batches(copy, chained([DeadLetterReplayed(position=letter.position)], refused.position), 1)
    assert (replayed.dead_letters, replayed.dead_letters_taken, replayed.touched.tweets) == ([], 1, {11})
    assert row(copy, 11).likes == 1
    with copy.begin() as connection:
        assert connection.execute(select(col(Like.position))).scalars().all() == [letter.position]
        assert connection.execute(select(DeadLetter)).all() == []
    (again,) = apply_in_batches(copy, chained([DeadLetterReplayed(position=letter.position)], replayed.position), 1)
    assert again.ignored == {"no_such_dead_letter": 1}


def test_a_dead_letter_that_cannot_be_applied_stays_with_the_new_reason(copy: Engine) -> None:
    """An account is never replayed: its name was given back. Dropped, a letter is gone."""
    entries = chained([("tweet_liked", b"nonsense"), ("user_created", b"nonsense")])
    apply_in_batches(copy, entries, 1000)
    positions = [entry.position for entry in entries]
    replays = chained([DeadLetterReplayed(position=position) for position in positions], positions[-1])
    (replayed,) = apply_in_batches(copy, replays, 1000)
    assert [reason for _, reason in replayed.dead_letters] == ["malformed_payload", "given_back"]
    with copy.begin() as connection:
        kept = connection.execute(select(col(DeadLetter.position), col(DeadLetter.payload))).all()
    assert kept == [(position, b"nonsense") for position in positions]
    apply_in_batches(copy, chained([DeadLetterDropped(position=positions[0])], replays[-1].position), 1)
    with copy.begin() as connection:
        assert connection.execute(select(col(DeadLetter.position))).scalars().all() == positions[1:]


def test_an_account_whose_name_is_taken_is_a_dead_letter(copy: Engine) -> None:
    """append.lua rules it out; should it happen all the same, every copy refuses the same one."""
    entries = chained([UserCreated(username="ann"), UserCreated(username="ANN")])
    (batch,) = apply_in_batches(copy, entries, 1000)
    assert batch.dead_letters == [(entries[1], "username_taken")]
    assert batch.touched.users_created == {entries[0].position}


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


@pytest.mark.timeout(300)
@settings(max_examples=60, deadline=None)
@given(logs, st.sampled_from([1, 3, 1000]))
@example([*conversation, TweetDeleted(tweet_id=12, user_id=BOB)], 1)
def test_who_only_reads_the_rows_learns_at_least_what_applying_has_touched(
    records: list[Event | tuple[str, bytes]], batch_entries: int
) -> None:
    """A reader of a shared database drops what this names; the owner may be any number of entries ahead of it."""
    entries = chained(records)
    with TemporaryDirectory() as folder:
        engine = open_projection(Path(folder))
        batches = apply_in_batches(engine, entries, batch_entries)
        with engine.begin() as connection:
            for number, batch in enumerate(batches):
                first = number * batch_entries
                named = projection.touched_by(connection, entries[first : first + batch_entries])
                if named is not None:
                    assert named.tweets >= batch.touched.tweets
                    assert named.users >= batch.touched.users
                    assert named.authors >= batch.touched.authors
                    assert named.users_created >= batch.touched.users_created
        engine.dispose()


def test_a_batch_may_touch_more_rows_than_fit_into_one_query(tmp_path: Path) -> None:
    """What is looked up in several queries, the last of them not full, is found like what is looked up one by one."""
    count = KEYS_PER_QUERY + 3
    people = range(1, count + 1)
    made = chained(
        [
            *(UserCreated(username=f"user_{number}", id=number) for number in people),
            *(TweetCreated(user_id=number, content="hello", id=number) for number in people),
            *(TweetLiked(tweet_id=number, user_id=1) for number in people),
            *(UserFollowed(follower_id=1, followee_id=number) for number in people),
        ]
    )
    undone = [
        *(TweetUnliked(tweet_id=number, user_id=1) for number in people),
        *(UserUnfollowed(follower_id=1, followee_id=number) for number in people),
        *(TweetDeleted(tweet_id=number, user_id=number) for number in people),
        *(UserCreated(username=f"User_{number}", id=count + number) for number in people),
    ]
    entries = [*made, *chained(undone, after_position=made[-1].position)]
    seen = set()
    for batch_entries in (100, len(made)):
        engine = open_projection(tmp_path / str(batch_entries))
        apply_in_batches(engine, entries, batch_entries)
        assert Model.read(engine) == Model.of(entries)
        seen.add(tuple(hashes(engine).values()))
        engine.dispose()
    assert len(seen) == 1


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


@pytest.mark.parametrize(
    "fault",
    [
        "DROP TABLE retweets",
        "DROP TABLE applied",
        "CREATE TRIGGER refusing BEFORE INSERT ON retweets BEGIN SELECT RAISE(ABORT, 'refused'); END",
    ],
    ids=["read", "written_once", "written_many"],
)
def test_what_the_driver_refuses_is_sqlalchemys_error(copy: Engine, fault: str) -> None:
    """Whoever applies a batch tells a full disk from a bug by it; the driver's own error would end the process."""
    with copy.begin() as connection:
        connection.exec_driver_sql(fault)
    with pytest.raises(DBAPIError), copy.begin() as connection:
        projection.apply(connection, chained([*conversation, TweetRetweeted(tweet_id=11, user_id=BOB)]))


def test_a_database_of_another_projection_version_is_never_opened(copy: Engine) -> None:
    """Guessing what another version meant would make copies differ."""
    with copy.begin() as connection:
        connection.execute(text("UPDATE applied SET projection_version = projection_version + 1"))
    with pytest.raises(StorageUnfit, match="twitter rebuild"), copy.begin() as connection:
        projection.applied(connection)
