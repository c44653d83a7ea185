"""Where the tweets of a home timeline appear, newest first: by either of two ways, which give the same.

*Looking back* goes through the newest tweets and retweets of everybody, and takes those of oneself and the followed:
where many are followed, a page is nearly always among the last few hundred or thousand.

*Merging* is for who follows few, or some who have long been silent. Everybody followed has two streams, tweets and
retweets, each in the order of an index. One seek a stream finds those that begin newest; merging these reads on only
where something is shown. A join reads every tweet of everybody.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, Subquery, bindparam, desc, exists, func, literal_column, or_, select, union_all
from sqlmodel import col

from services.common.models import NOT_DELETED, RETWEETED_BY_USER, Follow, Retweet, Tweet
from services.common.shapes import UserView, Window
from services.common.views.reader import ROWS_MAX, Reader, Statement

FOLLOWED_MAX: Final = 5_000
"""Of how many followed users a home timeline is made: those followed last. Two seeks each, 23 ms for so many."""

FOLLOWED_MIN: Final = 100
"""Who follows fewer has the streams merged at once: that takes no longer than to look back first."""

_LOOK_BACK: Final = 0.5
"""How many rows of everybody are looked at first, for each user followed: a twentieth of what merging costs."""

_LOOK_BACK_MAX: Final = 4
"""How many at most, and only where it is likely that a page is found there: then merging costs twice as much."""

_APPEARANCES_AN_ITEM: Final = 4  # looked for at once, so that repetitions seldom need a second search


class Appearance(NamedTuple):
    """A tweet or retweet of ``tweet_id`` by ``author_id``; ``position`` is its place in the timeline."""

    position: int
    tweet_id: int
    author_id: int


def appearances(reader: Reader, me: UserView, window: Window) -> Iterator[Appearance]:
    """The appearances within the window, newest first, repetitions included."""
    if FOLLOWED_MIN <= me.following_count <= FOLLOWED_MAX:
        max_id = yield from _looking_back(reader, me, window)
        window = window._replace(max_id=max_id)
    if window.max_id > window.since_id + 1:
        yield from _merging(reader, me.id, window)


def _looking_back(reader: Reader, me: UserView, window: Window) -> Generator[Appearance, None, int]:
    """Those among the newest rows, as long as these are likely to fill the page. Returns how far down they go."""
    limit, max_id, since_id = window
    count = limit * _APPEARANCES_AN_ITEM
    rows, looked_at, found = int(me.following_count * _LOOK_BACK), 0, 0
    while rows and max_id > since_id + 1:
        floors = reader.rows(_FLOORS, max_id=max_id, since_id=since_id, rows_skipped=rows - 1)
        floor = max(*floors[0], since_id + 1)
        some = reader.rows(_AMONG_NEWEST, user_id=me.id, max_id=max_id, floor=floor, rows_max=count)
        yield from map(Appearance._make, some)
        max_id = some[-1][0] if len(some) == count else floor
        looked_at, found = looked_at + rows, found + len(some)
        rows = _rows_more(found, looked_at, limit + 1, int(me.following_count * _LOOK_BACK_MAX))
    return max_id


def _rows_more(found: int, looked_at: int, needed: int, rows_max: int) -> int:
    """How many more rows are likely to hold the rest of what is needed; 0 where that would be too many."""
    likely = looked_at * needed // found if found else rows_max
    return max(likely - looked_at, 1) if likely < rows_max and looked_at < rows_max else 0


def _merging(reader: Reader, user_id: int, window: Window) -> Iterator[Appearance]:
    """The appearances within the window, from the streams of oneself and the followed."""
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


def authors() -> Subquery:
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
        some = authors()
        within = (*shown, by == some.c.author_id, position < bindparam("max_id"), position > bindparam("since_id"))
        found = func.coalesce(select(func.max(position)).where(*within).scalar_subquery(), literal_column("0"))
        return select(found.label("position"), some.c.author_id, literal_column(str(index)))

    streams = union_all(
        newest(col(Tweet.id), NOT_DELETED, by=col(Tweet.user_id), index=0),
        newest(col(Retweet.position), by=col(Retweet.retweeter_id), index=1),
    )
    return streams.order_by(desc("position")).limit(ROWS_MAX)


def _in_stream(position: Any, tweet_id: Any, *shown: Any, by: Any) -> Statement:
    """(position, tweet) of one author's appearances from ``position`` on down."""
    within = (*shown, by == bindparam("author_id"), position <= bindparam("position"), position > bindparam("since_id"))
    return select(position, tweet_id).where(*within).order_by(position.desc()).limit(ROWS_MAX)


def _floors() -> Statement:
    """The positions of the rows after ``rows_skipped`` in the window, of tweets and of retweets; 0 for none."""

    def after_some(position: Any, *shown: Any) -> Any:
        within = (*shown, position < bindparam("max_id"), position > bindparam("since_id"))
        newest = select(position).where(*within).order_by(position.desc()).limit(literal_column("1"))
        return func.coalesce(newest.offset(bindparam("rows_skipped")).scalar_subquery(), literal_column("0"))

    return select(after_some(col(Tweet.id)), after_some(col(Retweet.position), RETWEETED_BY_USER))


def _among_newest() -> Statement:
    """(position, tweet, author) of the appearances from below ``max_id`` down to ``floor``, newest first."""

    def shown(position: Any, tweet_id: Any, *are_shown: Any, by: Any) -> Select[Any]:
        is_followed = exists().where(col(Follow.follower_id) == bindparam("user_id"), col(Follow.followee_id) == by)
        return select(position.label("position"), tweet_id.label("tweet_id"), by.label("author_id")).where(
            *are_shown,
            position < bindparam("max_id"),
            position >= bindparam("floor"),
            or_(by == bindparam("user_id"), is_followed),
        )

    either = union_all(
        shown(col(Tweet.id), col(Tweet.id), NOT_DELETED, by=col(Tweet.user_id)),
        shown(col(Retweet.position), col(Retweet.tweet_id), RETWEETED_BY_USER, by=col(Retweet.retweeter_id)),
    )
    return either.order_by(desc("position")).limit(ROWS_MAX)


_FLOORS = _floors()
_AMONG_NEWEST = _among_newest()
_STREAMS = _streams()
_IN_STREAM = (
    _in_stream(col(Tweet.id), col(Tweet.id).label("tweet_id"), NOT_DELETED, by=col(Tweet.user_id)),
    _in_stream(col(Retweet.position), col(Retweet.tweet_id), by=col(Retweet.retweeter_id)),
)
