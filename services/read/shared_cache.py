"""Responses in Redis, for all processes that read one database.

None of them is trusted. Each carries the position of its rows and what it was made from, and whoever finds it judges
it by the generations of its own, as a response that it has just read: so nobody has to remove anything here, and a
response that is put here late does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from typing import Final

import msgspec

from services.common import keys
from services.common.errors import LogUnavailable
from services.common.events import PROJECTION_VERSION
from services.common.log.redis_errors import translated
from services.common.log.redis_pool import impatient_redis
from services.read.encoded import Encoded
from services.read.generations import Name
from services.read.metrics import ReadMetrics
from services.read.store import Loaded

ASK_SECONDS: Final = 0.1
AVOID_SECONDS: Final = 1.0
"""After a failure, look-ups go past the cache for so long, instead of each waiting for it."""
CONNECTIONS_MAX: Final = 16


class _Kept(msgspec.Struct, array_like=True):
    status: int
    body: bytes
    link: str | None
    read_position: int
    made_from: list[Name]


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(_Kept)


class SharedCache:
    """For the thread of the event loop. A cache that does not answer is as good as an empty one."""

    def __init__(self, cache_url: str, metrics: ReadMetrics, *, ttl_seconds: int) -> None:
        self._redis = impatient_redis(cache_url, ask_seconds=ASK_SECONDS, connections_max=CONNECTIONS_MAX)
        self._metrics = metrics
        self._ttl_seconds = ttl_seconds
        self._avoid_until = 0.0

    async def get(self, key: Hashable) -> Loaded | None:
        """What somebody put here, however old it is."""
        found = await self._ask("GET", _redis_key(key))
        self._metrics.count_shared_cache_lookup("found" if found else "absent")
        return _decode(found)

    async def put(self, key: Hashable, loaded: Loaded) -> None:
        """Keep a response for a while, if it is one to be kept."""
        encoded, made_from = loaded
        if made_from is not None:
            kept = _Kept(encoded.status, encoded.body, encoded.link, encoded.read_position, made_from)
            await self._ask("SET", _redis_key(key), _encode(kept), "EX", self._ttl_seconds)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)

    async def _ask(self, *command: str | bytes | int) -> bytes | None:
        if time.monotonic() < self._avoid_until:
            return None
        try:
            with translated():
                async with asyncio.timeout(ASK_SECONDS):
                    answer: bytes | None = await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
                    return answer
        except (LogUnavailable, TimeoutError):
            self._avoid_until = time.monotonic() + AVOID_SECONDS
            self._metrics.count_shared_cache_lookup("unavailable")
            return None


def _redis_key(key: Hashable) -> str:
    return keys.response(PROJECTION_VERSION, msgspec.json.encode(key).decode())


def _decode(found: bytes | None) -> Loaded | None:
    """What was kept; None for what another version of this program has kept."""
    if found is None:
        return None
    try:
        kept = _decoder.decode(found)
    except msgspec.MsgspecError:
        return None
    return Loaded(Encoded(kept.status, kept.body, kept.link, kept.read_position), kept.made_from)
