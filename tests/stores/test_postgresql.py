"""PostgreSQL in SQLite's place: the same rows, the same answers, one owner, and the same snapshots for readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, Engine, inspect, select, text
from sqlmodel import col

from services.common import projection, snapshot, views
from services.common.database import Database, database_of, open_reader, open_writer
from services.common.errors import FenceLost, StorageUnfit
from services.common.events import (
    AccountDeleted,
    Event,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    TweetRetweeted,
    TweetUnliked,
    UserCreated,
    UserFollowed,
    UserUnfollowed,
    UserUpdated,
)
from services.common.log.client import EventLog
from services.common.log.entry import Entry
from services.common.models import DeadLetter, Public
from services.common.views import Reader, Window
from tests.support import databases
from tests.support.databases import database_in, use_postgresql
from tests.support.logbook import chained
from tests.support.owner import (
    append,
    archived,
    credentials,
    following,
    open_volume,
    rebuilt_hashes,
    table_hashes,
    tweet,
    user,
)
from tests.support.postgresql_server import PostgresqlServer
from tests.support.redis_server import RedisServer

PEOPLE, TWEETS = (1, 2, 3), (11, 12, 13, 14)
people, tweets = st.sampled_from([*PEOPLE, 999]), st.sampled_from([*TWEETS, 999])
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9) | st.just("it's 100% \\ \N{BIRD}")
logs = st.lists(
    st.one_of(
        st.builds(UserCreated, username=st.sampled_from(["Ann", "ann", "bob", "eve"]), id=people),
        st.builds(
            TweetCreated,
            user_id=people,
            content=texts,
            id=tweets,
            in_reply_to_id=st.none() | tweets,
            quote_of_id=st.none() | tweets,
        ),
        st.builds(TweetDeleted, tweet_id=tweets, user_id=people),
        st.builds(TweetLiked, tweet_id=tweets, user_id=st.none() | people),
        st.builds(TweetUnliked, tweet_id=tweets, user_id=people),
        st.builds(TweetRetweeted, tweet_id=tweets, user_id=st.none() | people),
        st.builds(UserFollowed, follower_id=people, followee_id=people),
        st.builds(UserUnfollowed, follower_id=people, followee_id=people),
        st.builds(UserUpdated, user_id=people, display_name=texts, bio=st.none() | texts),
        st.builds(AccountDeleted, user_id=people),
        st.just(("no\nsuch type", b"\0\xff")),
    ),
    min_size=1,
    max_size=40,
).map(
    lambda happened: [
        *(UserCreated(username=name, id=number) for number, name in enumerate(("ann", "bob", "eve"), start=1)),
        *(TweetCreated(user_id=1 + at % 3, content="hello", id=at) for at in TWEETS[:3]),
        *happened,
    ]
)


@contextmanager
def emptied(engine: Engine) -> Iterator[Engine]:
    """A copy without rows; to make a database for each example would take longer than all else."""
    with engine.begin() as connection:
        for table in Public.metadata.sorted_tables:
            connection.execute(table.delete())
        projection.create_tables(connection)
    yield engine


@pytest.fixture
def new_database(postgresql: PostgresqlServer) -> URL:
    """An empty PostgreSQL database."""
    url = database_of(postgresql.new_database())
    assert isinstance(url, URL)
    return url


@pytest.fixture
def owner_directory(tmp_path: Path, postgresql: PostgresqlServer) -> Path:
    """The directory of an owner that writes PostgreSQL."""
    directory = tmp_path / "owner"
    use_postgresql(directory, postgresql)
    return directory


def answers(reader: Reader) -> list[Any]:
    """What every view says about everything there is, in pages of two."""
    lists = (views.tweets_by_author, views.followers, views.following, views.home)
    of_tweets = (views.replies, views.likers, views.retweeters)
    windows = (Window(2), Window(2, max_id=13), Window(2, since_id=11))
    return [
        *(views.profile(reader, user_id) for user_id in (*PEOPLE, 999)),
        *(views.profile_by_username(reader, name) for name in ("ANN", "nobody")),
        *(views.tweet(reader, tweet_id) for tweet_id in (*TWEETS, 999)),
        *(view(reader, user_id, window) for view in lists for user_id in (*PEOPLE, 999) for window in windows),
        *(view(reader, tweet_id, window) for view in of_tweets for tweet_id in TWEETS for window in windows),
        views.tweets_by_author(reader, 1, Window(2), 1),
    ]


@pytest.mark.timeout(300)
def test_the_same_log_gives_the_same_tables_and_answers_on_both(new_database: URL, tmp_path: Path) -> None:
    """DESIGN section 2: owner, replica and rebuild may hold different databases and never different rows."""
    with ExitStack() as opened:

        def prepared(database: Database) -> tuple[Engine, Reader]:
            engine = open_writer(database, "off")
            opened.callback(engine.dispose)
            with engine.begin() as connection:
                projection.create_tables(connection)
            reading = open_reader(database)
            opened.callback(reading.dispose)
            return engine, opened.enter_context(Reader(reading))

        sqlite, postgresql = prepared(tmp_path / "copy.db"), prepared(new_database)

        @settings(max_examples=40, deadline=None)
        @given(logs, st.sampled_from([1, 7, 1000]))
        def same(records: list[Event | tuple[str, bytes]], batch_entries: int) -> None:
            entries = chained(records)
            for (engine, _), size in ((sqlite, 1000), (postgresql, batch_entries)):
                with emptied(engine):
                    apply(engine, entries, size)
            assert hashes(sqlite[0]) == hashes(postgresql[0])
            assert answers(sqlite[1]) == answers(postgresql[1])

        same()


def apply(engine: Engine, entries: list[Entry], batch_entries: int) -> None:
    """Apply all entries, a transaction a batch."""
    for first in range(0, len(entries), batch_entries):
        with engine.begin() as connection:
            projection.apply(connection, entries[first : first + batch_entries])


def hashes(engine: Engine) -> dict[str, str]:
    """The table hashes of a copy."""
    with engine.begin() as connection:
        return projection.table_hashes(connection)


def test_the_owner_applies_archives_and_hands_out_snapshots(
    owner_directory: Path, log: EventLog, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Rows, archive and private data are as with SQLite; a snapshot is a SQLite file of the public tables alone."""
    with following(owner_directory, redis_server.url) as owner:
        owner.wait_until_ready()
        ada, _ = append(log, user("ada"), tweet(1))
        owner.wait_until_applied(append(log, tweet(ada, "kept"))[0])
        made = snapshot.make(database_in(owner_directory), tmp_path / "copy.db")
        assert snapshot.verify(made.path, made.sha256, made.position).position == owner.owner.position
    database = database_in(owner_directory)
    assert table_hashes(made.path) == table_hashes(database)
    assert table_hashes(database) == rebuilt_hashes(archived(owner_directory), tmp_path / "rebuilt.db")
    assert credentials(owner_directory) == {ada: "ada@example.com"}
    assert b"ada@example.com" not in made.path.read_bytes()
    engine = open_reader(database)
    assert "credentials" not in inspect(engine).get_table_names()
    engine.dispose()


def test_an_empty_database_is_filled_from_the_archive(
    owner_directory: Path, postgresql: PostgresqlServer, log: EventLog, redis_server: RedisServer
) -> None:
    """What `twitter rebuild --replace` tells to do instead: also entries that the log has trimmed come back."""
    with following(owner_directory, redis_server.url, retention_seconds=0) as owner:
        owner.wait_until_ready()
        ada, last = append(log, user("ada"), tweet(1))
        owner.wait_until_applied(last)
    held = table_hashes(database_in(owner_directory))
    use_postgresql(owner_directory, postgresql)
    with following(owner_directory, redis_server.url) as owner:
        owner.wait_until_ready()
    assert table_hashes(database_in(owner_directory)) == held
    assert credentials(owner_directory) == {ada: "ada@example.com"}


def test_a_second_owner_of_a_database_does_not_start(
    owner_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another host the lock of the volume says nothing; the database has one of its own."""
    monkeypatch.setattr("services.common.database.postgresql.OTHER_WRITER_MS_MAX", 50)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / databases.NOTE).write_text(databases.database_url(owner_directory))
    with closing(open_volume(owner_directory)), pytest.raises(StorageUnfit, match="already has an owner"):
        open_volume(elsewhere)
    open_volume(elsewhere).close()


def test_an_owner_that_was_replaced_commits_nothing(
    owner_directory: Path, log: EventLog, redis_server: RedisServer
) -> None:
    """HAZARDS 15: the fence is in the database too, and every commit needs it."""
    database = database_in(owner_directory)
    with following(owner_directory, redis_server.url) as owner:
        owner.wait_until_ready()
        engine = open_reader(database)
        with engine.connect() as connection:
            connection.execute(text("SET TRANSACTION READ WRITE"))
            connection.execute(text("UPDATE applied SET fence = fence + 1"))
            connection.commit()
        engine.dispose()
        held = table_hashes(database)
        append(log, user("ada"))
        assert isinstance(owner.wait_until_failed(), FenceLost)
    assert table_hashes(database) == held


def test_text_that_one_database_could_not_store_is_a_dead_letter_on_both(new_database: URL, tmp_path: Path) -> None:
    """PostgreSQL has no NUL in text. Our writers refuse it; an entry by another hand must not stop the owner."""
    raw = [
        ("tweet_created", b'{"user_id":1,"content":"a\\u0000b"}'),
        ("user_updated", b'{"user_id":1,"bio":"\\u0000"}'),
    ]
    found = []
    for database in (tmp_path / "copy.db", new_database):
        engine = open_writer(database, "off")
        with engine.begin() as connection:
            projection.create_tables(connection)
            projection.apply(connection, chained([UserCreated(username="ann", id=1), *raw]))
            found.append(connection.execute(select(col(DeadLetter.reason))).scalars().all())
        engine.dispose()
    assert found == [["malformed_payload"] * 2] * 2
