"""How one asks a part whether it is ready."""

from __future__ import annotations

from typing import Final

import httpx
import redis.asyncio
from redis.exceptions import RedisError

from services.cli.dev.part import Readiness

PROBE_TIMEOUT_SECONDS: Final = 1.0


def http_readiness(base_url: str) -> Readiness:
    """A service is ready when ``/healthz/ready`` says 200."""

    async def reason() -> str | None:
        try:
            async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_SECONDS, trust_env=False) as client:
                answer = await client.get(f"{base_url}/healthz/ready")
        except httpx.HTTPError as error:
            return f"{base_url} does not answer ({type(error).__name__})"
        return None if answer.status_code == httpx.codes.OK else answer.text.strip()

    return reason


def redis_readiness(redis_url: str) -> Readiness:
    """Redis is ready when it answers PING, so not while it loads its file."""

    async def reason() -> str | None:
        client = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=PROBE_TIMEOUT_SECONDS, socket_connect_timeout=PROBE_TIMEOUT_SECONDS
        )
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            return str(error)
        finally:
            await client.aclose()
        return None

    return reason
