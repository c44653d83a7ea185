"""Connections to a Redis that is asked once and within a time, because whoever asks has another answer ready."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis

from services.common.log.redis_url import connection_pool


def impatient_redis(redis_url: str, *, ask_seconds: float, connections_max: int) -> Redis:
    """A client without retries, on a pool that is waited for no longer than ``ask_seconds``, nor any of its sockets.

    Each of these waits has that time for itself: who asks still needs a timeout around the whole. Close it with
    ``aclose(close_connection_pool=True)``.
    """
    pool = connection_pool(
        redis_url,
        BlockingConnectionPool,
        max_connections=connections_max,
        timeout=ask_seconds,
        socket_timeout=ask_seconds,
        socket_connect_timeout=ask_seconds,
    )
    return Redis.from_pool(pool)
