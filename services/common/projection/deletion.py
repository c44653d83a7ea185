"""What the end of an account does to the rows.

It concerns any number of rows, so it is done by the database and not in memory, between the entries before it and
those after it: a batch with a deletion in it is applied in parts. Deletions are rare, and this keeps them simple.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, or_, select, update
from sqlalchemy.orm import Mapped, aliased
from sqlmodel import col

from services.common.models import NOT_DELETED, Follow, Tweet, User
from services.common.projection.rows import TOMBSTONE


class Bereft(NamedTuple):
    """Who and what is gone or has other counters: users, tweets, and the authors of these."""

    users: set[int]
    tweets: set[int]
    authors: set[int]


def delete_account(connection: Connection, user_id: int) -> Bereft | None:
    """Remove the account, whom it follows and who follows it; its tweets become tombstones.

    Returns None if there is no such account. What it liked and retweeted stays counted, as the rows stay, by nobody
    who could be named.
    """
    if connection.execute(select(col(User.id)).where(col(User.id) == user_id)).first() is None:
        return None
    followees = _count_down(connection, User.followers_count, col(Follow.followee_id), col(Follow.follower_id), user_id)
    followers = _count_down(connection, User.following_count, col(Follow.follower_id), col(Follow.followee_id), user_id)
    is_part = or_(col(Follow.follower_id) == user_id, col(Follow.followee_id) == user_id)
    connection.execute(delete(Follow).where(is_part))
    parents = _count_replies_down(connection, user_id)
    is_hers = (col(Tweet.user_id) == user_id, NOT_DELETED)
    tweets = set(connection.execute(select(col(Tweet.id)).where(*is_hers)).scalars())
    connection.execute(update(Tweet).where(*is_hers).values(TOMBSTONE))
    connection.execute(delete(User).where(col(User.id) == user_id))
    return Bereft(followees | followers, tweets | parents.keys(), set(parents.values()))


def _count_down(connection: Connection, counter: Any, others: Mapped[int], own: Mapped[int], user_id: int) -> set[int]:
    """Take this account out of a counter of everybody at the other end of its follows; returns them."""
    found = select(others).where(own == user_id)
    connection.execute(update(User).where(col(User.id).in_(found)).values({counter: counter - 1}))
    return set(connection.execute(found).scalars())


def _count_replies_down(connection: Connection, user_id: int) -> dict[int, int]:
    """Take this account's replies out of the counters of what they reply to; returns these and their authors."""
    reply = aliased(Tweet)
    is_counted = (col(reply.user_id) == user_id, col(reply.deleted).is_(False))
    parents = select(col(reply.in_reply_to_id)).where(*is_counted, col(reply.in_reply_to_id).is_not(None))
    replies = select(func.count()).where(*is_counted, col(reply.in_reply_to_id) == col(Tweet.id))
    found = select(col(Tweet.id), col(Tweet.user_id)).where(col(Tweet.id).in_(parents))
    authors = {row.id: row.user_id for row in connection.execute(found)}
    fewer = update(Tweet).where(col(Tweet.id).in_(parents))
    connection.execute(fewer.values(reply_count=col(Tweet.reply_count) - replies.scalar_subquery()))
    return authors
