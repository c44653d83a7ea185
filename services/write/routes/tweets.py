"""Tweets, and what one does with them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.common.web import problems
from services.write.actors import actor_of
from services.write.commands import Act, ActAs, CreateTweet
from services.write.routes.wire import HandlersOfApp, Holder, Key, PathId, Success, created, success
from services.write.tweets import CreatedTweetView

router = APIRouter(prefix="/tweets", tags=["tweets"])


@router.post("", status_code=201, response_model=CreatedTweetView, responses=problems(401, 403, 404))
async def create_tweet(
    request: Request, command: CreateTweet, handlers: HandlersOfApp, holder: Holder, key: Key
) -> Response:
    """Publish a tweet, perhaps in reply to one or quoting one.

    ``user`` is the author with counters at most a minute old. It is null where the read service could not be
    asked in time: the tweet exists all the same.
    """
    return created(request, await handlers.tweets.create(command, actor_of(holder, command.user_id), key))


@router.delete("/{tweet_id}", response_model=Success, responses=problems(401, 403, 404))
async def delete_tweet(
    request: Request, tweet_id: PathId, handlers: HandlersOfApp, holder: Holder, act: ActAs | None = None
) -> Response:
    """Delete a tweet, as its author. To delete what is not there any more is a success."""
    return success(request, await handlers.tweets.delete(tweet_id, actor_of(holder, act.user_id if act else None)))


@router.post("/{tweet_id}/like", response_model=Success, responses=problems(401, 403, 404))
async def like_tweet(
    request: Request, tweet_id: PathId, handlers: HandlersOfApp, holder: Holder, key: Key, act: Act | None = None
) -> Response:
    """Like a tweet, once for each user; without a body anonymously."""
    return success(request, await handlers.acts.like(tweet_id, actor_of(holder, act.user_id if act else None), key))


@router.post("/{tweet_id}/retweet", response_model=Success, responses=problems(401, 403, 404))
async def retweet_tweet(
    request: Request, tweet_id: PathId, handlers: HandlersOfApp, holder: Holder, key: Key, act: Act | None = None
) -> Response:
    """Retweet a tweet, once for each user; without a body anonymously."""
    return success(request, await handlers.acts.retweet(tweet_id, actor_of(holder, act.user_id if act else None), key))


@router.delete("/{tweet_id}/like", response_model=Success, responses=problems(401, 403, 404))
async def unlike_tweet(
    request: Request, tweet_id: PathId, handlers: HandlersOfApp, holder: Holder, act: ActAs | None = None
) -> Response:
    """Take back a like, as oneself or, without a token, as the user whom the body names. Anonymous ones stay."""
    return success(request, await handlers.acts.unlike(tweet_id, actor_of(holder, act.user_id if act else None)))


@router.delete("/{tweet_id}/retweet", response_model=Success, responses=problems(401, 403, 404))
async def unretweet_tweet(
    request: Request, tweet_id: PathId, handlers: HandlersOfApp, holder: Holder, act: ActAs | None = None
) -> Response:
    """Take back a retweet, as oneself or, without a token, as the user whom the body names. Anonymous ones stay."""
    return success(request, await handlers.acts.unretweet(tweet_id, actor_of(holder, act.user_id if act else None)))
