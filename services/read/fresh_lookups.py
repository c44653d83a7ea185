"""Look-ups in Redis of what is not applied yet.

Only for ids above the applied position: there an id is a position, so the entry that made it is found at once. Below
it the answer of the rows is final, and Redis must not be asked: it still holds what was deleted since (HAZARDS 9).
What the log itself says is deleted is not shown either: a deletion leaves a mark that stays as long as the entry of the
creation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from services.common import events, keys
from services.common.errors import LogUnavailable
from services.common.events import PROJECTION_VERSION, Event, Malformed, TweetCreated, UserCreated
from services.common.ids import BEGINNING, created_at, entry_id, position_from_entry_id
from services.common.log.entry import Entry, parse_pairs
from services.common.log.pipelines import Command, Pipelines
from services.common.log.redis_errors import translated
from services.common.views import Answer, TweetView, UserView
from services.read.metrics import ReadMetrics

LOOK_UP_SECONDS: Final = 0.3


class FreshLookups:
    """Looks within LOOK_UP_SECONDS. Raises LogUnavailable when Redis does not answer.

    ``applied_user`` looks a user up in the rows.
    """

    def __init__(
        self,
        redis: Pipelines,
        metrics: ReadMetrics,
        applied_user: Callable[[int], Awaitable[Answer[UserView | None]]],
    ) -> None:
        self._redis = redis
        self._metrics = metrics
        self._applied_user = applied_user

    async def tweet(self, tweet_id: int) -> TweetView | None:
        """A tweet that was just written, None if there provably is none with this id."""
        async with self._asking():
            records, deletions_since = await self._redis.ask(
                _record_at(tweet_id), ("ZCOUNT", keys.DELETED, f"({tweet_id}", "+inf")
            )
            event = await self._event(tweet_id, records)
            if not isinstance(event, TweetCreated) or event.id is not None:
                return None
            if deletions_since and await self._is_deleted(tweet_id, event.user_id):
                return None
            author = await self._author(event.user_id)
            return None if author is None else _new_tweet(tweet_id, event, author)

    async def user(self, user_id: int) -> UserView | None:
        """A user who was just created, None if there provably is none with this id."""
        async with self._asking():
            return await self._user(user_id)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            with translated():
                async with asyncio.timeout(LOOK_UP_SECONDS):
                    yield
        except (LogUnavailable, TimeoutError) as error:
            self._metrics.count_fresh_lookup("unknown")
            raise LogUnavailable(f"no answer about an id above the applied position: {error!r}") from error

    async def _is_deleted(self, tweet_id: int, author_id: int) -> bool:
        """Whether the log holds her deletion of it; where it holds the creation, it holds all that came later."""
        position, records = await self._redis.ask(
            ("ZSCORE", keys.DELETED, keys.deletion(tweet_id, author_id)), _record_at(tweet_id)
        )
        if position is None and not records:
            raise LogUnavailable(f"the log was trimmed past {tweet_id} meanwhile, with what it said of deletions")
        return position is not None

    async def _author(self, user_id: int) -> UserView | None:
        applied = await self._applied_user(user_id)
        if applied.value is None and user_id > applied.read_position:
            return await self._user(user_id)
        return applied.value

    async def _user(self, user_id: int) -> UserView | None:
        event = await self._event(user_id, *await self._redis.ask(_record_at(user_id)))
        if not isinstance(event, UserCreated) or event.id is not None:
            return None
        return UserView(user_id, event.username, created_at(user_id), followers_count=0, following_count=0)

    async def _event(self, position: int, records: list[Any]) -> Event | None:
        """The event at a position, where Redis has found these records; None if there provably is none.

        There is none above the head, nor between the entries that the log still holds; below those, it may have been
        trimmed away. Raises LogUnavailable if nobody can say.
        """
        if records:
            self._metrics.count_fresh_lookup("stream")
            return _event_of(parse_pairs(*records[0]))
        head, oldest = await self._redis.ask(("HGET", keys.META, "head"), ("XRANGE", keys.STREAM, "-", "+", "COUNT", 1))
        is_kept = oldest and position_from_entry_id(oldest[0][0].decode()) < position
        if position <= int(head or BEGINNING) and not is_kept:
            raise LogUnavailable(f"the log is trimmed past {position}, which is not applied here")
        self._metrics.count_fresh_lookup("absent")
        return None


def _record_at(position: int) -> Command:
    return "XRANGE", keys.STREAM, entry_id(position), entry_id(position)


def _event_of(entry: Entry) -> Event | None:
    if entry.version > PROJECTION_VERSION:
        raise LogUnavailable(f"entry {entry_id(entry.position)} needs projection version {entry.version}")
    try:
        return events.decode(entry.name, entry.payload)
    except Malformed:
        return None


def _new_tweet(tweet_id: int, created: TweetCreated, author: UserView) -> TweetView:
    return TweetView(
        id=tweet_id,
        content=created.content,
        user_id=author.id,
        created_at=created_at(tweet_id),
        likes=0,
        retweets=0,
        user=author,
        reply_count=0,
        in_reply_to_id=created.in_reply_to_id,
        quote_of_id=created.quote_of_id,
    )
