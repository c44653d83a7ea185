"""From a command to its event, and from the log's answer to what the client sees. No HTTP here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

import msgspec

from services.common.auth import suspended, unauthorized
from services.common.errors import ClientError, TwitterError, WritesRefused
from services.common.events import (
    AccountDeleted,
    Event,
    TokensRevoked,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    TweetRetweeted,
    TweetUnliked,
    TweetUnretweeted,
    UserCreated,
    UserFollowed,
    UserUnfollowed,
    UserUpdated,
)
from services.common.ids import POSITION_MAX, created_at, time_of, unix_ms_of
from services.common.log.append import AppendItem, CredentialChange, Repeated, Result, TokenHolder
from services.common.log.idempotency import IdempotencyClaim
from services.common.shapes import UserView
from services.write.actors import Actor
from services.write.authors import Authors
from services.write.commands import CreateTweet, CreateUser, UpdateAccount
from services.write.credentials import Credentials
from services.write.errors import AnswerUnavailable, LogFull
from services.write.existence import Existence, Kind, Verdict, not_found
from services.write.idempotency import Claims, IdempotencyKey, idempotency_mismatch

REQUEST_SECONDS: Final = 0.85
"""From command to verdict; a client has its answer within a second, whatever Redis does."""

AppendOne = Callable[[AppendItem, float], Awaitable[Result]]
"""Append one item by a deadline on the event loop's clock."""

Submit = Callable[[AppendItem, float, Callable[[Result | Exception], None]], None]
"""The same for who does not wait: called with the result, or with what AppendOne raises."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_TAKEN: Final = {
    "username_taken": "This username is taken",
    "email_taken": "An account with this e-mail address exists",
}


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


class _WrittenThrough(msgspec.Struct):
    """A new tweet for readers that have not applied it; the rest is in its id."""

    content: str
    user: UserView
    in_reply_to_id: int | None
    quote_of_id: int | None


class Written(msgspec.Struct, Generic[T_co], frozen=True):
    """What a command made, and its position in the log; ``is_repeated`` if it was made before, under the same key."""

    position: int
    value: T_co
    is_repeated: bool = False


Finish = Callable[["Written[T] | Exception"], None]
"""Called once, with what a command made, or with the error that its method would raise."""


class Handlers:
    """One method for each command. Each raises ClientError, or OperationalError where it should be tried again.

    Under a ``key`` a command is carried out once, and answered alike each time.
    """

    def __init__(
        self,
        append: AppendOne,
        submit: Submit,
        *,
        existence: Existence,
        authors: Authors,
        credentials: Credentials,
        claims: Claims,
    ) -> None:
        self._append = append
        self._submit = submit
        self._existence = existence
        self._authors = authors
        self._credentials = credentials
        self._claims = claims
        self._begun: set[asyncio.Task[None]] = set()

    async def create_user(self, command: CreateUser, key: IdempotencyKey | None = None) -> Written[UserView]:
        """Open an account; its name and e-mail are unique without regard to case.

        That the password of a repeated command is the same is for the caller to check: no fast digest is made of it.
        """
        deadline = _deadline()
        credential = await self._credentials.claim(command.email, command.password)
        event = UserCreated(command.username)
        claim = self._claims.claim(key, event, command.email, command.password is not None)
        result = await self._append(AppendItem(event, credential=credential, claim=claim), deadline)
        if isinstance(result, str) and result in _TAKEN:
            raise ClientError(409, result, _TAKEN[result])
        position, is_repeated = _done(result, Kind.USER)
        view = UserView(
            id=position,
            username=command.username,
            created_at=created_at(position),
            followers_count=0,
            following_count=0,
        )
        if not is_repeated:
            self._existence.remember(Kind.USER, position)
            self._authors.remember(view)
        return Written(position, view, is_repeated)

    async def revoke_tokens(self, holder: TokenHolder) -> Written[None]:
        """Make every token of this account useless, the one in use among them."""
        return await self._change_account(TokensRevoked(user_id=holder.user_id), holder)

    async def update_account(self, command: UpdateAccount, holder: TokenHolder) -> Written[None]:
        """Change what the command gives; a new password makes all tokens useless."""
        change = await self._credentials.change(command.email, command.password)
        event = UserUpdated(user_id=holder.user_id, display_name=command.name, bio=command.bio)
        return await self._change_account(event, holder, change)

    async def delete_account(self, holder: TokenHolder) -> Written[None]:
        """Remove the account, its tweets and what it keeps in confidence; its name is held for a while."""
        return await self._change_account(AccountDeleted(user_id=holder.user_id), holder)

    async def create_tweet(
        self, command: CreateTweet, author: Actor, key: IdempotencyKey | None = None
    ) -> Written[CreatedTweetView]:
        """Publish a tweet. Without the author's view it is appended all the same: durable comes before pretty.

        What was published before is answered as it was then, from the command, which is the same; it may have been
        deleted since. Raises AnswerUnavailable if the author's view is all that is missing.
        """
        event = TweetCreated(
            user_id=_named(author),
            content=command.content,
            in_reply_to_id=command.in_reply_to_id,
            quote_of_id=command.quote_of_id,
        )
        return await self._publish(event, author, key)

    async def _publish(
        self, event: TweetCreated, author: Actor, key: IdempotencyKey | None
    ) -> Written[CreatedTweetView]:
        deadline = _deadline()
        view, refusal = await self._view_and_refusal(author, _referred_to(event))
        item = _tweet_item(event, author, view, self._claims.claim(key, event))
        return self._created_tweet(event, view, await self._append_unless(refusal, item, deadline))

    def begin_tweet(self, event: TweetCreated, author: Actor, finish: Finish[CreatedTweetView]) -> None:
        """Begin to publish a tweet; without a task if only the log has to be waited for."""
        view = self._authors.known(event.user_id)
        if view is None or not all(self._existence.knows(Kind.TWEET, tweet_id) for tweet_id in _referred_to(event)):
            self._begin_task(self._publish(event, author, None), finish)
            return

        def settle(result: Result | Exception) -> None:
            finish(_attempt(lambda good: self._created_tweet(event, view, good), result))

        self._submit(_tweet_item(event, author, view, None), _deadline(), settle)

    async def delete_tweet(self, tweet_id: int, actor: Actor) -> Written[None]:
        """Delete a tweet, as its author. What is not there any more is deleted already, or never was: a success.

        Raises the 403 for somebody who provably is not the author.
        """
        deadline = _deadline()
        user_id = _named(actor)
        finding = await self._existence.look(Kind.TWEET, tweet_id)
        if finding.verdict is Verdict.ABSENT and actor.holder is None:  # only the append knows if a token is revoked
            return Written(finding.position, None)
        if finding.author_id not in {None, user_id}:
            raise ClientError(403, "not_the_author", "Only its author can delete a tweet")
        event = TweetDeleted(tweet_id=tweet_id, user_id=user_id)
        item = AppendItem(event, target=max(tweet_id, user_id), holder=actor.holder, actor_id=user_id)
        result = await self._append(item, deadline)
        self._existence.forget(Kind.TWEET, tweet_id)
        position, _ = _done(result, Kind.TWEET if tweet_id >= user_id else Kind.USER)
        return Written(position, None)

    async def like(self, tweet_id: int, actor: Actor, key: IdempotencyKey | None = None) -> Written[None]:
        """Like a tweet, as somebody or anonymously."""
        return await self._act_on_tweet(TweetLiked(tweet_id=tweet_id, user_id=actor.user_id), actor, key)

    def begin_like(self, tweet_id: int, actor: Actor, finish: Finish[None]) -> None:
        """Begin to like a tweet; without a task if only the log has to be waited for."""
        knows = self._existence.knows
        if not knows(Kind.TWEET, tweet_id) or not all(knows(*subject) for subject in _unproven(actor)):
            self._begin_task(self.like(tweet_id, actor), finish)
            return
        event = TweetLiked(tweet_id=tweet_id, user_id=actor.user_id)
        target, kind = _target(event)

        def settle(result: Result | Exception) -> None:
            finish(_attempt(lambda good: Written(_done(good, kind)[0], None), result))

        item = AppendItem(event, target=target, holder=actor.holder, actor_id=actor.user_id or 0)
        self._submit(item, _deadline(), settle)

    async def unlike(self, tweet_id: int, actor: Actor) -> Written[None]:
        """Take back a user's like."""
        return await self._act_on_tweet(TweetUnliked(tweet_id=tweet_id, user_id=_named(actor)), actor)

    async def retweet(self, tweet_id: int, actor: Actor, key: IdempotencyKey | None = None) -> Written[None]:
        """Retweet a tweet, as somebody or anonymously."""
        return await self._act_on_tweet(TweetRetweeted(tweet_id=tweet_id, user_id=actor.user_id), actor, key)

    async def unretweet(self, tweet_id: int, actor: Actor) -> Written[None]:
        """Take back a user's retweet."""
        return await self._act_on_tweet(TweetUnretweeted(tweet_id=tweet_id, user_id=_named(actor)), actor)

    async def follow(self, follower: Actor, followee_id: int, key: IdempotencyKey | None = None) -> Written[None]:
        """Let one user follow another."""
        event = UserFollowed(follower_id=_named(follower), followee_id=followee_id)
        return await self._act_on_user(event, follower, key)

    async def unfollow(self, follower: Actor, followee_id: int) -> Written[None]:
        """Let one user no longer follow another."""
        event = UserUnfollowed(follower_id=_named(follower), followee_id=followee_id)
        return await self._act_on_user(event, follower)

    def _begin_task(self, work: Coroutine[Any, Any, Written[T]], finish: Finish[T]) -> None:
        async def run() -> None:
            try:
                outcome: Written[T] | Exception = await work
            except Exception as error:  # noqa: BLE001 - who finishes knows what to answer to it
                outcome = error
            finish(outcome)

        task = asyncio.create_task(run())
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def _change_account(
        self,
        event: TokensRevoked | UserUpdated | AccountDeleted,
        holder: TokenHolder,
        change: CredentialChange | None = None,
    ) -> Written[None]:
        result = await self._append(AppendItem(event, change=change, holder=holder), _deadline())
        if result == "email_taken":
            raise ClientError(409, "email_taken", _TAKEN["email_taken"])
        position, _ = _done(result, Kind.USER)
        return Written(position, None)

    def _created_tweet(self, event: TweetCreated, view: UserView | None, result: Result) -> Written[CreatedTweetView]:
        """What the answer to a new tweet shows. Raises for a refusal, and as create_tweet does."""
        position, is_repeated = _done(result, Kind.USER if _newest(event) == event.user_id else Kind.TWEET)
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
            self._view(author), self._refusal(*((Kind.TWEET, tweet_id) for tweet_id in refers_to))
        )

    async def _view(self, author: Actor) -> UserView | None:
        try:
            return await self._authors.view(_named(author))
        except ClientError:
            if author.holder is None:
                raise
            return None  # who has a token was there: the append says whether the account is gone

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
        deadline = _deadline()
        refusal = await self._refusal(subject, *_unproven(actor))
        item = AppendItem(
            event,
            target=target,
            holder=actor.holder,
            actor_id=actor.user_id or 0,
            claim=self._claims.claim(key, event),
        )
        position, is_repeated = _done(await self._append_unless(refusal, item, deadline), kind)
        return Written(position, None, is_repeated)

    async def _refusal(self, *subjects: tuple[Kind, int]) -> ClientError | None:
        """The 404 for the first of these that provably does not exist."""
        try:
            await self._existence.refuse_absent(*subjects)
        except ClientError as refusal:
            return refusal
        return None

    async def _append_unless(self, refusal: ClientError | None, item: AppendItem, deadline: float) -> Result:
        """Append an item. Raises the refusal, except of what was done before what it refers to was gone."""
        if refusal is None:
            return await self._append(item, deadline)
        if item.claim is None:
            raise refusal
        # Only the log knows whether it was. Nothing above the head exists, so it can append nothing now.
        result = await self._append(msgspec.structs.replace(item, target=POSITION_MAX), deadline)
        if result == "not_found":
            raise refusal
        return result


@lru_cache(16)
def _time_of(unix_ms: int) -> str:
    """As ``time_of``; the tweets of a call are nearly all of one millisecond."""
    return time_of(unix_ms)


def _deadline() -> float:
    return asyncio.get_running_loop().time() + REQUEST_SECONDS


def _named(actor: Actor) -> int:
    """The user who acts, where nobody can anonymously. Raises ClientError 422."""
    if actor.user_id is None:
        raise ClientError(422, "user_id_missing", "Say who acts: send a token, or user_id")
    return actor.user_id


def _unproven(actor: Actor) -> list[tuple[Kind, int]]:
    """The actor, if it must still be found out whether there is such a user."""
    return [(Kind.USER, actor.user_id)] if actor.user_id is not None and actor.holder is None else []


def _attempt(make: Callable[[Result], Written[T]], result: Result | Exception) -> Written[T] | Exception:
    """What is made of a result, or the error that it stands for."""
    if isinstance(result, Exception):
        return result
    try:
        return make(result)
    except TwitterError as error:
        return error


def _target(event: TweetLiked | TweetUnliked | TweetRetweeted | TweetUnretweeted) -> tuple[int, Kind]:
    """The greatest id in an act on a tweet, and whose it is."""
    target = max(event.tweet_id, event.user_id or 0)
    return target, Kind.TWEET if target == event.tweet_id else Kind.USER


def _referred_to(event: TweetCreated) -> list[int]:
    return [tweet_id for tweet_id in (event.in_reply_to_id, event.quote_of_id) if tweet_id is not None]


def _newest(event: TweetCreated) -> int:
    """The greatest id in a tweet's event."""
    return max(event.user_id, event.in_reply_to_id or 0, event.quote_of_id or 0)


def _tweet_item(
    event: TweetCreated, author: Actor, view: UserView | None, claim: IdempotencyClaim | None
) -> AppendItem:
    return AppendItem(
        event,
        target=_newest(event),
        written_through=_written_through(event, view),
        holder=author.holder,
        actor_id=event.user_id,
        claim=claim,
    )


def _done(result: Result, kind: Kind) -> tuple[int, bool]:
    """The position of what was appended, and whether it was there before. Raises ClientError for a refusal."""
    if type(result) is int:
        return result, False
    if isinstance(result, Repeated):
        return result.position, True
    if result == "token_revoked":
        raise unauthorized("token_revoked", "This token has been revoked")
    if result == "account_suspended":
        raise suspended()
    if result == "log_full":
        raise LogFull("the log has reached its bytes, or Redis its memory; nothing was written")
    if result == "owner_outdated":
        raise WritesRefused("owner_outdated", "the db-updater does not know this kind of event yet: upgrade it")
    if result == "idempotency_mismatch":
        raise idempotency_mismatch()
    raise not_found(Kind.USER if result == "actor_gone" else kind)


def _written_through(event: TweetCreated, author: UserView | None) -> bytes | None:
    if author is None:
        return None
    return msgspec.json.encode(_WrittenThrough(event.content, author, event.in_reply_to_id, event.quote_of_id))
