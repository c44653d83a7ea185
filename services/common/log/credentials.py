"""What accounts keep in confidence, looked up by a service in Redis, where it is written with the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final, cast

from services.common import keys
from services.common.errors import LogUnavailable
from services.common.log.client import StoredCredential
from services.common.log.redis_errors import translated
from services.common.log.redis_pool import impatient_redis

ASK_SECONDS: Final = 0.3
CONNECTIONS_MAX: Final = 8


class CredentialLookups:
    """Asks once, within ASK_SECONDS. Raises LogUnavailable when Redis does not answer."""

    def __init__(self, redis_url: str) -> None:
        self._redis = impatient_redis(redis_url, ask_seconds=ASK_SECONDS, connections_max=CONNECTIONS_MAX)

    async def of_user(self, user_id: int) -> StoredCredential | None:
        """What this account keeps; None for one that is gone, or never was."""
        async with _asking():
            fields = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(keys.credential(user_id)))
        return StoredCredential.parse(fields) if fields else None

    async def user_named(self, username: str) -> int | None:
        """The id of the account with this name, in any case."""
        return await self._user_at(keys.NAME_PREFIX + username.lower())

    async def user_with_email(self, email_hmac: str) -> int | None:
        """The id of the account with this e-mail address."""
        return await self._user_at(keys.EMAIL_PREFIX + email_hmac)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)

    async def _user_at(self, key: str) -> int | None:
        async with _asking():
            user_id = cast("bytes | None", await self._redis.get(key))
        # The name of a deleted account is held for a while, by nobody; see append.lua.
        return int(user_id) if user_id is not None and user_id.isdigit() else None


@asynccontextmanager
async def _asking() -> AsyncIterator[None]:
    try:
        with translated():
            async with asyncio.timeout(ASK_SECONDS):
                yield
    except TimeoutError as error:
        raise LogUnavailable("Redis did not answer about credentials in time") from error
