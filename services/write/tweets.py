"""Tweets: published and deleted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache

from services.common.errors import ClientError
from services.common.events import TweetCreated, TweetDeleted
from services.common.ids import time_of, unix_ms_of
from services.common.log.append import AppendItem, Result
from services.common.log.idempotency import IdempotencyClaim
from services.common.shapes import UserView
from services.write.actors import Actor
from services.write.appending import Appending
from services.write.authors import Authors
from services.write.commands import CreateTweet
from services.write.errors import AnswerUnavailable
from services.write.existence import Existence, Kind, Verdict
from services.write.idempotency import Claims, IdempotencyKey
from services.write.outcome import Finish, Written, attempt, done


@dataclass(slots=True)
class CreatedTweetView:
    """A new tweet; as a TweetView, but ``user`` is null where the author could not be looked up in time."""

    id: int
    content: str
    user_id: int
    created_at: str
    likes: int
    retweets: int
    user: UserView | None
    reply_count: int
    in_reply_to_id: int | None
    quote_of_id: int | None


class Tweets:
    """One method for each command about a tweet of one's own. Each raises ClientError or OperationalError.

    Under a ``key`` a tweet is published once, and answered alike each time.
    """

    def __init__(self, appending: Appending, *, existence: Existence, authors: Authors, claims: Claims) -> None:
        self._appending = appending
        self._existence = existence
        self._authors = authors
        self._claims = claims

    async def create(
        self, command: CreateTweet, author: Actor, key: IdempotencyKey | None = None
    ) -> Written[CreatedTweetView]:
        """Publish a tweet. Without the author's view it is appended all the same: durable comes before pretty.

        What was published before is answered as it was then, from the command, which is the same; it may have been
        deleted since. Raises AnswerUnavailable if the author's view is all that is missing.
        """
        event = TweetCreated(
            user_id=author.named(),
            content=command.content,
            in_reply_to_id=command.in_reply_to_id,
            quote_of_id=command.quote_of_id,
        )
        return await self._publish(event, author, key)

    async def _publish(
        self, event: TweetCreated, author: Actor, key: IdempotencyKey | None
    ) -> Written[CreatedTweetView]:
        deadline = self._appending.new_deadline()
        view, refusal = await self._view_and_refusal(author, _referred_to(event))
        item = _tweet_item(event, author, self._claims.claim(key, event))
        return self._created(event, view, await self._appending.append_unless(refusal, item, deadline))

    def begin(self, event: TweetCreated, author: Actor, finish: Finish[CreatedTweetView]) -> None:
        """Begin to publish a tweet; without a task if only the log has to be waited for."""
        view = self._authors.known(event.user_id)
        if view is None or not all(self._existence.knows(Kind.TWEET, tweet_id) for tweet_id in _referred_to(event)):
            self._appending.begin_task(self._publish(event, author, None), finish)
            return

        def settle(result: Result | Exception) -> None:
            finish(attempt(lambda good: self._created(event, view, good), result))

        self._appending.submit(_tweet_item(event, author, None), self._appending.new_deadline(), settle)

    async def delete(self, tweet_id: int, actor: Actor) -> Written[None]:
        """Delete a tweet, as its author. What is not there any more is deleted already, or never was: a success.

        Raises the 403 for somebody who provably is not the author.
        """
        deadline = self._appending.new_deadline()
        user_id = actor.named()
        finding = await self._existence.look(Kind.TWEET, tweet_id)
        if finding.verdict is Verdict.ABSENT and actor.holder is None:  # only the append knows if a token is revoked
            return Written(finding.position, None)
        if finding.author_id not in {None, user_id}:
            raise ClientError(403, "not_the_author", "Only its author can delete a tweet")
        event = TweetDeleted(tweet_id=tweet_id, user_id=user_id)
        item = AppendItem(event, target=max(tweet_id, user_id), holder=actor.holder, actor_id=user_id)
        result = await self._appending.append(item, deadline)
        self._existence.forget(Kind.TWEET, tweet_id)
        position, _ = done(result, Kind.TWEET if tweet_id >= user_id else Kind.USER)
        return Written(position, None)

    def _created(self, event: TweetCreated, view: UserView | None, result: Result) -> Written[CreatedTweetView]:
        """What the answer to a new tweet shows. Raises for a refusal, and as create does."""
        position, is_repeated = done(result, Kind.USER if _newest(event) == event.user_id else Kind.TWEET)
        if not is_repeated:
            self._existence.remember(Kind.TWEET, position)
        elif view is None:
            raise AnswerUnavailable("nobody can say now how the author of a repeated tweet looks")
        shown = CreatedTweetView(
            id=position,
            content=event.content,
            user_id=event.user_id,
            created_at=_time_of(unix_ms_of(position)),
            likes=0,
            retweets=0,
            user=view,
            reply_count=0,
            in_reply_to_id=event.in_reply_to_id,
            quote_of_id=event.quote_of_id,
        )
        return Written(position, shown, is_repeated)

    async def _view_and_refusal(
        self, author: Actor, refers_to: list[int]
    ) -> tuple[UserView | None, ClientError | None]:
        if not refers_to:
            return await self._view(author), None  # most tweets: two tasks would cost more than the look
        return await asyncio.gather(
            self._view(author), self._appending.refusal(*((Kind.TWEET, tweet_id) for tweet_id in refers_to))
        )

    async def _view(self, author: Actor) -> UserView | None:
        try:
            return await self._authors.view(author.named())
        except ClientError:
            if author.holder is None:
                raise
            return None  # who has a token was there: the append says whether the account is gone


@lru_cache(16)
def _time_of(unix_ms: int) -> str:
    """As ``time_of``; the tweets of a call are nearly all of one millisecond."""
    return time_of(unix_ms)


def _referred_to(event: TweetCreated) -> list[int]:
    return [tweet_id for tweet_id in (event.in_reply_to_id, event.quote_of_id) if tweet_id is not None]


def _newest(event: TweetCreated) -> int:
    """The greatest id in a tweet's event."""
    return max(event.user_id, event.in_reply_to_id or 0, event.quote_of_id or 0)


def _tweet_item(event: TweetCreated, author: Actor, claim: IdempotencyClaim | None) -> AppendItem:
    return AppendItem(event, target=_newest(event), holder=author.holder, actor_id=event.user_id, claim=claim)
