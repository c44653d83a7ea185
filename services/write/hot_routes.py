"""The writes that most requests are, served without the framework; the routes of their names declare them."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta
from starlette.types import Scope

from services.common.ids import POSITION_MAX
from services.common.web import set_position
from services.common.web.hot import HotRoute, HotRoutes, RequestHeaders, ServeBody, WholeAnswer
from services.write.actors import Actor, Gate, actor_of
from services.write.commands import CreateTweet
from services.write.handlers import Handlers, Written
from services.write.routes.wire import SUCCESS
from services.write.text import tweet_content

S = TypeVar("S")
Id = Annotated[int, Meta(ge=1, le=POSITION_MAX)]

_KEY: Final = b"idempotency-key"


class _Tweet(msgspec.Struct, forbid_unknown_fields=True):
    """commands.CreateTweet, decoded at once; what this refuses the framework refuses, and says why."""

    content: str
    user_id: Id | None = None
    in_reply_to_id: Id | None = None
    quote_of_id: Id | None = None


class _Act(msgspec.Struct, forbid_unknown_fields=True):
    """commands.Act."""

    user_id: Id | None = None


_ANONYMOUS: Final = _Act()
_tweets: Final = msgspec.json.Decoder(_Tweet)
_acts: Final = msgspec.json.Decoder(_Act)


class HotWrites:
    """Served by ``handlers``, once the service has started; with an idempotency key by the framework."""

    def __init__(self) -> None:
        self.handlers: Handlers | None = None
        self.gate: Gate | None = None
        self.routes: HotRoutes[ServeBody] = HotRoutes(
            "POST", HotRoute("/tweets", self._create_tweet), HotRoute("/tweets/{tweet_id}/like", self._like)
        )

    async def _create_tweet(self, scope: Scope, headers: RequestHeaders, body: bytes, _: int) -> WholeAnswer | None:
        wanted = _decoded(_tweets, body)
        if wanted is None or self.handlers is None or _KEY in headers:
            return None
        try:
            content = tweet_content(wanted.content)
        except ValueError:
            return None
        command = CreateTweet.model_construct(
            content=content,
            user_id=wanted.user_id,
            in_reply_to_id=wanted.in_reply_to_id,
            quote_of_id=wanted.quote_of_id,
        )
        written = await self.handlers.create_tweet(command, self._actor(headers, wanted.user_id))
        return _answer(scope, written, 201, msgspec.json.encode(written.value))

    async def _like(self, scope: Scope, headers: RequestHeaders, body: bytes, tweet_id: int) -> WholeAnswer | None:
        act = _decoded(_acts, body) if body else _ANONYMOUS
        if act is None or self.handlers is None or _KEY in headers:
            return None
        written = await self.handlers.like(tweet_id, self._actor(headers, act.user_id))
        return _answer(scope, written, 200, SUCCESS)

    def _actor(self, headers: RequestHeaders, named_id: int | None) -> Actor:
        """Who acts. Raises ClientError 401 or 403, as the routes do."""
        assert self.gate is not None  # noqa: S101
        authorization = headers.get(b"authorization")
        return actor_of(self.gate.holder(None if authorization is None else authorization.decode("latin-1")), named_id)


def _decoded(decoder: msgspec.json.Decoder[S], body: bytes) -> S | None:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError:
        return None


def _answer(scope: Scope, written: Written[object], status: int, body: bytes) -> WholeAnswer:
    set_position(scope, written.position)
    return WholeAnswer(status, b"content-length: %d\r\ncontent-type: application/json\r\n" % len(body), body)
