"""The views on a real SQLite file that the real projection filled, against slow and simple oracles."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from services.common import events, projection, views
from services.common.database import open_reader, open_writer
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
    UserUnfollowed,
)
from services.common.ids import created_at
from services.common.log.entry import Entry
from services.common.views import Answer, Page, Reader, Window, appearances, home_timeline
from services.common.views.reader import Row, Statement
from tests.support.logbook import chained

ListView = Callable[[Reader, int, Window], Answer[Page[Any] | None]]
LISTS: Final[list[ListView]] = [
    views.tweets_by_author,
    views.followers,
    views.following,
    views.home,
    views.replies,
    views.likers,
    views.retweeters,
]


class Database:
    """A database that holds what the projection makes of events; ``entries`` are those applied so far."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "views.db"
        self.entries: list[Entry] = []
        self.writer = open_writer(self.path, "off")
        self.engine: Engine = open_reader(self.path)
        with self.writer.begin() as connection:
            projection.create_tables(connection)
        self.reader = Reader(self.engine)

    def add(self, *happened: Event) -> list[int]:
        """Apply events; returns their positions."""
        entries = chained(happened, self.entries[-1].position if self.entries else 0)
        self.apply(entries)
        return [entry.position for entry in entries]

    def apply(self, entries: list[Entry]) -> None:
        """Apply entries that continue from those applied so far."""
        with self.writer.begin() as connection:
            projection.apply(connection, entries)
        self.entries += entries

    def users(self, *names: str) -> list[int]:
        """Create users; returns their ids."""
        return self.add(*(UserCreated(username=name) for name in names))

    def close(self) -> None:
        self.reader.close()
        self.engine.dispose()
        self.writer.dispose()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    made = Database(tmp_path)
    yield made
    made.close()


class NotingReader(Reader):
    """Keeps what was asked for."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.asked: list[tuple[Statement, dict[str, Any]]] = []

    def rows(self, statement: Statement, **parameters: object) -> list[Row]:
        self.asked.append((statement, parameters))
        return super().rows(statement, **parameters)


@pytest.fixture(params=["merged", "looked back a little", "looked back all the way"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How home timelines of users who follow only a few others are made."""
    if request.param != "merged":
        monkeypatch.setattr(appearances, "FOLLOWED_MIN", 1)
        monkeypatch.setattr(appearances, "_LOOK_BACK", 1 if request.param == "looked back a little" else 100)


def pages(view: Callable[[Window], Answer[Page[Any] | None]], limit: int) -> list[list[Any]]:
    """All pages of a list, walked down by their cursors."""
    found, window = [], Window(limit)
    while True:
        page = view(window).value
        assert page is not None
        found.append(page.items)
        if not page.has_more:
            return found
        assert page.oldest is not None
        window = Window(limit, max_id=page.oldest)


def test_a_tweet_is_shown_with_its_counters_and_its_author_in_the_wire_format(database: Database) -> None:
    """DESIGN section 5, field by field and in this order."""
    ada, bob = database.users("Ada", "bob")
    (tweet,) = database.add(TweetCreated(user_id=ada, content="hello"))
    position = database.add(
        TweetLiked(tweet_id=tweet, user_id=bob),
        TweetLiked(tweet_id=tweet),
        TweetRetweeted(tweet_id=tweet, user_id=bob),
        UserFollowed(follower_id=bob, followee_id=ada),
    )[-1]
    answer = views.tweet(database.reader, tweet)
    assert answer.read_position == position
    assert msgspec.json.encode(answer.value) == msgspec.json.encode(
        {
            "id": tweet,
            "content": "hello",
            "user_id": ada,
            "created_at": created_at(tweet),
            "likes": 2,
            "retweets": 1,
            "user": {
                "id": ada,
                "username": "Ada",
                "created_at": created_at(ada),
                "followers_count": 1,
                "following_count": 0,
            },
            "reply_count": 0,
            "in_reply_to_id": None,
            "quote_of_id": None,
        }
    )


def test_an_offset_past_the_end_leaves_nothing_at_a_position(database: Database) -> None:
    """As there is no row of a tweet then, the user's alone says that there is such a user."""
    ada, bob = database.users("ada", "bob")
    *_, newest = database.add(*(TweetCreated(user_id=ada, content="hello") for _ in range(3)))
    nothing: Page[Any] = Page([], None, None, has_more=False)
    assert views.tweets_by_author(database.reader, ada, Window(2), 3) == Answer(newest, nothing)
    assert views.tweets_by_author(database.reader, bob, Window(2)) == Answer(newest, nothing)
    assert views.tweets_by_author(database.reader, newest, Window(2)) == Answer(newest, None)
    found = views.tweets_by_author(database.reader, ada, Window(1), 1).value
    assert found is not None
    assert ([item.id < newest for item in found.items], found.has_more) == ([True], True)


@pytest.mark.usefixtures("way")
def test_statements_are_planned_once_whatever_they_are_asked_for(database: Database) -> None:
    """SQLite plans a statement anew when a parameter has changed that its plan depends on, such as a bare LIMIT.

    It asks the authorizer whenever it plans.
    """
    ada, bob = database.users("ada", "bob")
    tweet, reply = database.add(TweetCreated(user_id=ada, content="x"), TweetCreated(user_id=bob, content="y"))
    database.add(TweetRetweeted(tweet_id=tweet, user_id=bob), UserFollowed(follower_id=ada, followee_id=bob))
    planned: list[int] = []

    def note(action: int, *_: object) -> int:
        if action != sqlite3.SQLITE_TRANSACTION:  # COMMIT is the driver's, and nothing to plan
            planned.append(action)
        return sqlite3.SQLITE_OK

    def look_at_everything(limit: int) -> None:
        for view in LISTS:
            for subject in (ada, bob, tweet, reply):
                for window in (Window(limit), Window(limit, max_id=reply + 1)):
                    view(database.reader, subject, window)

    look_at_everything(10)
    connection: Any = database.reader._connection
    connection.set_authorizer(note)
    look_at_everything(10)  # every statement is planned again, as there is an authorizer now
    assert planned
    planned.clear()
    look_at_everything(20)
    assert planned == []


def test_what_does_not_exist_is_none_at_a_position(database: Database) -> None:
    """A negative answer says of which state it is, too."""
    (ada,) = database.users("ada")
    nobody = ada + 1
    assert views.tweet(database.reader, nobody) == Answer(ada, None)
    assert views.user(database.reader, nobody) == Answer(ada, None)
    assert views.profile_by_username(database.reader, "bob") == Answer(ada, None)
    for view in LISTS:
        assert view(database.reader, nobody, Window(10)) == Answer(ada, None)


def test_a_user_is_found_by_name_in_any_case(database: Database) -> None:
    """As registered, in upper case and in lower case."""
    (ada,) = database.users("Ada_L")
    for name in ("Ada_L", "ada_l", "ADA_L"):
        found = views.profile_by_username(database.reader, name).value
        assert found is not None
        assert (found.id, found.username) == (ada, "Ada_L")


def test_a_fixture_keeps_its_small_id_and_the_time_of_its_entry(database: Database) -> None:
    """created_at comes from the position, never from the id."""
    database.add(UserCreated(username="ada", id=7))
    (position,) = database.add(TweetCreated(user_id=7, content="fixture", id=3))
    found = views.tweet(database.reader, 3).value
    assert found is not None
    assert (found.id, found.created_at) == (3, created_at(position))


def test_an_authors_tweets_page_by_offset_and_by_cursor(database: Database) -> None:
    """Newest first; somebody else's tweets in between do not show."""
    ada, bob = database.users("ada", "bob")
    tweets = [
        database.add(TweetCreated(user_id=ada, content=str(n)), TweetCreated(user_id=bob, content="b"))[0]
        for n in range(7)
    ]
    newest_first = tweets[::-1]

    def page(window: Window, offset: int = 0) -> Page[Any]:
        found = views.tweets_by_author(database.reader, ada, window, offset).value
        assert found is not None
        return found

    assert [tweet.id for tweet in page(Window(3), offset=2).items] == newest_first[2:5]
    assert page(Window(3), offset=4).has_more is False
    assert page(Window(3), offset=3).has_more is True
    assert page(Window(3), offset=7) == Page([], None, None, has_more=False)
    assert [tweet.id for tweet in page(Window(10, max_id=tweets[4], since_id=tweets[1])).items] == [
        tweets[3],
        tweets[2],
    ]
    walked = pages(lambda window: views.tweets_by_author(database.reader, ada, window), 3)
    assert [[tweet.id for tweet in items] for items in walked] == [
        newest_first[:3],
        newest_first[3:6],
        newest_first[6:],
    ]


def test_followers_and_followed_are_listed_by_when_they_followed(database: Database) -> None:
    """Newest follow first; who unfollows and follows again comes first again."""
    ada, *others = database.users("ada", "b", "c", "d", "e")
    database.add(*(UserFollowed(follower_id=other, followee_id=ada) for other in others))
    database.add(*(UserFollowed(follower_id=ada, followee_id=other) for other in others))
    again = others[1]
    database.add(UserUnfollowed(follower_id=again, followee_id=ada), UserFollowed(follower_id=again, followee_id=ada))
    followers = pages(lambda window: views.followers(database.reader, ada, window), 3)
    following = pages(lambda window: views.following(database.reader, ada, window), 2)
    assert [[user.id for user in items] for items in followers] == [[again, others[3], others[2]], [others[0]]]
    assert [[user.id for user in items] for items in following] == [others[:1:-1], others[1::-1]]


def test_a_page_and_its_position_belong_to_one_state(database: Database) -> None:
    """A batch committed between two statements of a page is in none of them."""
    (ada,) = database.users("ada")
    (tweet,) = database.add(TweetCreated(user_id=ada, content="before"))
    with database.reader.transaction() as position:
        (later,) = database.add(TweetCreated(user_id=ada, content="after"))
        assert views.tweet(database.reader, later) == Answer(position, None)
        assert position == tweet
    assert views.tweet(database.reader, later).read_position == later


def home_oracle(entries: list[Entry], user_id: int) -> list[tuple[int, int, int | None]]:
    """(appearance, tweet, who retweeted it there or None) by going through the whole log, newest first."""
    follows: set[int] = {user_id}
    appearances: dict[tuple[int, int], int] = {}  # (tweet, by whom) -> position
    authors: dict[int, int] = {}
    for entry in entries:
        match events.decode(entry.name, entry.payload):
            case UserFollowed(follower_id=follower, followee_id=followee) if follower == user_id:
                follows.add(followee)
            case UserUnfollowed(follower_id=follower, followee_id=followee) if follower == user_id != followee:
                follows.discard(followee)
            case TweetCreated(user_id=author):
                authors[entry.position] = author
            case TweetDeleted(tweet_id=tweet, user_id=by) if authors.get(tweet) == by:
                del authors[tweet]
            case TweetUnretweeted(tweet_id=tweet, user_id=by):
                appearances.pop((tweet, by), None)
            case TweetRetweeted(tweet_id=tweet, user_id=by) if by is not None and tweet in authors:
                appearances.setdefault((tweet, by), entry.position)
    shown: dict[int, tuple[int, int | None]] = {
        tweet: (tweet, None) for tweet, author in authors.items() if author in follows
    }
    for (tweet, by), position in sorted(appearances.items(), key=lambda item: item[1]):
        if by in follows and tweet in authors:
            shown[tweet] = (position, by)
    return sorted(((position, tweet, by) for tweet, (position, by) in shown.items()), reverse=True)


USERS = 5
actions = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("tweet", "tweet", "reply", "delete", "like", "unlike"),
                *("retweet", "retweet", "unretweet", "follow", "unfollow"),
            ]
        ),
        st.integers(0, USERS - 1),
        st.integers(0, 5),
    ),
    min_size=10,
    max_size=60,
)


def played(script: list[tuple[str, int, int]], after: list[Entry]) -> tuple[list[int], list[Entry]]:
    """New users, and the entries of what they do; the third number of an action picks a tweet or a user."""
    last = after[-1].position if after else 0
    authors: dict[int, int] = {}
    entries = chained((UserCreated(username=f"user_{last}_{number}") for number in range(USERS)), last)
    users = [entry.position for entry in entries]
    for action, actor, choice in script:
        actor_id, other_id = users[actor], users[choice % USERS]
        tweet_id = list(authors)[-1 - choice % len(authors)] if authors else 0
        match action:
            case "follow":
                event: Event = UserFollowed(follower_id=actor_id, followee_id=other_id)
            case "unfollow":
                event = UserUnfollowed(follower_id=actor_id, followee_id=other_id)
            case "retweet" if tweet_id:
                event = TweetRetweeted(tweet_id=tweet_id, user_id=actor_id)
            case "unretweet" if tweet_id:
                event = TweetUnretweeted(tweet_id=tweet_id, user_id=actor_id)
            case "like" if tweet_id:
                event = TweetLiked(tweet_id=tweet_id, user_id=actor_id if choice else None)
            case "unlike" if tweet_id:
                event = TweetUnliked(tweet_id=tweet_id, user_id=actor_id)
            case "delete" if tweet_id:
                event = TweetDeleted(tweet_id=tweet_id, user_id=authors[tweet_id])
            case "reply" if tweet_id:
                event = TweetCreated(user_id=actor_id, content="reply", in_reply_to_id=tweet_id)
            case _:
                event = TweetCreated(user_id=actor_id, content="tweet")
        entries += chained([event], entries[-1].position)
        if isinstance(event, TweetCreated):
            authors[entries[-1].position] = actor_id
    return users, entries


@pytest.mark.usefixtures("way")
def test_home_shows_every_tweet_once_at_its_newest_appearance_whatever_the_page_size(database: Database) -> None:
    """All pages together are the timeline that reading the whole log gives, and a window is what it cuts out."""

    @given(script=actions, limit=st.integers(1, 4))
    @example(script=[("follow", 0, 1), ("tweet", 1, 0), *(("retweet", actor, 0) for actor in range(USERS))], limit=1)
    @example(script=[("tweet", 0, 0), ("follow", 0, 1), ("tweet", 1, 0), ("retweet", 0, 0)], limit=1)
    @example(
        script=[
            *(("follow", 0, other) for other in range(1, USERS)),
            *(("tweet", 1, 0), ("tweet", 2, 0)),
            *(("retweet", actor, 0) for actor in range(USERS)),
        ],
        limit=1,
    )
    def check(script: list[tuple[str, int, int]], limit: int) -> None:
        users, entries = played(script, database.entries)
        database.apply(entries)
        for user in users[:2]:
            expected = home_oracle(entries, user)
            walked = pages(lambda window: views.home(database.reader, user, window), limit)  # noqa: B023
            shown = [(item.id, item.retweeted_by and item.retweeted_by.id) for items in walked for item in items]
            assert shown == [(tweet, by) for _, tweet, by in expected]
            for since, _, _ in expected[::3]:
                for limit_of_newer in (100, 2):
                    newer = views.home(database.reader, user, Window(limit_of_newer, since_id=since)).value
                    assert newer is not None
                    above = [tweet for at, tweet, _ in expected if at > since]
                    assert [item.id for item in newer.items] == above[:limit_of_newer]
                    assert newer.has_more == (len(above) > limit_of_newer)

    check()


def plain_join(database: Database, statement: str, subject_id: int) -> list[int]:
    """The first column of a query over the owner's tables, as anybody would write it."""
    with database.writer.begin() as connection:
        return list(connection.execute(text(statement), {"id": subject_id}).scalars())


PLAIN_JOINS: Final[dict[ListView, str]] = {
    views.replies: "SELECT id FROM tweets WHERE in_reply_to_id = :id AND NOT deleted ORDER BY id DESC",
    views.likers: "SELECT u.id FROM likes JOIN users u ON u.id = liker_id WHERE tweet_id = :id"
    " ORDER BY likes.position DESC",
    views.retweeters: "SELECT u.id FROM retweets JOIN users u ON u.id = retweeter_id WHERE tweet_id = :id"
    " ORDER BY retweets.position DESC",
}


def test_lists_of_a_tweet_are_the_plain_joins_whatever_the_page_size(database: Database) -> None:
    """Replies, likers and retweeters of every tweet; none of a deleted one; each author's own without those deleted."""

    @given(script=actions, limit=st.integers(1, 4))
    def check(script: list[tuple[str, int, int]], limit: int) -> None:
        users, entries = played(script, database.entries)
        database.apply(entries)
        deleted = set(plain_join(database, "SELECT id FROM tweets WHERE deleted", 0))
        for entry in entries:
            if entry.name != TweetCreated.name:
                continue
            for view, statement in PLAIN_JOINS.items():
                if entry.position in deleted:
                    assert view(database.reader, entry.position, Window(limit)).value is None
                else:
                    walked = pages(lambda window: view(database.reader, entry.position, window), limit)  # noqa: B023
                    assert [item.id for items in walked for item in items] == plain_join(
                        database, statement, entry.position
                    )
            assert (views.tweet(database.reader, entry.position).value is None) == (entry.position in deleted)
        for user in users:
            walked = pages(lambda window: views.tweets_by_author(database.reader, user, window), limit)  # noqa: B023
            statement = "SELECT id FROM tweets WHERE user_id = :id AND NOT deleted ORDER BY id DESC"
            assert [item.id for items in walked for item in items] == plain_join(database, statement, user)

    check()


def test_a_conversation_shows_in_its_tweets(database: Database) -> None:
    """A reply and a quote point to what they are about, also when it is gone; the parent counts its replies."""
    ada, bob = database.users("ada", "bob")
    (tweet,) = database.add(TweetCreated(user_id=ada, content="hello"))
    reply, quote = database.add(
        TweetCreated(user_id=bob, content="hi", in_reply_to_id=tweet),
        TweetCreated(user_id=bob, content="look", quote_of_id=tweet),
    )

    def shown(tweet_id: int) -> tuple[int, int | None, int | None] | None:
        found = views.tweet(database.reader, tweet_id).value
        return None if found is None else (found.reply_count, found.in_reply_to_id, found.quote_of_id)

    assert [shown(tweet_id) for tweet_id in (tweet, reply, quote)] == [
        (1, None, None),
        (0, tweet, None),
        (0, None, tweet),
    ]
    database.add(TweetDeleted(tweet_id=tweet, user_id=ada))
    assert [shown(tweet_id) for tweet_id in (tweet, reply, quote)] == [None, (0, tweet, None), (0, None, tweet)]


@pytest.mark.parametrize("follows", [1, 30], ids=["few followed", "many followed"])
def test_home_finds_earlier_appearances_from_the_cheaper_side(database: Database, follows: int) -> None:
    """A tweet with ten retweets, one of them shown on the first page, is not shown again on the second."""
    me, author, *others = database.users("me", "author", *(f"u{number}" for number in range(40)))
    database.add(*(UserFollowed(follower_id=me, followee_id=other) for other in [author, *others[:follows]]))
    often, once = database.add(*(TweetCreated(user_id=author, content=text) for text in ("often", "once")))
    database.add(*(TweetRetweeted(tweet_id=often, user_id=other) for other in others[:10]))
    walked = pages(lambda window: views.home(database.reader, me, window), 1)
    assert [item.id for items in walked for item in items] == [often, once]


def test_home_is_made_of_those_followed_last_and_costs_no_more_for_others(database: Database) -> None:
    """Whom one followed before FOLLOWED_MAX others has no place there, neither for tweets nor for retweets."""
    me, forgotten, *others = database.users(*(f"user{number}" for number in range(appearances.FOLLOWED_MAX + 2)))
    database.add(*(UserFollowed(follower_id=me, followee_id=followee) for followee in [forgotten, *others]))
    first, _, last, own = database.add(
        *(TweetCreated(user_id=author, content="hello") for author in (others[0], forgotten, others[-1], me))
    )
    database.add(TweetRetweeted(tweet_id=first, user_id=forgotten))

    def shown() -> list[int]:
        return [item.id for page in pages(lambda window: views.home(database.reader, me, window), 1) for item in page]

    assert shown() == [own, last, first]
    database.add(UserUnfollowed(follower_id=me, followee_id=others[5]))
    assert shown()[0] == first  # there is a place for the forgotten one again


def test_a_home_page_full_of_repetitions_is_cut_short_and_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty followed users retweet one tweet: the work of a page stays bounded, the cursor leads past them."""
    monkeypatch.setattr(home_timeline, "APPEARANCES_MAX", 10)
    me, *others = database.users("me", *(f"u{number}" for number in range(30)))
    database.add(*(UserFollowed(follower_id=me, followee_id=other) for other in others))
    old, often = database.add(TweetCreated(user_id=me, content="old"), TweetCreated(user_id=me, content="often"))
    database.add(*(TweetRetweeted(tweet_id=often, user_id=other) for other in others))
    walked = pages(lambda window: views.home(database.reader, me, window), 5)
    assert [item.id for items in walked for item in items] == [often, old]
    assert len(walked) == 4


def followed_by(database: Database, count: int) -> tuple[int, list[int]]:
    """A user, and so many whom she follows, of whom each has written a tweet."""
    me, *others = database.users(*(f"user{number}" for number in range(count + 1)))
    database.add(*(UserFollowed(follower_id=me, followee_id=other) for other in others))
    return me, database.add(*(TweetCreated(user_id=other, content="hello") for other in others))


def test_a_page_of_home_among_the_newest_tweets_asks_nobodys_streams(database: Database) -> None:
    """Thousands of seeks would find the same. So does a look for what is new since, which is little."""
    me, tweets = followed_by(database, 2 * appearances.FOLLOWED_MIN)
    for window, expected in (
        (Window(20), tweets[:-21:-1]),
        (Window(20, max_id=tweets[50]), tweets[49:29:-1]),
        (Window(20, since_id=tweets[-3]), tweets[:-3:-1]),
        (Window(20, since_id=tweets[-1]), []),
    ):
        with NotingReader(database.engine) as reader:
            page = views.home(reader, me, window).value
            assert page is not None
            assert [item.id for item in page.items] == expected
            assert appearances._STREAMS not in [statement for statement, _ in reader.asked]


def test_a_home_of_the_silent_costs_one_look_back_more_than_merging(database: Database) -> None:
    """None of the newest tweets is by anybody followed: no more of them are looked at than half of the followed."""
    count = appearances.FOLLOWED_MIN
    me, tweets = followed_by(database, count)
    (stranger,) = database.users("stranger")
    loud = database.add(*(TweetCreated(user_id=stranger, content="loud") for _ in range(5 * count)))
    with NotingReader(database.engine) as reader:
        page = views.home(reader, me, Window(20)).value
        assert page is not None
        assert [item.id for item in page.items] == tweets[:-21:-1]
        floors = [parameters["floor"] for _, parameters in reader.asked if "floor" in parameters]
        assert floors == [loud[-count // 2]]


def test_looking_back_goes_on_where_it_is_likely_to_fill_the_page_and_no_further(database: Database) -> None:
    """One tweet in ten is by somebody followed, and a page is found among two hundred; then nobody followed writes."""
    count = 2 * appearances.FOLLOWED_MIN
    me, tweets = followed_by(database, count)
    (stranger,) = database.users("stranger")
    for author in [entry.position for entry in database.entries[1 : count + 1]][:50]:
        database.add(*(TweetCreated(user_id=each, content="hello") for each in (author, *[stranger] * 9)))
    newest = [entry.position for entry in database.entries if entry.name == TweetCreated.name][-500::10][::-1]
    with NotingReader(database.engine) as reader:
        page = views.home(reader, me, Window(20)).value
        assert page is not None
        assert [item.id for item in page.items] == newest[:20]
        asked = [statement for statement, _ in reader.asked]
        assert (asked.count(appearances._FLOORS), asked.count(appearances._STREAMS)) == (2, 0)
        everything = views.home(reader, me, Window(100)).value
        assert everything is not None
        assert [item.id for item in everything.items] == [*newest, *tweets[::-1]][:100]
        looked_at = sum(
            1 + parameters["rows_skipped"] for statement, parameters in reader.asked if statement is appearances._FLOORS
        )
        assert looked_at <= 2 * appearances._LOOK_BACK_MAX * count


def test_no_view_reads_more_rows_than_it_needs(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement finds its rows by an index; only the home timeline sorts, and only one row a stream."""
    monkeypatch.setattr(appearances, "FOLLOWED_MIN", 1)
    monkeypatch.setattr(appearances, "_LOOK_BACK", 1)
    ada, bob = database.users("ada", "bob")
    database.add(UserFollowed(follower_id=ada, followee_id=bob))
    (tweet,) = database.add(TweetCreated(user_id=ada, content="hello"))
    for view in LISTS:
        for subject in (ada, tweet):
            view(database.reader, subject, Window(10))
            view(database.reader, subject, Window(10, max_id=ada))
    views.tweet(database.reader, ada)
    views.user(database.reader, ada)
    views.profile_by_username(database.reader, "ada")
    plans = list(plans_of(database.reader))
    assert len(plans) >= 13
    assert set(INDEXES_OF_WHAT_IS_SHOWN) <= set(re.findall(r"INDEX (\w+)", str(plans)))
    for statement, plan in plans:
        scanned = [step for step in plan if step.startswith("SCAN") and step not in ALLOWED_SCANS]
        assert not scanned, (statement, plan)
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan or "authors" in statement, (statement, plan)


INDEXES_OF_WHAT_IS_SHOWN: Final = (
    *("tweets_by_author", "tweets_by_parent"),
    *("likes_by_tweet", "retweets_by_tweet", "retweets_by_position"),
)
ALLOWED_SCANS = {"SCAN applied", "SCAN authors", "SCAN followed", "SCAN CONSTANT ROW"}


def plans_of(reader: Reader) -> Iterator[tuple[str, list[str]]]:
    """(text, steps of its query plan) of every statement that a reader has compiled."""
    for statement, (compiled, constants) in reader._compiled.items():
        names = statement.compile(dialect=reader._dialect).binds
        parameters = {**dict.fromkeys(names, 1), **constants}
        rows = reader._connection.execute(f"EXPLAIN QUERY PLAN {compiled}", parameters).fetchall()
        yield compiled, [row[3] for row in rows]
