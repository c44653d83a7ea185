"""The rows that a batch of events may read or change: loaded in bulk, changed in memory, written in bulk.

Deciding in memory, event by event, keeps the result independent of batch size and of database errors
(HAZARDS 6): a statement that fails here is a bug, never a decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Executable, bindparam, delete, insert, select, tuple_, update
from sqlmodel import SQLModel, col

from services.common.models import DeadLetter, Follow, Like, Retweet, Tweet, User

_KEYS_PER_QUERY: Final = 500
TOMBSTONE: Final = {"content": "", "deleted": True}
"""What a deleted tweet has instead."""

Key = TypeVar("Key")
Pair = tuple[int, int]
Values = dict[str, Any]
"""Column values of one row. Rows read from the database carry only their id and what events can change."""


@dataclass(slots=True)
class Wanted:
    """The keys that a batch may read or change. ``parents_of`` are tweets whose parents are wanted too."""

    users: set[int] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    tweets: set[int] = field(default_factory=set)
    parents_of: set[int] = field(default_factory=set)
    likes: set[Pair] = field(default_factory=set)
    retweets: set[Pair] = field(default_factory=set)
    follows: set[Pair] = field(default_factory=set)


class EntityRows:
    """Users or tweets by id, with their counters."""

    def __init__(self, table: type[SQLModel], *changing: str) -> None:
        self._table = table
        self._id = getattr(table, "id")  # noqa: B009 - SQLModel declares no id
        self._columns = ("id", *changing)
        self._changing = changing
        self.by_id: dict[int, Values] = {}
        self.added: set[int] = set()
        self.changed: set[int] = set()
        self._replaced: defaultdict[int, Values] = defaultdict(dict)

    def load(self, connection: Connection, wanted: Collection[int], *also: str) -> None:
        """Read the rows with these ids: the columns that events can change, and ``also``."""
        names = (*self._columns, *also)
        columns = [getattr(self._table, name) for name in names]
        for ids in chunks(wanted):
            for row in connection.execute(select(*columns).where(columns[0].in_(ids))):
                self.by_id[row[0]] = dict(zip(names, row, strict=True))

    def add(self, values: Values) -> None:
        """A new row; its id must not exist."""
        self.by_id[values["id"]] = values
        self.added.add(values["id"])

    def count(self, row_id: int, column: str, change: int) -> None:
        """Change a counter of an existing row."""
        self.by_id[row_id][column] += change
        self.changed.add(row_id)

    def change(self, row_id: int, values: Values) -> None:
        """Replace columns of an existing row that are no counters."""
        self.by_id[row_id].update(values)
        if values:
            self.changed.add(row_id)
            self._replaced[row_id].update(values)

    def write(self, connection: Connection) -> None:
        """Insert what was added, update what was changed."""
        _execute_many(connection, insert(self._table), (self.by_id[row_id] for row_id in sorted(self.added)))
        statement = (
            update(self._table)
            .where(self._id == bindparam("row_id"))
            .values({name: bindparam(name) for name in self._changing})
        )
        changed = (self.by_id[row_id] for row_id in sorted(self.changed - self.added))
        _execute_many(
            connection, statement, ({"row_id": row["id"], **{n: row[n] for n in self._changing}} for row in changed)
        )
        for row_id in sorted(self._replaced.keys() - self.added):
            connection.execute(update(self._table).where(self._id == row_id).values(self._replaced[row_id]))


class PairRows:
    """Rows that are a key of two ids and the position that made them: likes, retweets, follows."""

    def __init__(self, table: type[SQLModel], first: str, second: str) -> None:
        self._table = table
        self._names = (first, second, "position")
        self._columns = [getattr(table, name) for name in self._names]
        self._before: dict[Pair, int] = {}
        self.positions: dict[Pair, int] = {}

    def load(self, connection: Connection, wanted: Collection[Pair]) -> None:
        """Read the rows with these keys."""
        key = tuple_(*self._columns[:2])
        for pairs in chunks(wanted):
            for row in connection.execute(select(*self._columns).where(key.in_(pairs))):
                self._before[row[0], row[1]] = row[2]
        self.positions = dict(self._before)

    def write(self, connection: Connection) -> None:
        """Write the difference between what was read and what it became."""
        first, second = self._columns[:2]
        statement = delete(self._table).where(first == bindparam("first"), second == bindparam("second"))
        gone = sorted(key for key, position in self._before.items() if self.positions.get(key) != position)
        _execute_many(connection, statement, ({"first": key[0], "second": key[1]} for key in gone))
        added = sorted((*key, at) for key, at in self.positions.items() if self._before.get(key) != at)
        _execute_many(connection, insert(self._table), (dict(zip(self._names, row, strict=True)) for row in added))


class Rows:
    """The working set of one batch."""

    def __init__(self, connection: Connection, wanted: Wanted) -> None:
        self.users = EntityRows(User, "followers_count", "following_count")
        self.tweets = EntityRows(Tweet, "likes", "retweets", "reply_count")
        self._buried: set[int] = set()
        self.likes = PairRows(Like, "tweet_id", "liker_id")
        self.retweets = PairRows(Retweet, "tweet_id", "retweeter_id")
        self.follows = PairRows(Follow, "follower_id", "followee_id")
        self.names: set[str] = set()
        self.dead_letters: list[Values] = []

        self.users.load(connection, wanted.users)
        self._load_tweets(connection, wanted.tweets)
        loaded = (self.tweets.by_id.get(tweet_id, {}) for tweet_id in wanted.parents_of)
        parents = {row["in_reply_to_id"] for row in loaded if row.get("in_reply_to_id")}
        self._load_tweets(connection, parents - wanted.tweets)
        self.likes.load(connection, wanted.likes)
        self.retweets.load(connection, wanted.retweets)
        self.follows.load(connection, wanted.follows)
        for names in chunks(wanted.names):
            taken = select(col(User.username_lower)).where(col(User.username_lower).in_(names))
            self.names.update(connection.execute(taken).scalars())

    def bury_tweet(self, tweet_id: int) -> None:
        """Make a tombstone of an existing tweet."""
        self.tweets.by_id[tweet_id].update(TOMBSTONE)
        self.tweets.changed.add(tweet_id)
        self._buried.add(tweet_id)

    def write(self, connection: Connection) -> None:
        """Write every change, one row per primary key, so that grouping by table reorders nothing."""
        for rows in (self.users, self.tweets, self.likes, self.retweets, self.follows):
            rows.write(connection)
        bury = update(Tweet).where(col(Tweet.id) == bindparam("row_id")).values(TOMBSTONE)
        _execute_many(connection, bury, [{"row_id": tweet_id} for tweet_id in sorted(self._buried)])
        _execute_many(connection, insert(DeadLetter), self.dead_letters)

    def _load_tweets(self, connection: Connection, wanted: Collection[int]) -> None:
        self.tweets.load(connection, wanted, "user_id", "in_reply_to_id", "deleted")


def chunks(keys: Collection[Key]) -> Iterator[list[Key]]:
    """The keys, in lists that fit into one query."""
    remaining = iter(keys)
    while some := list(islice(remaining, _KEYS_PER_QUERY)):
        yield some


def _execute_many(
    connection: Connection, statement: Executable, rows: Iterator[Mapping[str, Any]] | list[Values]
) -> None:
    parameters = list(rows)
    if parameters:
        connection.execute(statement, parameters)
