"""Tweets: one by id, an author's, and the replies to one. A deleted tweet is in no view."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import bindparam, desc, literal_column, select, union_all
from sqlmodel import col

from services.common.ids import BEGINNING, POSITION_MAX, created_at
from services.common.models import NOT_DELETED, Applied, Tweet, User
from services.common.shapes import Answer, Page, TweetView, UserView, Window
from services.common.views.reader import ROWS_MAX, Reader, Row, Statement, id_parameters
from services.common.views.users import USER_COLUMNS, user_view

_TWEET_COLUMNS: Final[tuple[Any, ...]] = (
    col(Tweet.id),
    col(Tweet.content),
    col(Tweet.position).label("tweet_position"),
    col(Tweet.likes),
    col(Tweet.retweets),
    col(Tweet.reply_count),
    col(Tweet.in_reply_to_id),
    col(Tweet.quote_of_id),
)
_COLUMNS_OF_TWEET: Final = len(_TWEET_COLUMNS)

_TWEET_BY_ID = (
    select(col(Applied.position), *_TWEET_COLUMNS, *USER_COLUMNS)
    .select_from(Applied)
    .outerjoin(Tweet, (col(Tweet.id) == bindparam("tweet_id")) & NOT_DELETED)
    .outerjoin(User, col(User.id) == col(Tweet.user_id))
)
_OF_AUTHOR = (
    NOT_DELETED,
    col(Tweet.user_id) == bindparam("author_id"),
    col(Tweet.id) < bindparam("max_id"),
    col(Tweet.id) > bindparam("since_id"),
)
# The author once, above all tweets, with the position; then her tweets. One statement, so it needs no transaction.
_AUTHOR_AND_TWEETS = (
    union_all(
        select(
            literal_column(str(POSITION_MAX + 1)).label("at"),
            col(User.username),
            col(User.position),
            col(User.followers_count),
            col(User.following_count),
            col(User.id),
            col(Applied.position),
            literal_column("NULL"),
        )
        .select_from(Applied)
        .outerjoin(User, col(User.id) == bindparam("author_id"))
        .where(col(Applied.id) == 1),
        select(col(Tweet.id).label("at"), *_TWEET_COLUMNS[1:]).where(*_OF_AUTHOR),
    )
    .order_by(desc("at"))
    .limit(ROWS_MAX)
)
_NEWEST_AFTER_SKIPPED = (
    select(col(Tweet.id))
    .where(*_OF_AUTHOR)
    .order_by(col(Tweet.id).desc())
    .limit(literal_column("1"))
    .offset(bindparam("rows_skipped"))
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
    if not offset:
        return _tweets_by_author(reader, author_id, window)
    _, max_id, since_id = window
    with reader.transaction():
        newest = reader.rows(
            _NEWEST_AFTER_SKIPPED, author_id=author_id, max_id=max_id, since_id=since_id, rows_skipped=offset
        )
        max_id = newest[0][0] + 1 if newest else BEGINNING
        return _tweets_by_author(reader, author_id, window._replace(max_id=max_id))


def _tweets_by_author(reader: Reader, author_id: int, window: Window) -> Answer[Page[TweetView] | None]:
    limit, max_id, since_id = window
    # Two rows more than the page: the author's, and that of a tweet which says that there are more.
    (_, *of_author, found_id, position, _), *rows = reader.rows(
        _AUTHOR_AND_TWEETS, author_id=author_id, max_id=max_id, since_id=since_id, rows_max=limit + 2
    )
    if found_id is None:
        return Answer(position, None)
    author = user_view((found_id, *of_author))
    return Answer(position, Page.of([(row[0], _tweet_view(row, author)) for row in rows], limit))


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
    tweet_id, content, position, likes, retweets, reply_count, in_reply_to_id, quote_of_id = row
    # By place: by name it would take twice as long, and this is done for every tweet of every list.
    return TweetView(
        tweet_id,
        content,
        author.id,
        created_at(position),
        likes,
        retweets,
        author,
        reply_count,
        in_reply_to_id,
        quote_of_id,
    )
