"""The routes of the read service. Answers come ready-encoded; the response models are for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Request
from starlette.responses import Response

from services.common.errors import ClientError
from services.common.events import USERNAME_PATTERN
from services.common.ids import POSITION_MAX
from services.common.views import HomeTweetView, TweetView, UserView
from services.common.web import problems, set_position
from services.read.lookups import Lookups
from services.read.paging import HomeWindow, ListWindow, Offset
from services.read.store import Encoded

_POSITION_DIGITS_MAX: Final = len(str(POSITION_MAX))
_PROBLEMS: Final = problems(400, 404)
_LINK: Final = {"description": "Where the next (older) and the prev (newer) page are.", "schema": {"type": "string"}}
_LIST_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {**_PROBLEMS, 200: {"headers": {"Link": _LINK}}}

TweetId = Annotated[int, Path(ge=1, le=POSITION_MAX)]
UserId = Annotated[int, Path(ge=1, le=POSITION_MAX)]
Username = Annotated[str, Path(pattern=USERNAME_PATTERN, description="In any case.")]
MinPosition = Annotated[
    str | None,
    Header(
        alias="X-Min-Position",
        description="The greatest X-Log-Position seen so far: the answer is not older than that, or it is a 503.",
    ),
]


async def _lookups(request: Request, min_position: MinPosition = None) -> Lookups:
    """The look-ups, once the position asked for is applied. From then on it is known how new the answer is."""
    lookups: Lookups = request.app.state.lookups
    if min_position is not None:
        await lookups.reach(_parse_position(min_position))
    set_position(request.scope, lookups.applied_position)
    return lookups


AtMinPosition = Annotated[Lookups, Depends(_lookups)]

router = APIRouter()


@router.get("/tweets/{tweet_id}", tags=["tweets"], response_model=TweetView, responses=_PROBLEMS)
async def get_tweet(tweet_id: TweetId, lookups: AtMinPosition) -> Response:
    """A tweet with its counters and its author."""
    return _response(await lookups.tweet(tweet_id))


@router.get("/users/by-username/{username}", tags=["users"], response_model=UserView, responses=_PROBLEMS)
async def get_user_by_username(username: Username, lookups: AtMinPosition) -> Response:
    """The user with this name."""
    return _response(await lookups.user_by_username(username))


@router.get("/users/{user_id}", tags=["users"], response_model=UserView, responses=_PROBLEMS)
async def get_user(user_id: UserId, lookups: AtMinPosition) -> Response:
    """A user with the counts of followers and followed."""
    return _response(await lookups.user(user_id))


@router.get("/users/{user_id}/tweets", tags=["tweets"], response_model=list[TweetView], responses=_LIST_RESPONSES)
async def list_tweets(user_id: UserId, window: ListWindow, lookups: AtMinPosition, offset: Offset = 0) -> Response:
    """A user's tweets, newest first."""
    return _response(await lookups.tweets_by_author(user_id, window, offset))


@router.get("/users/{user_id}/followers", tags=["users"], response_model=list[UserView], responses=_LIST_RESPONSES)
async def list_followers(user_id: UserId, window: ListWindow, lookups: AtMinPosition) -> Response:
    """Who follows a user, newest first. The cursors are in the Link header only."""
    return _response(await lookups.followers(user_id, window))


@router.get("/users/{user_id}/following", tags=["users"], response_model=list[UserView], responses=_LIST_RESPONSES)
async def list_following(user_id: UserId, window: ListWindow, lookups: AtMinPosition) -> Response:
    """Whom a user follows, newest first. The cursors are in the Link header only."""
    return _response(await lookups.following(user_id, window))


@router.get("/users/{user_id}/home", tags=["tweets"], response_model=list[HomeTweetView], responses=_LIST_RESPONSES)
async def list_home(user_id: UserId, window: HomeWindow, lookups: AtMinPosition) -> Response:
    """Tweets and retweets of a user and of those she follows; each tweet once, where it appeared last.

    A page can have fewer items than asked for although there are older ones: follow ``next`` in the Link header.
    """
    return _response(await lookups.home(user_id, window))


def _parse_position(text: str) -> int:
    """Turn the header into a position. Raises a 400 for anything that is none."""
    if text.isascii() and text.isdigit() and len(text) <= _POSITION_DIGITS_MAX and int(text) <= POSITION_MAX:
        return int(text)
    raise ClientError(400, "bad_position", "X-Min-Position must be a position as X-Log-Position gives them")


def _response(encoded: Encoded) -> Response:
    headers = None if encoded.link is None else {"Link": encoded.link}
    return Response(encoded.body, encoded.status, headers, media_type="application/json")
