"""The tables of the projection, equal on every copy, and the private ones that only the owner keeps.

Every row of a public table is a function of the log. ``position`` is always the entry that made the row.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sqlalchemy import BigInteger, ColumnElement, Index, Integer, LargeBinary, MetaData
from sqlmodel import Field, SQLModel, col

WITHOUT_ROWID = {"sqlite_with_rowid": False}
# INTEGER and not BIGINT on SQLite: only an INTEGER PRIMARY KEY is the row id itself and needs no second index.
BIG = BigInteger().with_variant(Integer(), "sqlite")


class Public(SQLModel):
    """Base of the tables that owner, replicas, snapshots and rebuilds share."""

    metadata: ClassVar[MetaData] = MetaData()


class Private(SQLModel):
    """Base of the tables that never leave the owner; they live in a database file of their own."""

    metadata: ClassVar[MetaData] = MetaData()


class Applied(Public, table=True):
    """The one row that says which prefix of the log this copy holds. Not part of the table hashes."""

    __tablename__ = "applied"

    id: int = Field(default=1, primary_key=True)
    position: int = Field(default=0, sa_type=BIG)
    fence: int = Field(default=0, sa_type=BIG)
    epoch: int = 0
    entries: int = Field(default=0, sa_type=BIG)
    projection_version: int


class User(Public, table=True):
    """An account as everybody may see it."""

    __tablename__ = "users"

    id: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    username: str
    username_lower: str = Field(unique=True)
    display_name: str = ""
    bio: str = ""
    followers_count: int = 0
    following_count: int = 0
    position: int = Field(sa_type=BIG)


class Tweet(Public, table=True):
    """A tweet with its counters; each equals the number of its rows (of its replies: those not deleted).

    ``deleted`` makes it a tombstone: without content, in no answer, kept for the rows that point to it.
    ``in_reply_to_id`` and ``quote_of_id`` are tweets in this table, tombstones perhaps.
    """

    __tablename__ = "tweets"

    id: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    user_id: int = Field(sa_type=BIG)
    content: str
    likes: int = 0
    retweets: int = 0
    reply_count: int = 0
    in_reply_to_id: int | None = Field(default=None, sa_type=BIG)
    quote_of_id: int | None = Field(default=None, sa_type=BIG)
    deleted: bool = False
    position: int = Field(sa_type=BIG)


class Like(Public, table=True):
    """``liker_id`` is the user, or for an anonymous like its own position, which is no user's id."""

    __tablename__ = "likes"
    __table_args__ = WITHOUT_ROWID

    tweet_id: int = Field(primary_key=True, sa_type=BIG)
    liker_id: int = Field(primary_key=True, sa_type=BIG)
    position: int = Field(sa_type=BIG)


class Retweet(Public, table=True):
    """``retweeter_id`` is the user, or for an anonymous retweet its own position."""

    __tablename__ = "retweets"
    __table_args__ = (Index("retweets_by_user", "retweeter_id", "position"), WITHOUT_ROWID)

    tweet_id: int = Field(primary_key=True, sa_type=BIG)
    retweeter_id: int = Field(primary_key=True, sa_type=BIG)
    position: int = Field(sa_type=BIG)


class Follow(Public, table=True):
    """``follower_id`` follows ``followee_id`` since ``position``."""

    __tablename__ = "follows"
    __table_args__ = (
        Index("follows_by_follower", "follower_id", "position"),
        Index("follows_by_followee", "followee_id", "position"),
        WITHOUT_ROWID,
    )

    follower_id: int = Field(primary_key=True, sa_type=BIG)
    followee_id: int = Field(primary_key=True, sa_type=BIG)
    position: int = Field(sa_type=BIG)


# What lists show, and all that their indexes hold. A query says the same in its condition, else it cannot use them.
NOT_DELETED: Final[ColumnElement[bool]] = col(Tweet.deleted).is_(False)
LIKED_BY_USER: Final[ColumnElement[bool]] = col(Like.liker_id) != col(Like.position)
RETWEETED_BY_USER: Final[ColumnElement[bool]] = col(Retweet.retweeter_id) != col(Retweet.position)


def _index_where(condition: ColumnElement[bool], name: str, *columns: Any) -> None:
    Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


_index_where(NOT_DELETED, "tweets_by_author", Tweet.user_id, Tweet.id)
_index_where(NOT_DELETED & col(Tweet.in_reply_to_id).is_not(None), "tweets_by_parent", Tweet.in_reply_to_id, Tweet.id)
_index_where(LIKED_BY_USER, "likes_by_tweet", Like.tweet_id, Like.position)
_index_where(RETWEETED_BY_USER, "retweets_by_tweet", Retweet.tweet_id, Retweet.position)
_index_where(RETWEETED_BY_USER, "retweets_by_position", Retweet.position)


class DeadLetter(Public, table=True):
    """An entry that was malformed within a version this code knows, and why."""

    __tablename__ = "dead_letters"

    position: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    name: str
    version: int
    payload: bytes = Field(sa_type=LargeBinary)
    reason: str


class KeptAnswer(Private, table=True):
    """Which entry was appended under an idempotency key, kept for the window only (ADR 10)."""

    __tablename__ = "idempotency_answers"

    scope: bytes = Field(primary_key=True, sa_type=LargeBinary)
    fingerprint: bytes = Field(sa_type=LargeBinary)
    position: int = Field(index=True, sa_type=BIG)


class HeldName(Private, table=True):
    """The name, in lower case, of an account that was deleted at ``position``: nobody can take it for a while."""

    __tablename__ = "held_names"

    username_lower: str = Field(primary_key=True)
    position: int = Field(sa_type=BIG)


class Credential(Private, table=True):
    """What a user gave in confidence; copied from ``cred:{user}``, never in an event or a replica.

    ``position`` is the entry that changed it last.
    """

    __tablename__ = "credentials"

    user_id: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    username: str
    email: str
    email_hmac: str
    password_hash: str | None = None
    revoked_position: int = Field(default=0, sa_type=BIG)
    suspended_position: int = Field(default=0, sa_type=BIG)
    position: int = Field(default=0, sa_type=BIG)
