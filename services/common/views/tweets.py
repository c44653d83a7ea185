"""Tweets: one by id, and an author's."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlmodel import col

from services.common.ids import created_at
from services.common.models import Applied, Tweet, User
from services.common.views.reader import Reader, Row
from services.common.views.shapes import Answer, Page, TweetView, UserView, Window, page_of
from services.common.views.users import USER_COLUMNS, user, user_view

_TWEET_COLUMNS: Final[tuple[Any, ...]] = (
    col(Tweet.id),
    col(Tweet.content),
    col(Tweet.user_id),
    col(Tweet.position).label("tweet_position"),
    col(Tweet.likes),
    col(Tweet.retweets),
)

_TWEET_BY_ID = (
    select(col(Applied.position), *_TWEET_COLUMNS, *USER_COLUMNS)
    .select_from(Applied)
    .outerjoin(Tweet, col(Tweet.id) == bindparam("tweet_id"))
    .outerjoin(User, col(User.id) == col(Tweet.user_id))
)
_TWEETS_BY_AUTHOR = (
    select(*_TWEET_COLUMNS)
    .where(
        col(Tweet.user_id) == bindparam("author_id"),
        col(Tweet.id) < bindparam("max_id"),
        col(Tweet.id) > bindparam("since_id"),
    )
    .order_by(col(Tweet.id).desc())
    .limit(bindparam("rows_max"))
    .offset(bindparam("rows_skipped"))
)


def tweet(reader: Reader, tweet_id: int) -> Answer[TweetView | None]:
    """The tweet with this id, None if there is none."""
    row = reader.rows(_TWEET_BY_ID, tweet_id=tweet_id)[0]
    found = None if row[1] is None else _tweet_view(row[1:7], user_view(row[7:]))
    return Answer(row[0], found)


def tweets_by_author(reader: Reader, author_id: int, window: Window, offset: int = 0) -> Answer[Page[TweetView] | None]:
    """A user's tweets, newest first, ``offset`` of the window's skipped; None if there is no such user."""
    with reader.transaction() as position:
        author = user(reader, author_id).value
        if author is None:
            return Answer(position, None)
        rows = reader.rows(
            _TWEETS_BY_AUTHOR,
            author_id=author_id,
            max_id=window.max_id,
            since_id=window.since_id,
            rows_max=window.limit + 1,
            rows_skipped=offset,
        )
    return Answer(position, page_of([(row[0], _tweet_view(row, author)) for row in rows], window.limit))


def _tweet_view(row: Row, author: UserView) -> TweetView:
    tweet_id, content, user_id, position, likes, retweets = row
    return TweetView(tweet_id, content, user_id, created_at(position), likes, retweets, author)
