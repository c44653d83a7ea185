"""The writes that most requests are, served without the framework; the routes of their names declare them."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from services.common.events import TweetCreated
from services.common.ids import BEGINNING, POSITION_MAX
from services.common.web.hot import Answered, Begin, Body, Finish, HotRoute, HotRoutes, RequestHeaders, WholeAnswer
from services.write.actors import Actor, Gate, actor_of
from services.write.handlers import Handlers
from services.write.outcome import Written
from services.write.routes.wire import SUCCESS
from services.write.text import tweet_content
from services.write.tweets import CreatedTweetView

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
        self.routes: HotRoutes[Begin] = HotRoutes(
            "POST", HotRoute("/tweets", self._begin_tweet), HotRoute("/tweets/{tweet_id}/like", self._begin_like)
        )

    def _begin_tweet(self, headers: RequestHeaders, body: Body, _: int, finish: Finish) -> bool:
        wanted = _decoded(_tweets, body)
        if wanted is None or self.handlers is None or _KEY in headers:
            return False
        try:
            content = tweet_content(wanted.content)
        except ValueError:
            return False
        author = self._actor(headers, wanted.user_id)
        if author.user_id is None:
            return False
        event = TweetCreated(
            user_id=author.user_id,
            content=content,
            in_reply_to_id=wanted.in_reply_to_id,
            quote_of_id=wanted.quote_of_id,
        )
        self.handlers.tweets.begin(event, author, lambda outcome: finish(*_answered(outcome, 201)))
        return True

    def _begin_like(self, headers: RequestHeaders, body: Body, tweet_id: int, finish: Finish) -> bool:
        act = _decoded(_acts, body) if body else _ANONYMOUS
        if act is None or self.handlers is None or _KEY in headers:
            return False
        actor = self._actor(headers, act.user_id)
        self.handlers.acts.begin_like(tweet_id, actor, lambda outcome: finish(*_answered(outcome, 200)))
        return True

    def _actor(self, headers: RequestHeaders, named_id: int | None) -> Actor:
        """Who acts. Raises ClientError 401 or 403, as the routes do."""
        assert self.gate is not None  # noqa: S101
        return actor_of(self.gate.holder(headers.get(b"authorization")), named_id)


def _decoded(decoder: msgspec.json.Decoder[S], body: Body) -> S | None:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _answered(outcome: Written[CreatedTweetView] | Written[None] | Exception, status: int) -> tuple[Answered, int]:
    """The answer to what was written, and its position; an error as it is."""
    if isinstance(outcome, Exception):
        return outcome, BEGINNING
    body = SUCCESS if outcome.value is None else msgspec.json.encode(outcome.value)
    head = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(body)
    return WholeAnswer(status, head, body), outcome.position
