"""The home timeline as one plain SQL statement: join, sort, limit.

SQLite has two ways to run it. By the index of each author's tweets it reads all tweets of everybody followed; that is
what it chooses where the condition is written as the index has it. Back from the newest tweet it reads all tweets of
everybody, which ends soon where those followed write much of what is written, and late where they do not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.common.database.sqlite import CACHE_KIB, sqlite_library

_HOME: Final = """
SELECT tweets.id, tweets.content, tweets.likes, tweets.retweets, users.id, users.username, users.followers_count
FROM follows
JOIN tweets ON tweets.user_id = follows.followee_id
JOIN users ON users.id = tweets.user_id
WHERE follows.follower_id = ? AND tweets.deleted {comparison} 0
ORDER BY tweets.id DESC
LIMIT 20
"""
BY_INDEX: Final = _HOME.format(comparison="IS")
BY_SCAN: Final = _HOME.format(comparison="=")


def seconds_each(database: Path, user_ids: Sequence[int], statement: str = BY_INDEX) -> list[float]:
    """How long a statement takes for each of these users, on one connection with the readers' pragmas."""
    connection = sqlite_library().connect(database)
    try:
        for pragma in ("query_only=1", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}")
        found = []
        for user_id in user_ids:
            began_at = time.perf_counter()
            connection.execute(statement, (user_id,)).fetchall()
            found.append(time.perf_counter() - began_at)
        return found
    finally:
        connection.close()
