"""The append call: what goes to append.lua and what comes back. No I/O here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from services.common import events, keys
from services.common.errors import DeadlinePassed, WritesRefused
from services.common.events import (
    AccountDeleted,
    Event,
    TokensRevoked,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    UserCreated,
    UserReinstated,
    UserSuspended,
    UserUpdated,
)
from services.common.log.idempotency import WINDOW_HOURS, IdempotencyClaim
from services.common.log.scripts import load

SCRIPT: Final = load("append", appends=True)
KEYS: Final = (
    keys.STREAM,
    keys.META,
    keys.CALLS,
    keys.NAME_PREFIX,
    keys.EMAIL_PREFIX,
    keys.CREDENTIAL_PREFIX,
    keys.DELETED,
    keys.IDEMPOTENCY_PREFIX,
    keys.IDEMPOTENCY_HOURS,
    keys.ABANDONED,
)
SEEN_ARGUMENT: Final = 3
"""Where ``seen_position`` is among the arguments of a call. It may differ from one sending to the next."""
NAME_HELD_SECONDS: Final = 30 * 24 * 3600
"""How long nobody can take the name of a deleted account, so that nobody is taken for its former holder at once."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Nothing was appended: the same was, at this position, under the same claim."""

    position: int

    def __int__(self) -> int:
        """The position."""
        return self.position


Result = int | Repeated | str
"""The position of the entry, or why there is none: already Repeated, username_taken, email_taken, id_taken, not_found,
token_revoked, account_suspended, actor_gone, idempotency_mismatch, owner_outdated, log_full."""

Argument = bytes | str | int

AccountEvent = TokensRevoked | UserSuspended | UserReinstated | UserUpdated | AccountDeleted
"""What changes ``cred:{user}``."""

REFUSALS: Final = {
    "not_started": "no owner has started the log yet: is the db-updater running?",
    "halted": "the log is halted, because a follower found acknowledged entries missing; see the db-updater's log",
    "log_forked": "the log has lost an entry that this writer has seen acknowledged: it is halted now",
    "clock_ahead": "the clock of the Redis host is more than an hour ahead of the log and of this writer: correct it",
    "deadline_passed": "the log was too busy to append in time; nothing was written",
    "deadline_forgotten": "the log has lost entries or calls; whether an earlier sending ran is not known",
    "call_superseded": "a later call of the same session came first; this one is late",
    "session_unknown": "the log has lost the session of this writer; nothing was written",
    "deadline_too_far": "the clock of the Redis host stepped back; nothing was written",
}
"""Why the log refuses a whole call, by code."""


@dataclass(frozen=True, slots=True)
class CredentialClaim:
    """What a new user gives in confidence; stored beside the log, never in it."""

    email: str
    email_hmac: str
    password_hash: str | None = None


@dataclass(frozen=True, slots=True)
class CredentialChange:
    """What an account changes in confidence; None stays as it is. A new password revokes all tokens."""

    email: str | None = None
    email_hmac: str | None = None
    password_hash: str | None = None


class TokenHolder(msgspec.Struct, frozen=True):
    """By whose token something is appended. Revoked since that token's ``position``, or gone: ``token_revoked``."""

    user_id: int
    position: int


_UNPROVEN: Final = -1
"""In place of a token's position: somebody is said to act, and need only be there and not be suspended."""


class AppendItem(msgspec.Struct, frozen=True):
    """One event to append.

    ``target`` is an id the event refers to: above the head it cannot exist, and the item is ``not_found``.
    ``credential`` is required with UserCreated, ``change`` with UserUpdated. ``holder`` is who has proved to act;
    without proof ``actor_id`` is who is said to, 0 for nobody. Under a ``claim`` it is appended once.
    """

    event: Event
    target: int = 0
    credential: CredentialClaim | None = None
    change: CredentialChange | None = None
    holder: TokenHolder | None = None
    actor_id: int = 0
    claim: IdempotencyClaim | None = None


@dataclass(frozen=True, slots=True)
class AppendCall:
    """A batch, sent as often as it takes to hear what became of it, and carried out at most once.

    A ``session`` makes one call at a time, and numbers them from 1; 0 is for a call that is sent once. ``deadline_ms``
    is in Redis's TIME and at most five seconds ahead, ``seen_position`` the greatest position this writer knows to be
    acknowledged, ``clock_ms`` its own clock in Unix milliseconds. Where ``is_full`` nothing is appended, and what was
    done before is answered all the same.
    """

    session: str
    number: int
    deadline_ms: int
    seen_position: int
    clock_ms: int
    items: Sequence[AppendItem]
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class AppendReply:
    """What the log did: its clock, its head afterwards, and a result for each item in order."""

    time_ms: int
    head: int
    results: list[Result]


def encode_call(call: AppendCall) -> list[Argument]:
    """The arguments of append.lua (its ARGV) for a call. Raises ValueError for a user without credentials."""
    arguments: list[Argument] = [
        call.session,
        call.number,
        call.deadline_ms,
        call.seen_position,
        call.clock_ms,
        NAME_HELD_SECONDS,
        WINDOW_HOURS,
        int(call.is_full),
        len(call.items),
    ]
    for item in call.items:
        event = item.event
        holder = item.holder or TokenHolder(item.actor_id, _UNPROVEN)
        claim = b"".join(item.claim) if item.claim else b""
        common = (event.name, event.version, events.encode(event), item.target, holder.user_id, holder.position, claim)
        if isinstance(event, TweetLiked):  # most of all are these and tweets
            arguments += ("plain", *common)
        elif isinstance(event, UserCreated):
            if item.credential is None:
                raise ValueError("UserCreated needs a credential claim")
            private = item.credential
            arguments += ("user", *common, event.id or 0, event.username.lower(), event.username)
            arguments += (private.email_hmac, private.email, private.password_hash or "")
        elif isinstance(event, TweetCreated):
            arguments += ("tweet", *common, event.id or 0)
        elif isinstance(event, TweetDeleted):
            arguments += ("deletion", *common, keys.deletion(event.tweet_id, event.user_id))
        elif isinstance(event, AccountEvent):
            arguments += ("account", *common, event.user_id, *_account_arguments(event, item.change))
        else:
            arguments += ("plain", *common)
    return arguments


def _account_arguments(event: AccountEvent, change: CredentialChange | None) -> tuple[Argument, ...]:
    change = change or CredentialChange()
    is_deletion = isinstance(event, AccountDeleted)
    revokes = isinstance(event, TokensRevoked | UserSuspended) or change.password_hash is not None
    suspension = {UserSuspended: "suspended", UserReinstated: "reinstated"}.get(type(event), "")
    private = (change.email_hmac or "", change.email or "", change.password_hash or "")
    return (int(is_deletion), int(revokes), suspension, *private)


def parse_reply(reply: bytes) -> AppendReply:
    """Parse append.lua's answer. Raises WritesRefused (DeadlinePassed if so) when the whole call was refused."""
    verdict, time_ms, head, *rest = reply.decode().split()
    if verdict != "ok":
        code = rest[0]
        kind = DeadlinePassed if code == "deadline_passed" else WritesRefused
        raise kind(code, REFUSALS.get(code, code))
    return AppendReply(int(time_ms), int(head), [_result(word) for word in rest])


def _result(word: str) -> Result:
    if word.isdigit():
        return int(word)
    return Repeated(int(word[1:])) if word.startswith("=") else word
