"""The home timeline: tweets and retweets of oneself and of those one follows, each tweet once.

A tweet *appears* with its author at its id, and with each retweeter at the retweet's position. The timeline is the
tweets in the order of their newest appearance with oneself or a followed user; that appearance is the cursor.

Everybody followed has two streams, tweets and retweets, each in the order of an index. One seek a stream finds those
that begin newest; merging these reads on only where something is shown. A join reads every tweet of everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, Subquery, bindparam, desc, exists, func, literal_column, or_, select, union_all
from sqlmodel import col

from services.common.models import NOT_DELETED, Follow, Retweet, Tweet
from services.common.shapes import Answer, HomeTweetView, Page, TweetView, UserView, Window, page_of
from services.common.views.reader import ROWS_MAX, Reader, Statement
from services.common.views.tweets import tweet
from services.common.views.users import user

APPEARANCES_MAX: Final = 2_000
"""How many appearances a page looks at. One that meets more, nearly all of them repetitions, is cut short."""

FOLLOWED_MAX: Final = 5_000
"""Of how many followed users a home timeline is made: those followed last. Two seeks each, 5 ms for so many."""

_APPEARANCES_AN_ITEM: Final = 4  # looked for at once, so that repetitions seldom need a second search


class Appearance(NamedTuple):
    """A tweet or retweet of ``tweet_id`` by ``author_id``; ``position`` is its place in the timeline."""

    position: int
    tweet_id: int
    author_id: int


def home(reader: Reader, user_id: int, window: Window) -> Answer[Page[HomeTweetView] | None]:
    """A user's home timeline; None if there is no such user. A page may be short and still have older ones."""
    with reader.transaction() as position:
        me = user(reader, user_id).value
        page = None if me is None else _page(reader, me, window)
    return Answer(position, page)


def _page(reader: Reader, me: UserView, window: Window) -> Page[HomeTweetView]:
    rows: list[tuple[int, HomeTweetView]] = []
    seen: set[int] = set()
    looked_at, oldest = 0, window.max_id
    for appearance in islice(_appearances(reader, me.id, window), APPEARANCES_MAX):
        looked_at, oldest = looked_at + 1, appearance.position
        if appearance.tweet_id in seen:
            continue
        seen.add(appearance.tweet_id)
        found = tweet(reader, appearance.tweet_id).value
        if found is None or _appears_above(reader, me, found, window):
            continue
        rows.append((appearance.position, _item(reader, found, appearance)))
        if len(rows) > window.limit:
            break
    page = page_of(rows, window.limit)
    if looked_at == APPEARANCES_MAX and not page.has_more:
        page.oldest, page.has_more = oldest, True
    return page


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


def _appearances(reader: Reader, user_id: int, window: Window) -> Iterator[Appearance]:
    """The appearances within the window, newest first, repetitions included."""
    max_id, count = window.max_id, window.limit * _APPEARANCES_AN_ITEM
    is_more = True
    while is_more:
        # The newest ``count`` appearances can only be in the ``count`` streams that begin newest.
        streams = reader.rows(_STREAMS, user_id=user_id, max_id=max_id, since_id=window.since_id, rows_max=count)
        heap = [(-position, author_id, statement) for position, author_id, statement in streams if position]
        found = 0
        for appearance in islice(_merged(reader, heap, window.since_id), count):
            yield appearance
            found, max_id = found + 1, appearance.position
        is_more = found == count


def _merged(reader: Reader, heap: list[tuple[int, int, int]], since_id: int) -> Iterator[Appearance]:
    """The appearances in streams of (-newest position, author, index of the statement that reads on)."""
    heapify(heap)
    while heap:
        negative, author_id, statement = heap[0]
        (position, tweet_id), *older = reader.rows(
            _IN_STREAM[statement], author_id=author_id, position=-negative, since_id=since_id, rows_max=2
        )
        yield Appearance(position, tweet_id, author_id)
        if older:
            heapreplace(heap, (-older[0][0], author_id, statement))
        else:
            heappop(heap)


def _authors() -> Subquery:
    """Oneself and the followed, FOLLOWED_MAX of them."""
    followed = (
        select(col(Follow.followee_id).label("author_id"))
        .where(col(Follow.follower_id) == bindparam("user_id"))
        .order_by(col(Follow.position).desc())
        .limit(literal_column(str(FOLLOWED_MAX)))
        .subquery("followed")
    )
    oneself: Select[Any] = select(bindparam("user_id").label("author_id"))
    return union_all(select(followed.c.author_id), oneself).subquery("authors")


def _streams() -> Statement:
    """(newest position in the window or 0, author, index in _IN_STREAM): the streams that begin newest."""

    def newest(position: Any, *shown: Any, by: Any, index: int) -> Any:
        authors = _authors()
        within = (*shown, by == authors.c.author_id, position < bindparam("max_id"), position > bindparam("since_id"))
        found = func.coalesce(select(func.max(position)).where(*within).scalar_subquery(), literal_column("0"))
        return select(found.label("position"), authors.c.author_id, literal_column(str(index)))

    streams = union_all(
        newest(col(Tweet.id), NOT_DELETED, by=col(Tweet.user_id), index=0),
        newest(col(Retweet.position), by=col(Retweet.retweeter_id), index=1),
    )
    return streams.order_by(desc("position")).limit(ROWS_MAX)


def _in_stream(position: Any, tweet_id: Any, *shown: Any, by: Any) -> Statement:
    """(position, tweet) of one author's appearances from ``position`` on down."""
    within = (*shown, by == bindparam("author_id"), position <= bindparam("position"), position > bindparam("since_id"))
    return select(position, tweet_id).where(*within).order_by(position.desc()).limit(ROWS_MAX)


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
    authors = _authors()
    retweeted = exists().where(
        col(Retweet.tweet_id) == bindparam("tweet_id"),
        col(Retweet.retweeter_id) == authors.c.author_id,
        col(Retweet.position) >= bindparam("max_id"),
    )
    return select(authors.c.author_id).where(retweeted).limit(ROWS_MAX)


_STREAMS = _streams()
_IN_STREAM = (
    _in_stream(col(Tweet.id), col(Tweet.id).label("tweet_id"), NOT_DELETED, by=col(Tweet.user_id)),
    _in_stream(col(Retweet.position), col(Retweet.tweet_id), by=col(Retweet.retweeter_id)),
)
_RETWEETED_ABOVE_BY_RETWEETS = _retweeted_above_by_retweets()
_RETWEETED_ABOVE_BY_AUTHORS = _retweeted_above_by_authors()
