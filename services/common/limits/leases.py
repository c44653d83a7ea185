"""Taking leases from Redis: whatever is asked for while a call is under way goes into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, cast

import structlog

from services.common.errors import LogUnavailable
from services.common.limits.metrics import LimitMetrics
from services.common.log.redis_errors import translated
from services.common.log.redis_pool import impatient_redis

ASK_SECONDS: Final = 0.1
AWAY_SECONDS: Final = 1.0
"""How long Redis is not asked again after it did not answer: meanwhile nobody waits for it."""
CALL_LEASES_MAX: Final = 256

_SCRIPT: Final = Path(__file__).with_name("lease.lua").read_text(encoding="utf-8")

log = structlog.get_logger(__name__)


class Wanted(NamedTuple):
    """A lease to be asked for: of the counter ``key``, which ``spent`` units are charged to in any case."""

    key: str
    spent: int
    units: int
    quota: int
    life_seconds: int


class Lease(NamedTuple):
    """Units granted, and units of the quota that are used up now in all, this lease among them."""

    granted: int
    used: int


class Leases:
    """For one event loop. One call is under way at a time, so that on the log's Redis there is one fsync for many."""

    def __init__(self, redis_url: str, metrics: LimitMetrics, *, ask_seconds: float = ASK_SECONDS) -> None:
        self._redis = impatient_redis(redis_url, ask_seconds=ask_seconds, connections_max=1)
        self._script = self._redis.register_script(_SCRIPT)
        self._metrics = metrics
        self._ask_seconds = ask_seconds
        self._asked: list[tuple[Wanted, asyncio.Future[Lease | None]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._away_until = 0.0

    async def take(self, wanted: Wanted) -> Lease | None:
        """A lease, of nothing if the quota is exhausted; None, after ``ask_seconds``, if Redis does not answer."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            return None
        answer: asyncio.Future[Lease | None] = loop.create_future()
        self._asked.append((wanted, answer))
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        return await answer

    async def aclose(self) -> None:
        """Close the connection."""
        if self._sending is not None:
            self._sending.cancel()
            with suppress(asyncio.CancelledError):
                await self._sending
        await self._redis.aclose(close_connection_pool=True)

    async def _send(self) -> None:
        try:
            while self._asked:
                batch = self._asked[:CALL_LEASES_MAX]
                del self._asked[:CALL_LEASES_MAX]
                await self._answer(batch)
        finally:
            self._sending = None

    async def _answer(self, batch: list[tuple[Wanted, asyncio.Future[Lease | None]]]) -> None:
        try:
            leases = await self._call([wanted for wanted, _ in batch])
        except BaseException:  # a bug, or we are closed: nobody may wait for ever
            for _, answer in batch:
                answer.cancel()
            raise
        for (_, answer), lease in zip(batch, leases, strict=True):
            self._metrics.count_lease(_result_of(lease))
            if not answer.done():
                answer.set_result(lease)

    async def _call(self, batch: list[Wanted]) -> list[Lease | None]:
        arguments = [n for w in batch for n in (w.spent, w.units, w.quota, w.life_seconds * 1000)]
        try:
            with translated():
                async with asyncio.timeout(self._ask_seconds):
                    keys = [wanted.key for wanted in batch]
                    answers = await cast("Awaitable[list[list[int]]]", self._script(keys, arguments))
        except (LogUnavailable, TimeoutError) as error:
            self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
            log.warning("limits_counted_alone", reason=repr(error), for_seconds=AWAY_SECONDS)
            return [None] * len(batch)
        return [Lease(granted, used) for granted, used in answers]


def _result_of(lease: Lease | None) -> str:
    if lease is None:
        return "unavailable"
    return "granted" if lease.granted else "exhausted"
