"""Look-ups in Redis of what is not applied yet.

Only for ids above the applied position: there an id is a position, so the entry that made it is found at once. Below
it the answer of the rows is final, and Redis must not be asked: it may still hold what was deleted since (HAZARDS 9).
What Redis itself knows to be deleted is not shown either: a deletion removes ``tweet:{id}`` and leaves a mark that
stays as long as the entry of the creation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

import msgspec

from services.common import events, keys
from services.common.errors import LogUnavailable
from services.common.events import PROJECTION_VERSION, Event, Malformed, TweetCreated, UserCreated
from services.common.ids import BEGINNING, created_at, entry_id, position_from_entry_id
from services.common.log.entry import Entry, parse
from services.common.log.redis_errors import translated
from services.common.log.redis_pool import impatient_redis
from services.common.views import Answer, TweetView, UserView
from services.read.metrics import ReadMetrics

ASK_SECONDS: Final = 0.3
CONNECTIONS_MAX: Final = 16


class WrittenThrough(msgspec.Struct):
    """What the write service leaves under ``tweet:{id}``."""

    content: str
    user: UserView
    in_reply_to_id: int | None = None
    quote_of_id: int | None = None


class FreshLookups:
    """Asks once, within ASK_SECONDS. Raises LogUnavailable when Redis does not answer.

    ``applied_user`` looks a user up in the rows, whose counters are never older than those in Redis.
    """

    def __init__(
        self, redis_url: str, metrics: ReadMetrics, applied_user: Callable[[int], Awaitable[Answer[UserView | None]]]
    ) -> None:
        self._redis = impatient_redis(redis_url, ask_seconds=ASK_SECONDS, connections_max=CONNECTIONS_MAX)
        self._metrics = metrics
        self._applied_user = applied_user

    async def tweet(self, tweet_id: int) -> TweetView | None:
        """A tweet that was just written, None if there provably is none with this id."""
        async with self._asking():
            written = _decode(cast("bytes | None", await self._redis.get(keys.tweet(tweet_id))))
            if written is not None:
                self._metrics.count_fresh_lookup("written_through")
                author = (await self._applied_user(written.user.id)).value or written.user
                return _new_tweet(tweet_id, written, author)
            event = await self._event(tweet_id)
            if not isinstance(event, TweetCreated) or event.id is not None:
                return None
            if await self._is_deleted(tweet_id, event.user_id):
                return None
            found = await self._author(event.user_id)
            return None if found is None else _new_tweet(tweet_id, event, found)

    async def user(self, user_id: int) -> UserView | None:
        """A user who was just created, None if there provably is none with this id."""
        async with self._asking():
            return await self._user(user_id)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            with translated():
                async with asyncio.timeout(ASK_SECONDS):
                    yield
        except (LogUnavailable, TimeoutError) as error:
            self._metrics.count_fresh_lookup("unknown")
            raise LogUnavailable(f"no answer about an id above the applied position: {error!r}") from error

    async def _is_deleted(self, tweet_id: int, author_id: int) -> bool:
        """Whether the log holds her deletion of it; where it holds the creation, it holds all that came later."""
        return await self._redis.zscore(keys.DELETED, keys.deletion(tweet_id, author_id)) is not None

    async def _author(self, user_id: int) -> UserView | None:
        applied = await self._applied_user(user_id)
        if applied.value is None and user_id > applied.read_position:
            return await self._user(user_id)
        return applied.value

    async def _user(self, user_id: int) -> UserView | None:
        event = await self._event(user_id)
        if not isinstance(event, UserCreated) or event.id is not None:
            return None
        return UserView(user_id, event.username, created_at(user_id), followers_count=0, following_count=0)

    async def _event(self, position: int) -> Event | None:
        """The event at a position, None if there provably is none. Raises LogUnavailable if nobody can say.

        There is none above the head, nor between the entries that the log still holds; below those, it may have been
        trimmed away.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xrange(keys.STREAM, entry_id(position), entry_id(position))
            pipe.hget(keys.META, "head")
            pipe.xrange(keys.STREAM, count=1)
            records, head, oldest = await pipe.execute()
        if records:
            self._metrics.count_fresh_lookup("stream")
            return _event_of(parse(*records[0]))
        is_kept = oldest and position_from_entry_id(oldest[0][0].decode()) < position
        if position <= int(head or BEGINNING) and not is_kept:
            raise LogUnavailable(f"the log is trimmed past {position}, which is not applied here")
        self._metrics.count_fresh_lookup("absent")
        return None


def _decode(written_through: bytes | None) -> WrittenThrough | None:
    """What was written through; None for what this version cannot read, as the log itself has it too."""
    if written_through is None:
        return None
    try:
        return msgspec.json.decode(written_through, type=WrittenThrough)
    except msgspec.MsgspecError:
        return None


def _event_of(entry: Entry) -> Event | None:
    if entry.version > PROJECTION_VERSION:
        raise LogUnavailable(f"entry {entry_id(entry.position)} needs projection version {entry.version}")
    try:
        return events.decode(entry.name, entry.payload)
    except Malformed:
        return None


def _new_tweet(tweet_id: int, written: WrittenThrough | TweetCreated, author: UserView) -> TweetView:
    return TweetView(
        id=tweet_id,
        content=written.content,
        user_id=author.id,
        created_at=created_at(tweet_id),
        likes=0,
        retweets=0,
        user=author,
        reply_count=0,
        in_reply_to_id=written.in_reply_to_id,
        quote_of_id=written.quote_of_id,
    )
