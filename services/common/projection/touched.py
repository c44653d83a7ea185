"""What entries may have changed, told from the rows they were applied to: for who drops what is out of date only."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Row, select
from sqlmodel import col

from services.common.events import (
    AccountDeleted,
    DeadLetterReplayed,
    EpochStarted,
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
    UserUpdated,
)
from services.common.log.entry import Entry
from services.common.models import Tweet
from services.common.projection.apply import Touched, decoded
from services.common.projection.statements import chunks


def touched_by(connection: Connection, entries: Sequence[Entry]) -> Touched | None:
    """At least what applying these entries has touched, in a database that is at or above the last of them.

    None means that it may be anything: after the end of an account, whose follows are gone; where a dead letter was
    replayed, which is gone, too; and in a new epoch, before which a database may have held what was discarded since.
    """
    touched, deleted = Touched(), set[int]()
    for entry in entries:
        event = decoded(entry)
        if isinstance(event, AccountDeleted | DeadLetterReplayed | EpochStarted):
            return None
        if isinstance(event, TweetDeleted):
            deleted.add(event.tweet_id)
        if isinstance(event, Event):
            _touch(touched, event, entry.position)
    rows = _tweets(connection, touched.tweets)
    parents = {row.in_reply_to_id for row in rows if row.id in deleted and row.in_reply_to_id is not None}
    touched.tweets |= parents
    touched.authors |= {row.user_id for row in (*rows, *_tweets(connection, parents))}
    return touched


def _touch(touched: Touched, event: Event, position: int) -> None:
    match event:
        case UserCreated():
            touched.users.add(event.id or position)
            touched.users_created.add(event.id or position)
        case UserUpdated():
            touched.users.add(event.user_id)
        case UserFollowed() | UserUnfollowed():
            touched.users |= {event.follower_id, event.followee_id}
        case TweetCreated():
            touched.tweets.add(event.id or position)
            touched.appearing.add(event.user_id)
            if event.in_reply_to_id is not None:
                touched.tweets.add(event.in_reply_to_id)
        case TweetLiked() | TweetUnliked():
            touched.tweets.add(event.tweet_id)
        case TweetDeleted() | TweetRetweeted() | TweetUnretweeted():
            touched.tweets.add(event.tweet_id)
            if event.user_id is not None:
                touched.appearing.add(event.user_id)


def _tweets(connection: Connection, tweet_ids: Collection[int]) -> list[Row[int, int, int | None]]:
    statement = select(col(Tweet.id), col(Tweet.user_id), col(Tweet.in_reply_to_id))
    return [row for some in chunks(tweet_ids) for row in connection.execute(statement.where(col(Tweet.id).in_(some)))]
