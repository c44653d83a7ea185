"""Which of some tweets and users there are: what the write service asks before it takes a like for one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import select
from sqlmodel import col

from services.common.models import NOT_DELETED, Tweet, User
from services.common.shapes import Answer, Existing
from services.common.views.reader import Reader, Statement, id_parameters
from services.common.views.users import USER_COLUMNS, user_view

_AUTHOR_COLUMNS: Final[tuple[Any, ...]] = (col(Tweet.id), col(Tweet.user_id))


@cache
def _authors(count: int) -> Statement:
    return select(*_AUTHOR_COLUMNS).where(NOT_DELETED, col(Tweet.id).in_(id_parameters(count)))


@cache
def _users(count: int) -> Statement:
    return select(*USER_COLUMNS).where(col(User.id).in_(id_parameters(count)))


def existing(reader: Reader, tweet_ids: Sequence[int], user_ids: Sequence[int]) -> Answer[Existing]:
    """Those of these tweets and users that there are."""
    with reader.transaction() as position:
        authors = {row[0]: row[1] for row in reader.rows_of(_authors, tweet_ids)}
        users = {row[0]: user_view(row) for row in reader.rows_of(_users, user_ids)}
    return Answer(position, Existing(position, authors, users))
