"""Tweets: one by id, an author's, and the replies to one. A deleted tweet is in no view."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import bindparam, literal_column, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from services.common.ids import created_at
from services.common.models import NOT_DELETED, Applied, Tweet, User
from services.common.shapes import Answer, Page, TweetView, UserView, Window
from services.common.views.reader import ROWS_MAX, Reader, Row, Statement, id_parameters
from services.common.views.users import USER_COLUMNS, user_view

_TWEET_COLUMNS: Final[tuple[Any, ...]] = (
    col(Tweet.id),
    col(Tweet.content),
    col(Tweet.user_id),
    col(Tweet.position).label("tweet_position"),
    col(Tweet.likes),
    col(Tweet.retweets),
    col(Tweet.reply_count),
    col(Tweet.in_reply_to_id),
    col(Tweet.quote_of_id),
)
_COLUMNS_OF_TWEET: Final = len(_TWEET_COLUMNS)
_COLUMNS_OF_USER: Final = len(USER_COLUMNS)

_TWEET_BY_ID = (
    select(col(Applied.position), *_TWEET_COLUMNS, *USER_COLUMNS)
    .select_from(Applied)
    .outerjoin(Tweet, (col(Tweet.id) == bindparam("tweet_id")) & NOT_DELETED)
    .outerjoin(User, col(User.id) == col(Tweet.user_id))
)
_LISTED = aliased(Tweet)
_NEWEST_LISTED = (
    select(col(_LISTED.id))
    .where(
        col(_LISTED.deleted).is_(False),
        col(_LISTED.user_id) == bindparam("author_id"),
        col(_LISTED.id) < bindparam("max_id"),
        col(_LISTED.id) > bindparam("since_id"),
    )
    .order_by(col(_LISTED.id).desc())
    .limit(literal_column("1"))
    .offset(bindparam("rows_skipped"))
    .scalar_subquery()
)
# One statement, so there is no transaction around it; and as nothing is skipped in it, there is always a row.
_TWEETS_BY_AUTHOR = (
    select(col(Applied.position), *_TWEET_COLUMNS, *USER_COLUMNS)
    .select_from(Applied)
    .outerjoin(User, col(User.id) == bindparam("author_id"))
    .outerjoin(
        Tweet,
        NOT_DELETED
        & (col(Tweet.user_id) == bindparam("author_id"))
        & (col(Tweet.id) <= _NEWEST_LISTED)
        & (col(Tweet.id) > bindparam("since_id")),
    )
    .where(col(Applied.id) == 1)
    .order_by(col(Tweet.id).desc())
    .limit(ROWS_MAX)
)
_REPLIES = (
    select(*_TWEET_COLUMNS, *USER_COLUMNS)
    .join(User, col(User.id) == col(Tweet.user_id))
    .where(
        NOT_DELETED,
        col(Tweet.in_reply_to_id) == bindparam("tweet_id"),
        col(Tweet.id) < bindparam("max_id"),
        col(Tweet.id) > bindparam("since_id"),
    )
    .order_by(col(Tweet.id).desc())
    .limit(ROWS_MAX)
)


@cache
def _tweets_by_ids(count: int) -> Statement:
    return (
        select(*_TWEET_COLUMNS, *USER_COLUMNS)
        .join(User, col(User.id) == col(Tweet.user_id))
        .where(NOT_DELETED, col(Tweet.id).in_(id_parameters(count)))
    )


def tweet(reader: Reader, tweet_id: int) -> Answer[TweetView | None]:
    """The tweet with this id, None if there is none."""
    row = reader.rows(_TWEET_BY_ID, tweet_id=tweet_id)[0]
    found = None if row[1] is None else _tweet_and_author(row[1:])
    return Answer(row[0], found)


def tweets(reader: Reader, tweet_ids: Sequence[int]) -> dict[int, TweetView]:
    """Those of these tweets that there are; in a transaction, as they are of one state."""
    return {row[0]: _tweet_and_author(row) for row in reader.rows_of(_tweets_by_ids, tweet_ids)}


def tweets_by_author(reader: Reader, author_id: int, window: Window, offset: int = 0) -> Answer[Page[TweetView] | None]:
    """A user's tweets, newest first, ``offset`` of the window's skipped; None if there is no such user."""
    rows = reader.rows(_TWEETS_BY_AUTHOR, author_id=author_id, rows_skipped=offset, **window.parameters())
    position, of_author = rows[0][0], rows[0][-_COLUMNS_OF_USER:]
    if of_author[0] is None:
        return Answer(position, None)
    author = user_view(of_author)
    tweets = [(row[1], _tweet_view(row[1:-_COLUMNS_OF_USER], author)) for row in rows if row[1] is not None]
    return Answer(position, Page.of(tweets, window.limit))


def replies(reader: Reader, tweet_id: int, window: Window) -> Answer[Page[TweetView] | None]:
    """The replies to a tweet, newest first; None if there is no such tweet."""
    with reader.transaction() as position:
        if tweet(reader, tweet_id).value is None:
            return Answer(position, None)
        rows = reader.rows(_REPLIES, tweet_id=tweet_id, **window.parameters())
    return Answer(position, Page.of([(row[0], _tweet_and_author(row)) for row in rows], window.limit))


def _tweet_and_author(row: Row) -> TweetView:
    return _tweet_view(row[:_COLUMNS_OF_TWEET], user_view(row[_COLUMNS_OF_TWEET:]))


def _tweet_view(row: Row, author: UserView) -> TweetView:
    tweet_id, content, user_id, position, likes, retweets, reply_count, in_reply_to_id, quote_of_id = row
    # By place: by name it would take twice as long, and this is done for every tweet of every list.
    return TweetView(
        tweet_id,
        content,
        user_id,
        created_at(position),
        likes,
        retweets,
        author,
        reply_count,
        in_reply_to_id,
        quote_of_id,
    )
