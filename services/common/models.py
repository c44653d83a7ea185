"""The tables of the projection, equal on every copy, and the private ones that only the owner keeps.

Every row of a public table is a function of the log. ``position`` is always the entry that made the row.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, MetaData
from sqlmodel import Field, SQLModel

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
    followers_count: int = 0
    following_count: int = 0
    position: int = Field(sa_type=BIG)


class Tweet(Public, table=True):
    """A tweet with its counters; each counter equals the number of its rows."""

    __tablename__ = "tweets"
    __table_args__ = (Index("tweets_by_author", "user_id", "id"),)

    id: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    user_id: int = Field(sa_type=BIG)
    content: str
    likes: int = 0
    retweets: int = 0
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


class DeadLetter(Public, table=True):
    """An entry that was malformed within a version this code knows, and why."""

    __tablename__ = "dead_letters"

    position: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    name: str
    version: int
    payload: bytes = Field(sa_type=LargeBinary)
    reason: str


class Credential(Private, table=True):
    """What a user gave in confidence; copied from ``cred:{user}``, never in an event or a replica."""

    __tablename__ = "credentials"

    user_id: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    username: str
    email: str
    email_hmac: str
    password_hash: str | None = None
