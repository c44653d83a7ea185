"""The append alone: one EVALSHA from Python with the same writes and the same fsync, one after another.

``python -m bench.baselines.evalsha``, told by REDIS_URL, USER_ID, CALLS; prints the median of the latencies in ms. The
arguments are made before the clock starts, so this is redis-py, the network, the script and the fsync, and no more.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from redis import Redis

from services.common import keys
from services.common.events import TweetCreated
from services.common.log.append import KEYS, SCRIPT, AppendCall, AppendItem, TokenHolder, encode_call, parse_reply

_DEADLINE_MS: Final = 2_000


class Session:
    """Numbers the calls of a connection, as a writer does."""

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex
        self._number = 0

    def arguments_of(self, items: Sequence[AppendItem], head: int) -> tuple[Any, ...]:
        """What the script is given for the next call, by somebody who has seen the log up to ``head``."""
        self._number += 1
        now_ms = time.time_ns() // 1_000_000
        call = AppendCall(self._name, self._number, now_ms + _DEADLINE_MS, head, now_ms, items)
        return len(KEYS), *KEYS, *encode_call(call)


def latencies_ms(redis_url: str, user_id: int, calls: int) -> Iterator[float]:
    """How long each of so many calls took."""
    with Redis.from_url(redis_url, protocol=2) as redis:
        sha = redis.script_load(SCRIPT)
        head, session = int(cast("bytes", redis.hget(keys.META, "head"))), Session()
        for number in range(calls):
            item = AppendItem(
                TweetCreated(user_id, f"one call after another, this is the {number}th"),
                target=user_id,
                holder=TokenHolder(user_id, head),
            )
            arguments = session.arguments_of([item], head)
            began_at = time.perf_counter()
            reply = redis.evalsha(sha, *arguments)
            yield (time.perf_counter() - began_at) * 1000
            head = parse_reply(cast("bytes", reply)).head


if __name__ == "__main__":
    found = list(latencies_ms(os.environ["REDIS_URL"], int(os.environ["USER_ID"]), int(os.environ["CALLS"])))
    sys.stdout.write(f"{statistics.median(found)}\n")
