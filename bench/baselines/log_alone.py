"""What the log takes: calls of new tweets, or of likes, two at a time, that no client had to send.

``python -m bench.baselines.log_alone``, told by REDIS_URL, USER_ID, LIKED_ID (0: tweets), SECONDS and ITEMS; prints
entries a second. Where clients wait for their answers, there are never more items under way than clients. With half of
them in one call, and the others on their way while Redis is busy with it, a server can hardly have Redis append more.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Final, cast

from redis import Redis

from bench.baselines.evalsha import Session
from services.common import keys
from services.common.events import TweetCreated, TweetLiked
from services.common.log.append import SCRIPT, AppendItem, TokenHolder, parse_reply

CALLS_AT_A_TIME: Final = 2
_TEXT: Final = "a tweet of about eighty characters, as most of them are, with a number: 1000000"


def appended(redis: Redis, user_id: int, liked_id: int, items: int, until: float) -> int:
    """Append so many entries a call, one call after another; returns how many the log has taken."""
    sha = redis.script_load(SCRIPT)
    head = int(cast("bytes", redis.hget(keys.META, "head")))
    holder = TokenHolder(user_id, head)
    if liked_id:
        item = AppendItem(TweetLiked(liked_id, user_id), target=liked_id, holder=holder)
    else:
        item = AppendItem(TweetCreated(user_id, _TEXT), target=user_id, holder=holder)
    count, session = 0, Session()
    while time.monotonic() < until:
        reply = parse_reply(cast("bytes", redis.evalsha(sha, *session.arguments_of([item] * items, head))))
        head = reply.head
        count += sum(isinstance(result, int) for result in reply.results)
    return count


def main() -> None:
    """Append from as many threads as there are calls at a time, and print the rate."""
    url, seconds = os.environ["REDIS_URL"], float(os.environ["SECONDS"])
    user_id, liked_id, items = (int(os.environ[name]) for name in ("USER_ID", "LIKED_ID", "ITEMS"))
    counts: list[int] = []
    until = time.monotonic() + seconds

    def run() -> None:
        with Redis.from_url(url, protocol=2) as redis:
            counts.append(appended(redis, user_id, liked_id, items, until))

    threads = [threading.Thread(target=run) for _ in range(CALLS_AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == CALLS_AT_A_TIME, "a thread has failed"
    sys.stdout.write(f"{sum(counts) / seconds}\n")


if __name__ == "__main__":
    main()
