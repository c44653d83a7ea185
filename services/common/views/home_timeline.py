"""The home timeline: tweets and retweets of oneself and of those one follows, each tweet once.

A tweet *appears* with its author at its id, and with each retweeter at the retweet's position. The timeline is the
tweets in the order of their newest appearance with oneself or a followed user; that appearance is the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sqlalchemy import bindparam, exists, or_, select
from sqlmodel import col

from services.common.models import Follow, Retweet
from services.common.shapes import Answer, HomeTweetView, Page, TweetView, UserView, Window
from services.common.views.appearances import FOLLOWED_MAX, Appearance, appearances, authors
from services.common.views.reader import ROWS_MAX, Reader, Statement
from services.common.views.tweets import tweets
from services.common.views.users import user

APPEARANCES_MAX: Final = 2_000
"""How many appearances a page looks at. One that meets more, nearly all of them repetitions, is cut short."""


@dataclass(slots=True)
class HomePage(Page[HomeTweetView]):
    """A page of a home timeline; ``authors`` are those whose appearances it is made of, None where nobody asked."""

    authors: list[int] | None = None


def home(reader: Reader, user_id: int, window: Window, *, with_authors: bool = False) -> Answer[HomePage | None]:
    """A user's home timeline; None if there is no such user. A page may be short and still have older ones."""
    with reader.transaction() as position:
        me = user(reader, user_id).value
        if me is None:
            return Answer(position, None)
        page = _page(reader, me, window)
        if with_authors:
            page.authors = [row[0] for row in reader.rows(_AUTHORS, user_id=user_id)]
    return Answer(position, page)


def _page(reader: Reader, me: UserView, window: Window) -> HomePage:
    rows: list[tuple[int, HomeTweetView]] = []
    newest_first = _Bounded(appearances(reader, me, window), window)
    while some := newest_first.unseen(window.limit + 1 - len(rows)):
        found = tweets(reader, [appearance.tweet_id for appearance in some])
        for appearance in some:
            shown = found.get(appearance.tweet_id)
            if shown is not None and not _appears_above(reader, me, shown, window):
                rows.append((appearance.position, _item(reader, shown, appearance)))
    page = HomePage.of(rows, window.limit)
    if newest_first.looked_at == APPEARANCES_MAX and not page.has_more:
        page.oldest, page.has_more = newest_first.oldest, True
    return page


class _Bounded:
    """The first APPEARANCES_MAX appearances, of which each tweet is taken once."""

    def __init__(self, newest_first: Iterator[Appearance], window: Window) -> None:
        self.looked_at, self.oldest = 0, window.max_id
        self._newest_first = islice(newest_first, APPEARANCES_MAX)
        self._seen: set[int] = set()

    def unseen(self, count: int) -> list[Appearance]:
        """The next so many of tweets that have not been taken; fewer at the end."""
        found: list[Appearance] = []
        while len(found) < count and (appearance := next(self._newest_first, None)) is not None:
            self.looked_at, self.oldest = self.looked_at + 1, appearance.position
            if appearance.tweet_id not in self._seen:
                self._seen.add(appearance.tweet_id)
                found.append(appearance)
        return found


def _item(reader: Reader, found: TweetView, appearance: Appearance) -> HomeTweetView:
    is_retweet = appearance.position != found.id
    retweeted_by = user(reader, appearance.author_id).value if is_retweet else None
    return HomeTweetView(
        id=found.id,
        content=found.content,
        user_id=found.user_id,
        created_at=found.created_at,
        likes=found.likes,
        retweets=found.retweets,
        user=found.user,
        reply_count=found.reply_count,
        in_reply_to_id=found.in_reply_to_id,
        quote_of_id=found.quote_of_id,
        retweeted_by=retweeted_by,
    )


def _appears_above(reader: Reader, me: UserView, found: TweetView, window: Window) -> bool:
    """Whether an earlier page shows the tweet: then it has a retweet at or above the window."""
    if window.is_first_page or found.retweets == 0:
        return False
    is_by_retweets = found.retweets <= me.following_count <= FOLLOWED_MAX
    statement = _RETWEETED_ABOVE_BY_RETWEETS if is_by_retweets else _RETWEETED_ABOVE_BY_AUTHORS
    return bool(reader.rows(statement, user_id=me.id, tweet_id=found.id, max_id=window.max_id, rows_max=1))


def _retweeted_above_by_retweets() -> Statement:
    """Whether oneself or a followed user retweeted the tweet from ``max_id`` on up: walks its retweets."""
    is_followed = exists().where(
        col(Follow.follower_id) == bindparam("user_id"), col(Follow.followee_id) == col(Retweet.retweeter_id)
    )
    return (
        select(col(Retweet.position))
        .where(
            col(Retweet.tweet_id) == bindparam("tweet_id"),
            col(Retweet.position) >= bindparam("max_id"),
            or_(col(Retweet.retweeter_id) == bindparam("user_id"), is_followed),
        )
        .limit(ROWS_MAX)
    )


def _retweeted_above_by_authors() -> Statement:
    """The same, but walks oneself and the followed."""
    some = authors()
    retweeted = exists().where(
        col(Retweet.tweet_id) == bindparam("tweet_id"),
        col(Retweet.retweeter_id) == some.c.author_id,
        col(Retweet.position) >= bindparam("max_id"),
    )
    return select(some.c.author_id).where(retweeted).limit(ROWS_MAX)


_AUTHORS = select(authors().c.author_id)
_RETWEETED_ABOVE_BY_RETWEETS = _retweeted_above_by_retweets()
_RETWEETED_ABOVE_BY_AUTHORS = _retweeted_above_by_authors()
