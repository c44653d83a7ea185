"""Users: one by id or name, and who follows whom."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, bindparam, select
from sqlmodel import col

from services.common.ids import created_at
from services.common.models import Applied, Follow, User
from services.common.shapes import Answer, Page, ProfileView, UserView, Window
from services.common.views.reader import ROWS_MAX, Reader, Row

USER_COLUMNS: Final[tuple[Any, ...]] = (
    col(User.id),
    col(User.username),
    col(User.position).label("user_position"),
    col(User.followers_count),
    col(User.following_count),
)

_PROFILE_COLUMNS: Final[tuple[Any, ...]] = (col(User.display_name), col(User.bio))

# A look-up reads the applied position and the row in one statement, so it needs no transaction around it.
_USER_BY_ID = (
    select(col(Applied.position), *USER_COLUMNS)
    .select_from(Applied)
    .outerjoin(User, col(User.id) == bindparam("user_id"))
)
_PROFILE_BY_ID = (
    select(col(Applied.position), *USER_COLUMNS, *_PROFILE_COLUMNS)
    .select_from(Applied)
    .outerjoin(User, col(User.id) == bindparam("user_id"))
)
_PROFILE_BY_NAME = (
    select(col(Applied.position), *USER_COLUMNS, *_PROFILE_COLUMNS)
    .select_from(Applied)
    .outerjoin(User, col(User.username_lower) == bindparam("username_lower"))
)


def users_page(*shown: Any, listed: Any, of: Any, at: Any) -> Select[Any]:
    """(cursor, user) of the rows of a table of pairs that belong to ``subject_id``, newest first."""
    return (
        select(at, *USER_COLUMNS)
        .join(User, col(User.id) == listed)
        .where(*shown, of == bindparam("subject_id"), at < bindparam("max_id"), at > bindparam("since_id"))
        .order_by(at.desc())
        .limit(ROWS_MAX)
    )


_FOLLOWERS = users_page(listed=col(Follow.follower_id), of=col(Follow.followee_id), at=col(Follow.position))
_FOLLOWING = users_page(listed=col(Follow.followee_id), of=col(Follow.follower_id), at=col(Follow.position))


def user_view(row: Row) -> UserView:
    """Make a user of the values of ``USER_COLUMNS``."""
    user_id, username, position, followers_count, following_count = row
    return UserView(user_id, username, created_at(position), followers_count, following_count)


def user(reader: Reader, user_id: int) -> Answer[UserView | None]:
    """The user with this id, None if there is none."""
    return _one(reader.rows(_USER_BY_ID, user_id=user_id)[0])


def profile(reader: Reader, user_id: int) -> Answer[ProfileView | None]:
    """The profile of the user with this id, None if there is none."""
    return _profile(reader.rows(_PROFILE_BY_ID, user_id=user_id)[0])


def profile_by_username(reader: Reader, username: str) -> Answer[ProfileView | None]:
    """The profile of the user with this name in any case, None if there is none."""
    return _profile(reader.rows(_PROFILE_BY_NAME, username_lower=username.lower())[0])


def followers(reader: Reader, user_id: int, window: Window) -> Answer[Page[UserView] | None]:
    """Who follows this user, newest follow first; None if there is no such user."""
    return _follow_list(reader, _FOLLOWERS, user_id, window)


def following(reader: Reader, user_id: int, window: Window) -> Answer[Page[UserView] | None]:
    """Whom this user follows, newest follow first; None if there is no such user."""
    return _follow_list(reader, _FOLLOWING, user_id, window)


def _one(row: Row) -> Answer[UserView | None]:
    return Answer(row[0], None if row[1] is None else user_view(row[1:]))


def _profile(row: Row) -> Answer[ProfileView | None]:
    if row[1] is None:
        return Answer(row[0], None)
    name, bio = row[-2:]
    return Answer(row[0], profile_of(user_view(row[1:-2]), name, bio))


def profile_of(view: UserView, name: str = "", bio: str = "") -> ProfileView:
    """A user's profile: what everybody sees of her everywhere, and what she says of herself."""
    return ProfileView(
        view.id, view.username, view.created_at, view.followers_count, view.following_count, name=name, bio=bio
    )


def _follow_list(reader: Reader, statement: Select[Any], user_id: int, window: Window) -> Answer[Page[UserView] | None]:
    with reader.transaction() as position:
        if user(reader, user_id).value is None:
            return Answer(position, None)
        return Answer(position, read_users_page(reader, statement, user_id, window))


def read_users_page(reader: Reader, statement: Select[Any], subject_id: int, window: Window) -> Page[UserView]:
    """The page that a statement made by ``users_page`` gives."""
    rows = reader.rows(statement, subject_id=subject_id, **window.parameters())
    return Page.of([(row[0], user_view(row[1:])) for row in rows], window.limit)
