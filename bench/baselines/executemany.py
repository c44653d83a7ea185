"""The rows of a backlog as plain sqlite3.executemany writes them: no reading, no deciding, no archive, no log.

The same database file, the same pragmas, the same number of events to a transaction.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.backlog import Written
from bench.data import chunks
from services.common.database.sqlite import CACHE_KIB, sqlite_library
from services.common.events import TweetCreated, TweetLiked, TweetRetweeted, UserFollowed

Batch = list[tuple[str, list[tuple[object, ...]]]]
"""Statements and the rows of each, of one transaction."""

_TWEET: Final = (
    "INSERT INTO tweets (id, user_id, content, likes, retweets, reply_count, deleted, position) "
    "VALUES (?, ?, ?, 0, 0, 0, 0, ?)"
)
_LIKE: Final = "INSERT INTO likes (tweet_id, liker_id, position) VALUES (?, ?, ?)"
_RETWEET: Final = "INSERT INTO retweets (tweet_id, retweeter_id, position) VALUES (?, ?, ?)"
_FOLLOW: Final = "INSERT INTO follows (follower_id, followee_id, position) VALUES (?, ?, ?)"
_TWEET_COUNTERS: Final = "UPDATE tweets SET likes = likes + ?, retweets = retweets + ? WHERE id = ?"
_USER_COUNTERS: Final = (
    "UPDATE users SET followers_count = followers_count + ?, following_count = following_count + ? WHERE id = ?"
)
_POSITION: Final = "UPDATE applied SET position = ?, entries = entries + ?"


def batches(written: Sequence[Written], events_per_batch: int) -> list[Batch]:
    """What to write for these events."""
    return [_batch(some) for some in chunks(written, events_per_batch)]


def rows_per_second(database: Path, work: Sequence[Batch], events: int) -> float:
    """Write it and say how many events a second that was."""
    connection = sqlite_library().connect(database, isolation_level=None)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}")
        began_at = time.perf_counter()
        for batch in work:
            connection.execute("BEGIN IMMEDIATE")
            for statement, rows in batch:
                connection.executemany(statement, rows)
            connection.execute("COMMIT")
        return events / (time.perf_counter() - began_at)
    finally:
        connection.close()


def _batch(written: Sequence[Written]) -> Batch:
    rows: defaultdict[str, list[tuple[object, ...]]] = defaultdict(list)
    tweets: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    users: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    for position, event in written:
        match event:
            case TweetCreated():
                rows[_TWEET].append((position, event.user_id, event.content, position))
            case TweetLiked():
                rows[_LIKE].append((event.tweet_id, event.user_id, position))
                tweets[event.tweet_id][0] += 1
            case TweetRetweeted():
                rows[_RETWEET].append((event.tweet_id, event.user_id, position))
                tweets[event.tweet_id][1] += 1
            case UserFollowed():
                rows[_FOLLOW].append((event.follower_id, event.followee_id, position))
                users[event.followee_id][0] += 1
                users[event.follower_id][1] += 1
    rows[_TWEET_COUNTERS] = [(*changes, tweet_id) for tweet_id, changes in sorted(tweets.items())]
    rows[_USER_COUNTERS] = [(*changes, user_id) for user_id, changes in sorted(users.items())]
    rows[_POSITION] = [(written[-1][0], len(written))]
    return [(statement, sorted(some) if statement in _KEYED else some) for statement, some in rows.items()]


_KEYED: Final = (_LIKE, _RETWEET, _FOLLOW)
"""Their keys are not in the order of the log: sorted, as who knows all the rows of a batch would write them."""
