"""What became of a command: from the log's answer to what the client hears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from services.common.auth import suspended, unauthorized
from services.common.errors import TwitterError, WritesRefused
from services.common.log.append import Repeated, Result
from services.write.errors import LogFull
from services.write.existence import Kind, not_found
from services.write.idempotency import idempotency_mismatch

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Written(msgspec.Struct, Generic[T_co], frozen=True):
    """What a command made, and its position in the log; ``is_repeated`` if it was made before, under the same key."""

    position: int
    value: T_co
    is_repeated: bool = False


Finish = Callable[["Written[T] | Exception"], None]
"""Called once, with what a command made, or with the error that its method would raise."""


def done(result: Result, kind: Kind) -> tuple[int, bool]:
    """The position of what was appended, and whether it was there before. Raises ClientError for a refusal."""
    if type(result) is int:
        return result, False
    if isinstance(result, Repeated):
        return result.position, True
    if result == "token_revoked":
        raise unauthorized("token_revoked", "This token has been revoked")
    if result == "account_suspended":
        raise suspended()
    if result == "log_full":
        raise LogFull("the log has reached its bytes, or Redis its memory; nothing was written")
    if result == "owner_outdated":
        raise WritesRefused("owner_outdated", "the db-updater does not know this kind of event yet: upgrade it")
    if result == "idempotency_mismatch":
        raise idempotency_mismatch()
    raise not_found(Kind.USER if result == "actor_gone" else kind)


def attempt(make: Callable[[Result], Written[T]], result: Result | Exception) -> Written[T] | Exception:
    """What is made of a result, or the error that it stands for."""
    if isinstance(result, Exception):
        return result
    try:
        return make(result)
    except TwitterError as error:
        return error
