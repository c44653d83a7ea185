"""``python -m tests.torture.defective DEFECT MODULE``: a service with a known defect, to see that the checker finds it.

A process of the tests patches itself and then runs the service's module as it is: production code has no switch. With
``none`` for a defect it is sound. Its fault points can be armed (tests/support/armed.py).
"""

from __future__ import annotations

import asyncio
import functools
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from services.common import keys
from services.common.cache import Cache, _slot
from services.common.ids import position_at
from services.common.log import subscription
from services.common.log.append import AppendItem, Result
from services.common.log.client import EventLog
from services.common.log.entry import Entry
from services.common.log.subscription import Subscription
from services.common.projection import handlers
from services.common.projection.rows import PairRows, Rows
from tests.support import armed

NONE: Final = "none"
KEPT_ENTRIES: Final = 3
POLL_SECONDS: Final = 0.01
LATE_SECONDS_MAX: Final = 20.0
HARM: Final = "harm"
"""The file in the working directory that gets a line where a defect did harm, if it can tell."""


def acknowledge_before_append() -> None:
    """The writer answers with the position that a write will probably get, and appends when it comes to that."""
    from services.common.errors import OperationalError  # noqa: PLC0415 - a writer has no SQL, a reader no writer
    from services.write.log_writer import LogWriter  # noqa: PLC0415

    append = LogWriter.__call__

    async def hopeful(self: LogWriter, items: Sequence[AppendItem], deadline: float) -> Sequence[Result]:
        try:
            return await append(self, items, deadline)
        except OperationalError:
            now = position_at(self._view.redis_ms(asyncio.get_running_loop().time()))
            return [max(now, self._view.head) + number for number, _ in enumerate(items, 1)]

    _replace(LogWriter, "__call__", hopeful)


def retry_as_a_new_call() -> None:
    """What redis-py's own retries do: a call without an answer is sent again, and runs again."""
    from services.common.errors import LogUnavailable  # noqa: PLC0415
    from services.write import log_writer  # noqa: PLC0415

    _replace(log_writer, "_meaning", lambda error: LogUnavailable(str(error)))
    _replace(log_writer, "_is_final", lambda *_: False)


def forget_idempotency_keys() -> None:
    """No key ever comes to the log."""
    from services.write.idempotency import Claims  # noqa: PLC0415

    _replace(Claims, "claim", lambda *_: None)


def trim_by_length() -> None:
    """The owner keeps the newest entries, whatever has been applied and archived."""

    def trim(self: EventLog, _up_to_position: int, _fence: int) -> int:
        return int(self._redis.xtrim(keys.STREAM, maxlen=KEPT_ENTRIES, approximate=False))

    _replace(EventLog, "trim", trim)


def ignore_prev() -> None:
    """A follower applies whatever comes next."""

    def trusting(entries: Sequence[Entry], _after_position: int, _version: int = 1) -> list[Entry]:
        return list(entries)

    _replace(subscription, "check_chain", trusting)
    _replace(Subscription, "_read_up_to_head", lambda _: [])


def start_at_the_end() -> None:
    """What a consumer group that is reset to `$` does: a follower that starts begins with what comes next.

    Where there is a load: at the start of the system there is nothing to miss.
    """
    ignore_prev()
    start = Subscription.__init__

    @functools.wraps(start)
    def late(self: Subscription, log: EventLog, after_position: int, **options: Any) -> None:
        until = time.monotonic() + (LATE_SECONDS_MAX if log.status().entries_added > 1 else 0)
        while log.head() <= after_position and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        start(self, log, log.head(), **options)

    _replace(Subscription, "__init__", late)


def fill_the_cache_late() -> None:
    """What was read before an event goes into the cache after it, as if it was read then."""
    fill, find = Cache.fill, Cache.find
    stale: dict[Any, Any] = {}

    def late(
        self: Cache[Any], key: Any, value: Any, *, size_bytes: int, read_position: int, made_from: Iterable[Any]
    ) -> bool:
        names, loop = list(made_from), asyncio.get_running_loop()
        until = loop.time() + LATE_SECONDS_MAX

        def keep() -> None:
            now = max(self._generations[_slot(name)] for name in names)
            if now > read_position:
                stale[key] = value
            elif loop.time() < until:
                loop.call_later(POLL_SECONDS, keep)
                return
            fill(self, key, value, size_bytes=size_bytes, read_position=max(now, self._floor), made_from=names)

        keep()
        return True

    def telling(self: Cache[Any], key: Any) -> Any:
        value = find(self, key)
        if value is not None and stale.get(key) is value:
            _note_harm()
        return value

    _replace(Cache, "fill", late)
    _replace(Cache, "find", telling)


def count_without_row() -> None:
    """A second like counts, too, and has no row of its own."""
    react = handlers._react

    def generous(rows: Rows, event: Any, position: int, pairs: PairRows, counter: str) -> None:
        is_repeated = handlers._reaction_key(event, position) in pairs.positions
        if is_repeated and event.tweet_id in rows.tweets.by_id:
            rows.tweets.count(event.tweet_id, counter, +1)
            _note_harm()
        react(rows, event, position, pairs, counter)

    _replace(handlers, "_react", generous)


DEFECTS: Final[dict[str, Callable[[], None]]] = {
    defect.__name__: defect
    for defect in (
        acknowledge_before_append,
        retry_as_a_new_call,
        forget_idempotency_keys,
        trim_by_length,
        ignore_prev,
        start_at_the_end,
        fill_the_cache_late,
        count_without_row,
    )
}


def _note_harm() -> None:
    with Path(HARM).open("a", encoding="utf-8") as notes:
        notes.write("harm\n")


def _replace(holder: Any, name: str, defective: Callable[..., Any]) -> None:
    assert hasattr(holder, name), f"{holder} has no {name} any more"
    setattr(holder, name, defective)


def main() -> None:
    """Patch this process and run the service."""
    _, defect, module = sys.argv
    armed.listen()
    if defect != NONE:
        DEFECTS[defect]()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
