"""Redis's ways to fail, translated once at the border."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis import exceptions as redis_errors

from services.common.errors import LogUnavailable

_PASSING: Final = (
    redis_errors.ConnectionError,  # refused, cut, loading, wrong password
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,
    redis_errors.OutOfMemoryError,
)
_PASSING_WORDS: Final = ("OOM", "MISCONF", "BUSY ", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "LOADING", "UNKILLABLE")
"""Answers of a server that cannot serve now; redis-py has no class of their own for most of them."""


def is_passing(error: redis_errors.RedisError) -> bool:
    """Whether the same command may succeed later without anybody changing the program."""
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS)


@contextmanager
def translated() -> Iterator[None]:
    """Raise LogUnavailable for what passes; let a bug (wrong type, wrong arguments) through as it is."""
    try:
        yield
    except redis_errors.RedisError as error:
        if is_passing(error):
            raise LogUnavailable(f"Redis: {error}") from error
        raise
