"""The events: what became true, past tense, small, strictly decoded.

An event carries no id and no time of its own: both are its position in the log. It carries no personal
secret either: e-mail and password hash travel beside it into ``cred:{user}`` (see append.lua).

``version`` is the lowest projection version that understands the event. A process of a lower version stops
before such an entry instead of guessing; an entry that is malformed within a version we know is a dead letter.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from services.common.ids import FIXTURE_ID_MAX, POSITION_MAX

PROJECTION_VERSION: Final = 1
"""The highest event version that this code understands; databases and snapshots carry it too."""

USERNAME_PATTERN: Final = "^[A-Za-z0-9_]{1,30}$"
CONTENT_CHARS_MAX: Final = 280
NAME_CHARS_MAX: Final = 50
BIO_CHARS_MAX: Final = 160
EPOCH_MAX: Final = 2**31 - 1

Id = Annotated[int, Meta(ge=1, le=POSITION_MAX)]
FixtureId = Annotated[int, Meta(ge=1, le=FIXTURE_ID_MAX)]
# Python's `$` also matches before a final newline, `\\Z` does not.
Username = Annotated[str, Meta(pattern=USERNAME_PATTERN.replace("$", r"\Z"))]
# Without NUL, which PostgreSQL cannot store: an entry that has one is a dead letter on every copy.
_WITHOUT_NUL: Final = r"\A[^\0]*\Z"
Content = Annotated[str, Meta(min_length=1, max_length=CONTENT_CHARS_MAX, pattern=_WITHOUT_NUL)]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What became true. ``name`` is its type in the log, ``version`` the lowest version that reads it."""

    name: ClassVar[str]
    version: ClassVar[int] = 1


class EpochStarted(Event, frozen=True):
    """The owner declares its state at the entry's ``prev`` the truth from which the log continues."""

    name: ClassVar[str] = "epoch_started"
    epoch: Annotated[int, Meta(ge=1, le=EPOCH_MAX)]


class UserCreated(Event, frozen=True):
    """An account exists. ``id`` only for fixtures; otherwise the entry's position is the id."""

    name: ClassVar[str] = "user_created"
    username: Username
    id: FixtureId | None = None


class TweetCreated(Event, frozen=True):
    """A tweet exists. ``id`` only for fixtures; otherwise the entry's position is the id."""

    name: ClassVar[str] = "tweet_created"
    user_id: Id
    content: Content
    id: FixtureId | None = None
    in_reply_to_id: Id | None = None
    quote_of_id: Id | None = None


class TweetDeleted(Event, frozen=True):
    """``user_id`` took back a tweet; only its author's word counts."""

    name: ClassVar[str] = "tweet_deleted"
    tweet_id: Id
    user_id: Id


class TweetLiked(Event, frozen=True):
    """Somebody liked a tweet; without ``user_id`` an anonymous like, which counts each time."""

    name: ClassVar[str] = "tweet_liked"
    tweet_id: Id
    user_id: Id | None = None


class TweetRetweeted(Event, frozen=True):
    """Somebody retweeted a tweet; without ``user_id`` an anonymous retweet, which counts each time."""

    name: ClassVar[str] = "tweet_retweeted"
    tweet_id: Id
    user_id: Id | None = None


class TweetUnliked(Event, frozen=True):
    """``user_id`` no longer likes a tweet. An anonymous like is nobody's to take back."""

    name: ClassVar[str] = "tweet_unliked"
    tweet_id: Id
    user_id: Id


class TweetUnretweeted(Event, frozen=True):
    """``user_id`` took back a retweet. An anonymous retweet is nobody's to take back."""

    name: ClassVar[str] = "tweet_unretweeted"
    tweet_id: Id
    user_id: Id


class UserFollowed(Event, frozen=True):
    """``follower_id`` follows ``followee_id`` from here on."""

    name: ClassVar[str] = "user_followed"
    follower_id: Id
    followee_id: Id


class UserUnfollowed(Event, frozen=True):
    """``follower_id`` no longer follows ``followee_id``."""

    name: ClassVar[str] = "user_unfollowed"
    follower_id: Id
    followee_id: Id


class TokensRevoked(Event, frozen=True):
    """No token that this user was issued before this position is good any more."""

    name: ClassVar[str] = "tokens_revoked"
    user_id: Id


class UserSuspended(Event, frozen=True):
    """The operator bars an account from acting; no token that it was issued before is good any more."""

    name: ClassVar[str] = "user_suspended"
    user_id: Id


class UserReinstated(Event, frozen=True):
    """The operator lets a suspended account act again."""

    name: ClassVar[str] = "user_reinstated"
    user_id: Id


class UserUpdated(Event, frozen=True):
    """An account was changed: its profile where given, or only what it keeps in confidence, which is not here."""

    name: ClassVar[str] = "user_updated"
    user_id: Id
    display_name: Annotated[str, Meta(max_length=NAME_CHARS_MAX, pattern=_WITHOUT_NUL)] | None = None
    bio: Annotated[str, Meta(max_length=BIO_CHARS_MAX, pattern=_WITHOUT_NUL)] | None = None


class AccountDeleted(Event, frozen=True):
    """An account is gone, and its tweets with it."""

    name: ClassVar[str] = "account_deleted"
    user_id: Id


class DeadLetterReplayed(Event, frozen=True):
    """The dead letter of that position is taken up again, by every copy alike.

    Only the version that appends this is known to decode the letter as was meant, so no lower one may read it.
    """

    name: ClassVar[str] = "dead_letter_replayed"
    version: ClassVar[int] = PROJECTION_VERSION
    position: Id


class DeadLetterDropped(Event, frozen=True):
    """The dead letter of that position is given up."""

    name: ClassVar[str] = "dead_letter_dropped"
    position: Id


EVENT_TYPES: Final[dict[str, type[Event]]] = {
    event_type.name: event_type
    for event_type in (
        EpochStarted,
        UserCreated,
        TweetCreated,
        TweetDeleted,
        TweetLiked,
        TweetUnliked,
        TweetRetweeted,
        TweetUnretweeted,
        UserFollowed,
        UserUnfollowed,
        TokensRevoked,
        UserSuspended,
        UserReinstated,
        UserUpdated,
        AccountDeleted,
        DeadLetterReplayed,
        DeadLetterDropped,
    )
}


class Malformed(Exception):
    """An entry of a version we know that is no valid event; the projection makes it a dead letter.

    ``reason`` is one of a few stable words, because every copy of the projection must record the same. ``name`` is what
    it has in place of an event's.
    """

    name: Final = "malformed"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(event_type, strict=True) for name, event_type in EVENT_TYPES.items()}


def encode(event: Event) -> bytes:
    """The event's payload as compact JSON."""
    return _encoder.encode(event)


def decode(name: str, payload: bytes) -> Event:
    """Decode a payload strictly. Raises Malformed for an unknown name or an invalid payload."""
    decoder = _decoders.get(name)
    if decoder is None:
        raise Malformed("unknown_type")
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("malformed_payload") from error
