"""From a command to its event, and from the log's answer to what the client sees. No HTTP here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from services.common.errors import ClientError
from services.common.events import TweetCreated, TweetLiked, TweetRetweeted, UserCreated, UserFollowed, UserUnfollowed
from services.common.ids import created_at
from services.common.log.append import AppendItem, Result
from services.common.views import UserView
from services.write.authors import Authors
from services.write.commands import CreateTweet, CreateUser
from services.write.credentials import Credentials
from services.write.existence import Existence, Kind, not_found

REQUEST_SECONDS: Final = 0.85
"""From command to verdict; a client has its answer within a second, whatever Redis does."""

AppendOne = Callable[[AppendItem, float], Awaitable[Result]]
"""Append one item by a deadline on the event loop's clock."""

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


@dataclass(frozen=True, slots=True)
class Written(Generic[T_co]):
    """What a command made, and its position in the log."""

    position: int
    value: T_co


class Handlers:
    """One method for each command. Each raises ClientError, or OperationalError where it should be tried again."""

    def __init__(self, append: AppendOne, *, existence: Existence, authors: Authors, credentials: Credentials) -> None:
        self._append = append
        self._existence = existence
        self._authors = authors
        self._credentials = credentials

    async def create_user(self, command: CreateUser) -> Written[UserView]:
        """Open an account; its name and e-mail are unique without regard to case."""
        deadline = _deadline()
        claim = await self._credentials.claim(command.email, command.password)
        result = await self._append(AppendItem(UserCreated(command.username), credential=claim), deadline)
        if isinstance(result, str):
            raise ClientError(409, result, _TAKEN[result])
        view = UserView(
            id=result,
            username=command.username,
            created_at=created_at(result),
            followers_count=0,
            following_count=0,
        )
        self._existence.remember(Kind.USER, result)
        self._authors.remember(view)
        return Written(result, view)

    async def create_tweet(self, command: CreateTweet) -> Written[CreatedTweetView]:
        """Publish a tweet. Without the author's view it is appended all the same: durable comes before pretty."""
        deadline = _deadline()
        author = await self._authors.view(command.user_id)
        item = AppendItem(
            TweetCreated(user_id=command.user_id, content=command.content),
            target=command.user_id,
            written_through=_written_through(command.content, author),
        )
        position = _position(await self._append(item, deadline), Kind.USER)
        self._existence.remember(Kind.TWEET, position)
        return Written(
            position,
            CreatedTweetView(
                id=position,
                content=command.content,
                user_id=command.user_id,
                created_at=created_at(position),
                likes=0,
                retweets=0,
                user=author,
            ),
        )

    async def like(self, tweet_id: int, user_id: int | None) -> Written[None]:
        """Like a tweet, as somebody or anonymously."""
        return await self._act_on_tweet(TweetLiked(tweet_id=tweet_id, user_id=user_id))

    async def retweet(self, tweet_id: int, user_id: int | None) -> Written[None]:
        """Retweet a tweet, as somebody or anonymously."""
        return await self._act_on_tweet(TweetRetweeted(tweet_id=tweet_id, user_id=user_id))

    async def follow(self, follower_id: int, followee_id: int) -> Written[None]:
        """Let one user follow another."""
        if follower_id == followee_id:
            raise ClientError(422, "cannot_follow_self", "One cannot follow oneself")
        return await self._act_on_user(UserFollowed(follower_id=follower_id, followee_id=followee_id))

    async def unfollow(self, follower_id: int, followee_id: int) -> Written[None]:
        """Let one user no longer follow another."""
        if follower_id == followee_id:
            raise ClientError(422, "cannot_follow_self", "One cannot follow oneself")
        return await self._act_on_user(UserUnfollowed(follower_id=follower_id, followee_id=followee_id))

    async def _act_on_tweet(self, event: TweetLiked | TweetRetweeted) -> Written[None]:
        deadline = _deadline()
        actor_id = event.user_id or 0
        actor = [(Kind.USER, actor_id)] if actor_id else []
        await self._existence.refuse_absent((Kind.TWEET, event.tweet_id), *actor)
        target = max(event.tweet_id, actor_id)
        result = await self._append(AppendItem(event, target=target), deadline)
        return Written(_position(result, Kind.TWEET if target == event.tweet_id else Kind.USER), None)

    async def _act_on_user(self, event: UserFollowed | UserUnfollowed) -> Written[None]:
        deadline = _deadline()
        await self._existence.refuse_absent((Kind.USER, event.followee_id), (Kind.USER, event.follower_id))
        item = AppendItem(event, target=max(event.followee_id, event.follower_id))
        return Written(_position(await self._append(item, deadline), Kind.USER), None)


def _deadline() -> float:
    return asyncio.get_running_loop().time() + REQUEST_SECONDS


def _position(result: Result, kind: Kind) -> int:
    if isinstance(result, str):
        raise not_found(kind)
    return result


def _written_through(content: str, author: UserView | None) -> bytes | None:
    if author is None:
        return None
    return msgspec.json.encode({"content": content, "user": author})
