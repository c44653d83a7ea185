"""The routes of the read service. Answers come ready-encoded; the response models are for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Request
from starlette.responses import Response

from services.common.errors import ClientError
from services.common.events import USERNAME_PATTERN
from services.common.ids import BEGINNING, POSITION_MAX
from services.common.views import HomeTweetView, ProfileView, TweetView, UserView
from services.common.web import problems, set_position
from services.read.encoded import Encoded
from services.read.lookups import Lookups
from services.read.own_account import OwnAccounts, OwnAccountView
from services.read.paging import HomeWindow, ListWindow, Offset

_POSITION_DIGITS_MAX: Final = len(str(POSITION_MAX))
_Responses = dict[int | str, dict[str, Any]]

_LINK: Final = {"description": "Where the next (older) and the prev (newer) page are.", "schema": {"type": "string"}}
_ETAG: Final = {"description": "For If-None-Match: what is still the same is a 304.", "schema": {"type": "string"}}
_NOT_MODIFIED: Final = {"description": "It is what If-None-Match names.", "headers": {"ETag": _ETAG}}
_RESPONSES: Final[_Responses] = {**problems(400, 404), 200: {"headers": {"ETag": _ETAG}}, 304: _NOT_MODIFIED}
_LIST_RESPONSES: Final[_Responses] = {**_RESPONSES, 200: {"headers": {"ETag": _ETAG, "Link": _LINK}}}

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


class Read:
    """One request: its look-ups, and the position of what they answer."""

    def __init__(self, request: Request) -> None:
        self.lookups: Lookups = request.app.state.lookups
        self._scope = request.scope
        self._position = BEGINNING

    async def begin(self, min_position: int) -> None:
        """Wait until a position is applied. Whatever is looked up from then on is at least as new as applied."""
        await self.lookups.reach(min_position)
        self._position = self.lookups.applied_position
        set_position(self._scope, self._position)

    async def answer(self, encoded: Encoded) -> Response:
        """Answer at the position of the rows, where that is above: or the next read could be of an older state."""
        await self.lookups.settle(encoded.read_position)
        set_position(self._scope, max(self._position, encoded.read_position))
        return encoded.response(self._scope["headers"])


async def _begun(request: Request, min_position: MinPosition = None) -> Read:
    read = Read(request)
    await read.begin(BEGINNING if min_position is None else _parse_position(min_position))
    return read


AtMinPosition = Annotated[Read, Depends(_begun)]

router = APIRouter()


@router.get("/tweets/{tweet_id}", tags=["tweets"], response_model=TweetView, responses=_RESPONSES)
async def get_tweet(tweet_id: TweetId, read: AtMinPosition) -> Response:
    """A tweet with its counters and its author."""
    return await read.answer(await read.lookups.tweet(tweet_id))


@router.get("/tweets/{tweet_id}/replies", tags=["tweets"], response_model=list[TweetView], responses=_LIST_RESPONSES)
async def list_replies(tweet_id: TweetId, window: ListWindow, read: AtMinPosition) -> Response:
    """The replies to a tweet, newest first."""
    return await read.answer(await read.lookups.replies(tweet_id, window))


@router.get("/tweets/{tweet_id}/likes", tags=["tweets"], response_model=list[UserView], responses=_LIST_RESPONSES)
async def list_likers(tweet_id: TweetId, window: ListWindow, read: AtMinPosition) -> Response:
    """Who liked a tweet, newest like first; anonymous likes only count. The cursors are in the Link header only."""
    return await read.answer(await read.lookups.likers(tweet_id, window))


@router.get("/tweets/{tweet_id}/retweets", tags=["tweets"], response_model=list[UserView], responses=_LIST_RESPONSES)
async def list_retweeters(tweet_id: TweetId, window: ListWindow, read: AtMinPosition) -> Response:
    """Who retweeted a tweet, newest first; anonymous retweets only count. The cursors are in the Link header only."""
    return await read.answer(await read.lookups.retweeters(tweet_id, window))


@router.get("/users/by-username/{username}", tags=["users"], response_model=ProfileView, responses=_RESPONSES)
async def get_user_by_username(username: Username, read: AtMinPosition) -> Response:
    """The user with this name."""
    return await read.answer(await read.lookups.user_by_username(username))


@router.get("/users/me", tags=["users"], response_model=OwnAccountView, responses=problems(400, 401, 403))
async def get_own_account(request: Request, read: AtMinPosition) -> Response:
    """The account of the token's holder, with what only she may see."""
    accounts: OwnAccounts = request.app.state.own_accounts
    claims = accounts.holder(dict(request.scope["headers"]).get(b"authorization"))
    return await read.answer(await accounts.complete(claims, await read.lookups.user(claims.user_id)))


@router.get("/users/{user_id}", tags=["users"], response_model=ProfileView, responses=_RESPONSES)
async def get_user(user_id: UserId, read: AtMinPosition) -> Response:
    """A user with the counts of followers and followed."""
    return await read.answer(await read.lookups.user(user_id))


@router.get("/users/{user_id}/tweets", tags=["tweets"], response_model=list[TweetView], responses=_LIST_RESPONSES)
async def list_tweets(user_id: UserId, window: ListWindow, read: AtMinPosition, offset: Offset = 0) -> Response:
    """A user's tweets, newest first."""
    return await read.answer(await read.lookups.tweets_by_author(user_id, window, offset))


@router.get("/users/{user_id}/followers", tags=["users"], response_model=list[UserView], responses=_LIST_RESPONSES)
async def list_followers(user_id: UserId, window: ListWindow, read: AtMinPosition) -> Response:
    """Who follows a user, newest first. The cursors are in the Link header only."""
    return await read.answer(await read.lookups.followers(user_id, window))


@router.get("/users/{user_id}/following", tags=["users"], response_model=list[UserView], responses=_LIST_RESPONSES)
async def list_following(user_id: UserId, window: ListWindow, read: AtMinPosition) -> Response:
    """Whom a user follows, newest first. The cursors are in the Link header only."""
    return await read.answer(await read.lookups.following(user_id, window))


@router.get("/users/{user_id}/home", tags=["tweets"], response_model=list[HomeTweetView], responses=_LIST_RESPONSES)
async def list_home(user_id: UserId, window: HomeWindow, read: AtMinPosition) -> Response:
    """Tweets and retweets of a user and of those she follows; each tweet once, where it appeared last.

    A page can have fewer items than asked for although there are older ones: follow ``next`` in the Link header.
    """
    return await read.answer(await read.lookups.home(user_id, window))


def _parse_position(text: str) -> int:
    """Turn the header into a position. Raises a 400 for anything that is none."""
    if text.isascii() and text.isdigit() and len(text) <= _POSITION_DIGITS_MAX and int(text) <= POSITION_MAX:
        return int(text)
    raise ClientError(400, "bad_position", "X-Min-Position must be a position as X-Log-Position gives them")
