"""Connections to a Redis that is asked once and within a time, because whoever asks has another answer ready."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def impatient_redis(redis_url: str, *, ask_seconds: float, connections_max: int) -> Redis:
    """A client without retries, on a pool that is waited for no longer than ``ask_seconds``, nor any of its sockets.

    Each of these waits has that time for itself: who asks still needs a timeout around the whole. Close it with
    ``aclose(close_connection_pool=True)``.
    """
    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=connections_max,
        timeout=ask_seconds,
        socket_timeout=ask_seconds,
        socket_connect_timeout=ask_seconds,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    return Redis.from_pool(pool)
