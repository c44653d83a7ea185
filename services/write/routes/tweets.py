"""Tweets, and what one does with them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.common.web import problems
from services.write.commands import Act, ActAs, CreateTweet
from services.write.handlers import CreatedTweetView
from services.write.routes.wire import HandlersOfApp, PathId, Success, created, success

router = APIRouter(prefix="/tweets", tags=["tweets"])


@router.post("", status_code=201, response_model=CreatedTweetView, responses=problems(404))
async def create_tweet(request: Request, command: CreateTweet, handlers: HandlersOfApp) -> Response:
    """Publish a tweet, perhaps in reply to one or quoting one.

    ``user`` is the author with counters at most a few seconds old. It is null where the read service could not be
    asked in time: the tweet exists all the same.
    """
    return created(request, await handlers.create_tweet(command))


@router.delete("/{tweet_id}", response_model=Success, responses=problems(403, 404))
async def delete_tweet(request: Request, tweet_id: PathId, actor: ActAs, handlers: HandlersOfApp) -> Response:
    """Delete a tweet, as its author, whom the body names. To delete what is not there any more is a success."""
    return success(request, await handlers.delete_tweet(tweet_id, actor.user_id))


@router.post("/{tweet_id}/like", response_model=Success, responses=problems(404))
async def like_tweet(request: Request, tweet_id: PathId, handlers: HandlersOfApp, actor: Act | None = None) -> Response:
    """Like a tweet, once for each user; without a body anonymously."""
    return success(request, await handlers.like(tweet_id, actor.user_id if actor else None))


@router.post("/{tweet_id}/retweet", response_model=Success, responses=problems(404))
async def retweet_tweet(
    request: Request, tweet_id: PathId, handlers: HandlersOfApp, actor: Act | None = None
) -> Response:
    """Retweet a tweet, once for each user; without a body anonymously."""
    return success(request, await handlers.retweet(tweet_id, actor.user_id if actor else None))


@router.delete("/{tweet_id}/like", response_model=Success, responses=problems(404))
async def unlike_tweet(request: Request, tweet_id: PathId, actor: ActAs, handlers: HandlersOfApp) -> Response:
    """Take back the like of the user whom the body names. Anonymous likes cannot be taken back."""
    return success(request, await handlers.unlike(tweet_id, actor.user_id))


@router.delete("/{tweet_id}/retweet", response_model=Success, responses=problems(404))
async def unretweet_tweet(request: Request, tweet_id: PathId, actor: ActAs, handlers: HandlersOfApp) -> Response:
    """Take back the retweet of the user whom the body names. Anonymous retweets cannot be taken back."""
    return success(request, await handlers.unretweet(tweet_id, actor.user_id))
