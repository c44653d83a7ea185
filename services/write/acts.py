"""What one does with tweets and users: likes, retweets, follows, and none of them any more."""

from __future__ import annotations

from services.common.errors import ClientError
from services.common.events import (
    Event,
    TweetLiked,
    TweetRetweeted,
    TweetUnliked,
    TweetUnretweeted,
    UserFollowed,
    UserUnfollowed,
)
from services.common.log.append import AppendItem, Result
from services.write.actors import Actor
from services.write.appending import Appending
from services.write.existence import Existence, Kind
from services.write.idempotency import Claims, IdempotencyKey
from services.write.outcome import Finish, Written, attempt, done


class Acts:
    """One method for each act. Each raises ClientError or OperationalError.

    Under a ``key`` an act is carried out once, and answered alike each time.
    """

    def __init__(self, appending: Appending, *, existence: Existence, claims: Claims) -> None:
        self._appending = appending
        self._existence = existence
        self._claims = claims

    async def like(self, tweet_id: int, actor: Actor, key: IdempotencyKey | None = None) -> Written[None]:
        """Like a tweet, as somebody or anonymously."""
        return await self._act_on_tweet(TweetLiked(tweet_id=tweet_id, user_id=actor.user_id), actor, key)

    def begin_like(self, tweet_id: int, actor: Actor, finish: Finish[None]) -> None:
        """Begin to like a tweet; without a task if only the log has to be waited for."""
        knows = self._existence.knows
        if not knows(Kind.TWEET, tweet_id) or not all(knows(*subject) for subject in _unproven(actor)):
            self._appending.begin_task(self.like(tweet_id, actor), finish)
            return
        event = TweetLiked(tweet_id=tweet_id, user_id=actor.user_id)
        target, kind = _target(event)

        def settle(result: Result | Exception) -> None:
            finish(attempt(lambda good: Written(done(good, kind)[0], None), result))

        item = AppendItem(event, target=target, holder=actor.holder, actor_id=actor.user_id or 0)
        self._appending.submit(item, self._appending.new_deadline(), settle)

    async def unlike(self, tweet_id: int, actor: Actor) -> Written[None]:
        """Take back a user's like."""
        return await self._act_on_tweet(TweetUnliked(tweet_id=tweet_id, user_id=actor.named()), actor)

    async def retweet(self, tweet_id: int, actor: Actor, key: IdempotencyKey | None = None) -> Written[None]:
        """Retweet a tweet, as somebody or anonymously."""
        return await self._act_on_tweet(TweetRetweeted(tweet_id=tweet_id, user_id=actor.user_id), actor, key)

    async def unretweet(self, tweet_id: int, actor: Actor) -> Written[None]:
        """Take back a user's retweet."""
        return await self._act_on_tweet(TweetUnretweeted(tweet_id=tweet_id, user_id=actor.named()), actor)

    async def follow(self, follower: Actor, followee_id: int, key: IdempotencyKey | None = None) -> Written[None]:
        """Let one user follow another."""
        event = UserFollowed(follower_id=follower.named(), followee_id=followee_id)
        return await self._act_on_user(event, follower, key)

    async def unfollow(self, follower: Actor, followee_id: int) -> Written[None]:
        """Let one user no longer follow another."""
        event = UserUnfollowed(follower_id=follower.named(), followee_id=followee_id)
        return await self._act_on_user(event, follower)

    async def _act_on_tweet(
        self,
        event: TweetLiked | TweetUnliked | TweetRetweeted | TweetUnretweeted,
        actor: Actor,
        key: IdempotencyKey | None = None,
    ) -> Written[None]:
        target, kind = _target(event)
        return await self._act(event, actor, key, (Kind.TWEET, event.tweet_id), target=target, kind=kind)

    async def _act_on_user(
        self, event: UserFollowed | UserUnfollowed, actor: Actor, key: IdempotencyKey | None = None
    ) -> Written[None]:
        if event.follower_id == event.followee_id:
            raise ClientError(422, "cannot_follow_self", "One cannot follow oneself")
        target = max(event.followee_id, event.follower_id)
        return await self._act(event, actor, key, (Kind.USER, event.followee_id), target=target, kind=Kind.USER)

    async def _act(
        self,
        event: Event,
        actor: Actor,
        key: IdempotencyKey | None,
        subject: tuple[Kind, int],
        *,
        target: int,
        kind: Kind,
    ) -> Written[None]:
        """Append what somebody does to a subject; ``kind`` is that of the ``target``, the greatest id in the event."""
        deadline = self._appending.new_deadline()
        refusal = await self._appending.refusal(subject, *_unproven(actor))
        item = AppendItem(
            event,
            target=target,
            holder=actor.holder,
            actor_id=actor.user_id or 0,
            claim=self._claims.claim(key, event),
        )
        position, is_repeated = done(await self._appending.append_unless(refusal, item, deadline), kind)
        return Written(position, None, is_repeated)


def _unproven(actor: Actor) -> list[tuple[Kind, int]]:
    """The actor, if it must still be found out whether there is such a user."""
    return [(Kind.USER, actor.user_id)] if actor.user_id is not None and actor.holder is None else []


def _target(event: TweetLiked | TweetUnliked | TweetRetweeted | TweetUnretweeted) -> tuple[int, Kind]:
    """The greatest id in an act on a tweet, and whose it is."""
    target = max(event.tweet_id, event.user_id or 0)
    return target, Kind.TWEET if target == event.tweet_id else Kind.USER
