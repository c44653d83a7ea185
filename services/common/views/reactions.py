"""Who liked and who retweeted a tweet. Anonymous reactions count, and are nobody's to list."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select
from sqlmodel import col

from services.common.models import LIKED_BY_USER, RETWEETED_BY_USER, Like, Retweet
from services.common.shapes import Answer, Page, UserView, Window
from services.common.views.reader import Reader
from services.common.views.tweets import tweet
from services.common.views.users import read_users_page, users_page

_LIKERS = users_page(LIKED_BY_USER, listed=col(Like.liker_id), of=col(Like.tweet_id), at=col(Like.position))
_RETWEETERS = users_page(
    RETWEETED_BY_USER, listed=col(Retweet.retweeter_id), of=col(Retweet.tweet_id), at=col(Retweet.position)
)


def likers(reader: Reader, tweet_id: int, window: Window) -> Answer[Page[UserView] | None]:
    """Who liked this tweet, newest like first; None if there is no such tweet."""
    return _reaction_list(reader, _LIKERS, tweet_id, window)


def retweeters(reader: Reader, tweet_id: int, window: Window) -> Answer[Page[UserView] | None]:
    """Who retweeted this tweet, newest retweet first; None if there is no such tweet."""
    return _reaction_list(reader, _RETWEETERS, tweet_id, window)


def _reaction_list(
    reader: Reader, statement: Select[Any], tweet_id: int, window: Window
) -> Answer[Page[UserView] | None]:
    with reader.transaction() as position:
        if tweet(reader, tweet_id).value is None:
            return Answer(position, None)
        return Answer(position, read_users_page(reader, statement, tweet_id, window))
