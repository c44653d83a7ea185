"""Which of some tweets and users there are: what the write service asks before it takes a like for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BindParameter, bindparam, select
from sqlmodel import col

from services.common.models import NOT_DELETED, Tweet, User
from services.common.shapes import Answer, Existing
from services.common.views.reader import Reader, Row, Statement
from services.common.views.users import USER_COLUMNS, user_view

_AUTHOR_COLUMNS: Final[tuple[Any, ...]] = (col(Tweet.id), col(Tweet.user_id))


@cache
def _authors(count: int) -> Statement:
    return select(*_AUTHOR_COLUMNS).where(NOT_DELETED, col(Tweet.id).in_(_ids(count)))


@cache
def _users(count: int) -> Statement:
    return select(*USER_COLUMNS).where(col(User.id).in_(_ids(count)))


def _ids(count: int) -> list[BindParameter[int]]:
    return [bindparam(f"id_{number}") for number in range(count)]


def existing(reader: Reader, tweet_ids: Sequence[int], user_ids: Sequence[int]) -> Answer[Existing]:
    """Those of these tweets and users that there are."""
    with reader.transaction() as position:
        authors = {row[0]: row[1] for row in _rows(reader, _authors, tweet_ids)}
        users = {row[0]: user_view(row) for row in _rows(reader, _users, user_ids)}
    return Answer(position, Existing(position, authors, users))


def _rows(reader: Reader, statement_of: Callable[[int], Statement], ids: Sequence[int]) -> list[Row]:
    if not ids:
        return []
    size = 1 << (len(ids) - 1).bit_length()  # a few sizes, so that each statement is made and prepared once
    padded = {f"id_{number}": ids[min(number, len(ids) - 1)] for number in range(size)}
    return reader.rows(statement_of(size), **padded)
