"""append.lua on a real server, but with a clock that the test sets: TIME is read from a key instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from redis import Redis

from services.common import keys
from services.common.ids import unix_ms_of
from services.common.log.append import KEYS, SCRIPT, AppendCall, AppendItem, AppendReply, encode_call, parse_reply
from services.common.log.client import EventLog
from services.common.log.scripts import load

_CLOCK_KEY = "test:time"


def _on_test_clock(script: str) -> str:
    assert script.count("redis.call('TIME')") == 1
    return script.replace("redis.call('TIME')", f"redis.call('LRANGE', '{_CLOCK_KEY}', 0, -1)")


class ScriptedLog:
    """A started log whose time is ``now_ms``; the writer's own clock follows it unless told otherwise."""

    def __init__(self, url: str, now_ms: int = 1_800_000_000_000) -> None:
        self.url = url
        self.redis: Redis = Redis.from_url(url, protocol=2)
        self._append = self.redis.register_script(_on_test_clock(SCRIPT))
        self._start_epoch = self.redis.register_script(_on_test_clock(load("start_epoch", appends=True)))
        self.set_time(now_ms)

    @classmethod
    def started(cls, url: str, now_ms: int = 1_800_000_000_000) -> Self:
        """One whose first epoch has begun."""
        log = cls(url, now_ms)
        log.start()
        return log

    def set_time(self, now_ms: int) -> None:
        """Set the clock of the server."""
        self.now_ms = now_ms
        with self.redis.pipeline() as pipe:
            pipe.delete(_CLOCK_KEY)
            pipe.rpush(_CLOCK_KEY, now_ms // 1000, now_ms % 1000 * 1000)
            pipe.execute()

    def start(self) -> int:
        """Start the first epoch as an owner does; returns its position."""
        self.redis.hset(keys.META, "fence", "1")
        arguments: list[str | int] = [1, 1, 0, 0, 0, 0, self.now_ms, "epoch_started", 1, '{"epoch":1}']
        return int(self._start_epoch(keys=[keys.STREAM, keys.META, keys.CALLS, keys.DELETED], args=arguments))

    def call(
        self,
        items: Sequence[AppendItem],
        *,
        session: str = "",
        number: int = 0,
        deadline_ms: int | None = None,
        seen_position: int = 0,
        clock_ms: int | None = None,
    ) -> AppendReply:
        """Append a batch; raises WritesRefused as the real client does."""
        call = AppendCall(
            session=session,
            number=number,
            deadline_ms=self.now_ms + 800 if deadline_ms is None else deadline_ms,
            seen_position=seen_position,
            clock_ms=self.now_ms if clock_ms is None else clock_ms,
            items=items,
        )
        return parse_reply(self._append(keys=KEYS, args=encode_call(call)))

    def positions(self) -> list[int]:
        """The positions of all entries, in log order, read from their entry ids."""
        log = EventLog(self.url)
        try:
            return [entry.position for entry in log.read(0, entries_max=100_000)]
        finally:
            log.close()

    def last_ms(self) -> int:
        """The millisecond of the newest entry."""
        return unix_ms_of(self.positions()[-1])
