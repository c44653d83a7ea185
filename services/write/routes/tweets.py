"""Tweets, and what one does with them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.common.web import problems
from services.write.commands import Act, CreateTweet
from services.write.handlers import CreatedTweetView
from services.write.routes.wire import HandlersOfApp, PathId, Success, created, success

router = APIRouter(prefix="/tweets", tags=["tweets"])


@router.post("", status_code=201, response_model=CreatedTweetView, responses=problems(404))
async def create_tweet(request: Request, command: CreateTweet, handlers: HandlersOfApp) -> Response:
    """Publish a tweet.

    ``user`` is the author with counters at most a few seconds old. It is null where the read service could not be
    asked in time: the tweet exists all the same.
    """
    return created(request, await handlers.create_tweet(command))


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
