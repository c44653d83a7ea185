"""The rows that a batch of events may read or change: loaded in bulk, changed in memory, written in bulk.

Deciding in memory, event by event, keeps the result independent of batch size and of database errors
(HAZARDS 6): a statement that fails here is a bug, never a decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import msgspec
from sqlalchemy import Connection, Table, bindparam, delete, insert, update
from sqlmodel import col

from services.common.models import DeadLetter, Public, Tweet
from services.common.projection.statements import change_many, rows_with, text_of

TOMBSTONE: Final = {"content": "", "deleted": True}
"""What a deleted tweet has instead."""

Pair = tuple[int, int]
Values = dict[str, Any]


class UserRow(msgspec.Struct, gc=False):
    """An account; of one that was read, the fields that events can change, and not what its profile says."""

    id: int
    followers_count: int = 0
    following_count: int = 0
    username: str = ""
    username_lower: str = ""
    display_name: str = ""
    bio: str = ""
    position: int = 0


class TweetRow(msgspec.Struct, gc=False):
    """A tweet; of one that was read, the fields that events can change or ask for, up to ``deleted``."""

    id: int
    user_id: int
    likes: int = 0
    retweets: int = 0
    reply_count: int = 0
    in_reply_to_id: int | None = None
    deleted: bool = False
    content: str = ""
    quote_of_id: int | None = None
    position: int = 0


Row = TypeVar("Row", bound=UserRow | TweetRow)


@dataclass(slots=True)
class Wanted:
    """The keys that a batch may read or change. ``parents_of`` are tweets whose parents are wanted too.

    What an entry makes under its own position is not among them: nobody has made it before.
    """

    users: set[int] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    tweets: set[int] = field(default_factory=set)
    parents_of: set[int] = field(default_factory=set)
    likes: set[Pair] = field(default_factory=set)
    retweets: set[Pair] = field(default_factory=set)
    follows: set[Pair] = field(default_factory=set)


class Entities(Generic[Row]):
    """How users or tweets are read and written: ``read`` are the first fields of a row, ``counters`` among them."""

    def __init__(self, table: Table, row: type[Row], read: tuple[str, ...], counters: tuple[str, ...]) -> None:
        self.table = table
        self.row = row
        self.read = read
        self.counters = counters
        self.insert = insert(table)
        self.update = update(table).where(table.c.id == bindparam("row_id", type_=table.c.id.type))
        self.names = tuple(table.c.keys())


class Pairs:
    """How likes, retweets or follows are read and written: a key of two ids, and the position that made them."""

    def __init__(self, table: Table, first: str, second: str) -> None:
        self.table = table
        self.key = (first, second)
        self.columns = (first, second, "position")
        self.insert = insert(table)
        self.delete = delete(table).where(table.c[first] == bindparam("first"), table.c[second] == bindparam("second"))


class EntityRows(Generic[Row]):
    """Users or tweets by id, with their counters."""

    def __init__(self, entities: Entities[Row]) -> None:
        self._entities = entities
        self.by_id: dict[int, Row] = {}
        self.added: set[int] = set()
        self.changed: set[int] = set()
        self._replaced: defaultdict[int, Values] = defaultdict(dict)

    def load(self, connection: Connection, wanted: Collection[int]) -> None:
        """Read the rows with these ids."""
        row = self._entities.row
        for found in rows_with(connection, self._entities.table, self._entities.read, ("id",), wanted):
            self.by_id[found[0]] = row(*found)

    def add(self, row: Row) -> None:
        """A new row; its id must not exist."""
        self.by_id[row.id] = row
        self.added.add(row.id)

    def count(self, row_id: int, column: str, change: int) -> None:
        """Change a counter of an existing row."""
        row = self.by_id[row_id]
        setattr(row, column, getattr(row, column) + change)
        self.changed.add(row_id)

    def change(self, row_id: int, values: Values) -> None:
        """Replace columns of an existing row that are no counters."""
        for name, value in values.items():
            setattr(self.by_id[row_id], name, value)
        if values:
            self.changed.add(row_id)
            self._replaced[row_id].update(values)

    def write(self, connection: Connection) -> None:
        """Insert what was added, update what was changed; in the order of the keys, which is that on disk."""
        entities, by_id = self._entities, self.by_id
        new = text_of(connection, entities.insert, entities.names)
        values_of = attrgetter(*new.names)
        change_many(connection, new, [values_of(by_id[row_id]) for row_id in sorted(self.added)])
        counted = text_of(connection, entities.update, entities.counters)
        values_of = attrgetter(*entities.counters, "id")
        change_many(connection, counted, [values_of(by_id[row_id]) for row_id in sorted(self.changed - self.added)])
        for row_id in sorted(self._replaced.keys() - self.added):
            connection.execute(entities.update.values(self._replaced[row_id]), {"row_id": row_id})


class PairRows:
    """Likes, retweets or follows by their key."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._before: dict[Pair, int] = {}
        self.positions: dict[Pair, int] = {}

    def load(self, connection: Connection, wanted: Collection[Pair]) -> None:
        """Read the rows with these keys."""
        pairs = self._pairs
        found = rows_with(connection, pairs.table, pairs.columns, pairs.key, wanted)
        self._before = {(first, second): position for first, second, position in found}
        self.positions = dict(self._before)

    def write(self, connection: Connection) -> None:
        """Write the difference between what was read and what it became."""
        pairs, before = self._pairs, self._before
        gone = sorted(key for key, position in before.items() if self.positions.get(key) != position)
        change_many(connection, text_of(connection, pairs.delete), gone)
        added = sorted((*key, at) for key, at in self.positions.items() if before.get(key) != at)
        change_many(connection, text_of(connection, pairs.insert, pairs.columns), added)


_tables = Public.metadata.tables
_USERS: Final = Entities(
    _tables["users"], UserRow, UserRow.__struct_fields__[:3], ("followers_count", "following_count")
)
_TWEETS: Final = Entities(
    _tables["tweets"], TweetRow, TweetRow.__struct_fields__[:7], ("likes", "retweets", "reply_count")
)
_LIKES: Final = Pairs(_tables["likes"], "tweet_id", "liker_id")
_RETWEETS: Final = Pairs(_tables["retweets"], "tweet_id", "retweeter_id")
_FOLLOWS: Final = Pairs(_tables["follows"], "follower_id", "followee_id")
_BURY: Final = update(Tweet).where(col(Tweet.id) == bindparam("row_id")).values(TOMBSTONE)


class Rows:
    """The working set of one batch."""

    def __init__(self, connection: Connection, wanted: Wanted) -> None:
        self.users = EntityRows(_USERS)
        self.tweets = EntityRows(_TWEETS)
        self._buried: set[int] = set()
        self.likes = PairRows(_LIKES)
        self.retweets = PairRows(_RETWEETS)
        self.follows = PairRows(_FOLLOWS)
        self.dead_letters: list[Values] = []

        self.users.load(connection, wanted.users)
        self.tweets.load(connection, wanted.tweets)
        loaded = (self.tweets.by_id.get(tweet_id) for tweet_id in wanted.parents_of)
        parents = {row.in_reply_to_id for row in loaded if row is not None and row.in_reply_to_id is not None}
        self.tweets.load(connection, parents - wanted.tweets)
        self.likes.load(connection, wanted.likes)
        self.retweets.load(connection, wanted.retweets)
        self.follows.load(connection, wanted.follows)
        name = ("username_lower",)
        self.names: set[str] = {row[0] for row in rows_with(connection, _USERS.table, name, name, wanted.names)}

    def bury_tweet(self, tweet_id: int) -> None:
        """Make a tombstone of an existing tweet."""
        for name, value in TOMBSTONE.items():
            setattr(self.tweets.by_id[tweet_id], name, value)
        self.tweets.changed.add(tweet_id)
        self._buried.add(tweet_id)

    def write(self, connection: Connection) -> None:
        """Write every change, one row per primary key, so that grouping by table reorders nothing."""
        self.users.write(connection)
        self.tweets.write(connection)
        for pairs in (self.likes, self.retweets, self.follows):
            pairs.write(connection)
        if self._buried:
            connection.execute(_BURY, [{"row_id": tweet_id} for tweet_id in sorted(self._buried)])
        if self.dead_letters:
            connection.execute(insert(DeadLetter), self.dead_letters)
