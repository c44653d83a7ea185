"""Tweets straight into the log at a given rate, in batches as large as the write service's.

``python -m bench.feeder``, told by REDIS_URL, RATE, SECONDS and USER_IDS (with commas); prints BEGINS, and at the end
how many a second it appended. It stands for a writer on a core of its own, which a machine of two cores does not have
beside a reader.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from typing import Final

from services.common.events import TweetCreated
from services.common.log.append import AppendItem
from services.common.log.client import EventLog

BATCH_SECONDS: Final = 0.005
BEGINS: Final = "begins\n"


def feed(log: EventLog, user_ids: list[int], rate: float, seconds: float) -> float:
    """Append for so long; returns the rate reached."""
    began_at = time.monotonic()
    appended = 0
    while (elapsed := time.monotonic() - began_at) < seconds:
        due = int(rate * elapsed) - appended
        if due > 0:
            log.append([_tweet(user_ids, appended + number) for number in range(due)])
            appended += due
        time.sleep(BATCH_SECONDS)
    return appended / elapsed


def _tweet(user_ids: list[int], number: int) -> AppendItem:
    text = f"a tweet of about eighty characters, as most of them are, with a number: {number}"
    return AppendItem(TweetCreated(user_ids[number % len(user_ids)], text))


if __name__ == "__main__":
    users = [int(text) for text in os.environ["USER_IDS"].split(",")]
    with closing(EventLog(os.environ["REDIS_URL"], timeout_seconds=10)) as the_log:
        sys.stdout.write(BEGINS)
        sys.stdout.flush()
        reached = feed(the_log, users, float(os.environ["RATE"]), float(os.environ["SECONDS"]))
    sys.stdout.write(f"{reached:.1f}\n")
