"""The reads that most requests are, answered without the framework; routes.py declares them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from services.common.errors import OperationalError
from services.common.ids import BEGINNING, POSITION_MAX
from services.common.tasks import Tasks
from services.common.views import Window
from services.common.web.hot import (
    AnswerNow,
    Begin,
    Body,
    Finish,
    HotRoute,
    HotRoutes,
    RequestHeaders,
    WholeAnswer,
    plain_number,
)
from services.read.encoded import Encoded
from services.read.lookups import Lookups
from services.read.paging import HOME_LIMIT_DEFAULT, LIMIT_DEFAULT, LIMIT_MAX, OFFSET_MAX, window_of

_BOUNDS: Final = {
    b"limit": (1, LIMIT_MAX),
    b"max_id": (1, POSITION_MAX),
    b"since_id": (0, POSITION_MAX),
    b"offset": (0, OFFSET_MAX),
}
_NO_NUMBER: Final = (1, 0)
_MIN_POSITION: Final = b"x-min-position"

_Answer = tuple[WholeAnswer, int] | None


class HotReads:
    """Answers from ``lookups``, once the service has started."""

    def __init__(self) -> None:
        self.lookups: Lookups | None = None
        self.routes: HotRoutes[AnswerNow] = HotRoutes(
            "GET",
            HotRoute("/tweets/{tweet_id}", self._tweet),
            HotRoute("/users/{user_id}/tweets", self._tweets),
            HotRoute("/users/{user_id}/home", self._home),
        )
        self.waits: HotRoutes[Begin] = HotRoutes("GET", HotRoute("/tweets/{tweet_id}", self._begin_tweet))
        self._tasks = Tasks()

    def _tweet(self, query: bytes, headers: RequestHeaders, tweet_id: int) -> _Answer:
        lookups = self.lookups
        if query or lookups is None:
            return None
        return _answered(lookups, headers, lambda: lookups.tweet_now(tweet_id))

    def _begin_tweet(self, headers: RequestHeaders, _: Body, tweet_id: int, finish: Finish) -> bool:
        """For one that is too new for the rows, or at a position that is not applied yet."""
        lookups, min_position = self.lookups, plain_number(headers.get(_MIN_POSITION, b"0"), BEGINNING, POSITION_MAX)
        if lookups is None or min_position is None:
            return False

        def tell(outcome: tuple[Encoded, int] | Exception) -> None:
            if isinstance(outcome, Exception):
                finish(outcome, BEGINNING)
            else:
                finish(outcome[0].whole(headers), outcome[1])

        self._tasks.begin(_waited_for(lookups, tweet_id, min_position), tell)
        return True

    def _tweets(self, query: bytes, headers: RequestHeaders, user_id: int) -> _Answer:
        lookups, page = self.lookups, _page(query, LIMIT_DEFAULT)
        if page is None or lookups is None:
            return None
        return _answered(lookups, headers, lambda: lookups.tweets_by_author_now(user_id, *page))

    def _home(self, query: bytes, headers: RequestHeaders, user_id: int) -> _Answer:
        lookups, page = self.lookups, _page(query, HOME_LIMIT_DEFAULT)
        if page is None or lookups is None:
            return None
        window, _ = page  # an offset means nothing here, to the framework either
        return _answered(lookups, headers, lambda: lookups.home_now(user_id, window))


async def _waited_for(lookups: Lookups, tweet_id: int, min_position: int) -> tuple[Encoded, int]:
    """A tweet, and the position it is told with, as the framework's route does it."""
    await lookups.reach(min_position)
    position = lookups.applied_position
    encoded = await lookups.tweet(tweet_id)
    await lookups.settle(encoded.read_position)
    return encoded, max(position, encoded.read_position)


def _answered(lookups: Lookups, headers: RequestHeaders, look: Callable[[], Encoded | None]) -> _Answer:
    """What a look finds at a position that was applied before; None where the framework has more to do, or to say."""
    position = _position(lookups, headers)
    if position is None:
        return None
    try:
        encoded = look()
    except OperationalError:
        return None  # the framework meets it again
    if encoded is None or encoded.read_position > position:
        return None  # what is not yet settled, the framework waits for
    return encoded.whole(headers), position


def _position(lookups: Lookups, headers: RequestHeaders) -> int | None:
    """The applied position; None where the request asks for one that has to be waited for, or is none."""
    position = lookups.applied_position
    min_position = headers.get(_MIN_POSITION)
    is_reached = min_position is None or plain_number(min_position, 0, position) is not None
    return position if is_reached else None


@lru_cache(1024)
def _page(query: bytes, limit_default: int) -> tuple[Window, int] | None:
    """The window and the offset in a query string; None for one that is not the plainest there is."""
    numbers: dict[str, int] = {}
    for pair in query.split(b"&") if query else ():
        name, _, digits = pair.partition(b"=")
        number = plain_number(digits, *_BOUNDS.get(name, _NO_NUMBER))
        if number is None or name.decode() in numbers:
            return None
        numbers[name.decode()] = number
    offset, limit = numbers.pop("offset", 0), numbers.pop("limit", limit_default)
    return window_of(limit, **numbers), offset
