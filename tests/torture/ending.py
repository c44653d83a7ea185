"""The end of a run: what the log, every copy and Redis hold when nothing happens any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, text

from services.cli.compare import count_rows, public_tables
from services.cli.errors import CommandFailed
from services.cli.history import build_database, whole_log
from services.common import keys, projection
from services.common.database import Database
from services.common.errors import InvariantError, OperationalError
from services.common.log.client import EventLog
from services.common.log.entry import Entry
from tests.support.databases import connected
from tests.support.system import System
from tests.torture.history import Copy, Incomplete, LogEntry, Names, Record

MISCOUNTED = {
    "likes": "SELECT id FROM tweets WHERE likes <> (SELECT count(*) FROM likes WHERE tweet_id = tweets.id)",
    "retweets": "SELECT id FROM tweets WHERE retweets <> (SELECT count(*) FROM retweets WHERE tweet_id = tweets.id)",
    "replies": """SELECT t.id FROM tweets AS t LEFT JOIN
        (SELECT in_reply_to_id AS id, count(*) AS replies FROM tweets WHERE NOT deleted GROUP BY 1) AS r ON r.id = t.id
        WHERE t.reply_count <> coalesce(r.replies, 0)""",
    "followers": """SELECT id FROM users
        WHERE followers_count <> (SELECT count(*) FROM follows WHERE followee_id = users.id)""",
    "following": """SELECT id FROM users
        WHERE following_count <> (SELECT count(*) FROM follows WHERE follower_id = users.id)""",
}
"""The rows with a counter that does not equal its rows, by what is counted."""


def collect(system: System, scratch: Path) -> Iterator[Record]:
    """Everything that the checker needs besides the operations. Waits until all have applied the whole log."""
    with closing(EventLog(system.redis.url)) as log:
        head = log.head()
        try:
            system.wait_until_applied(head, timeout_seconds=120)
        except AssertionError as error:
            yield Incomplete(f"not everybody came to {head}: {error}")
        try:
            yield from _log(system, log, head, scratch)
        except (InvariantError, OperationalError, CommandFailed) as error:
            yield Incomplete(f"the whole log cannot be read: {error}")
    yield copy_of("owner", system.database)
    for reader in system.readers:
        for path in reader.directory.glob("replica/*/replica-*.db"):
            yield copy_of(reader.name, path)
    yield names_in(system)


def _log(system: System, log: EventLog, head: int, scratch: Path) -> Iterator[Record]:
    archive, rebuilt = system.owner_directory / "archive", scratch / "rebuilt.db"
    for entries in whole_log(archive, log, head):
        yield from map(_entry, entries)
    build_database(rebuilt, whole_log(archive, log, head), lambda _count: None)
    yield copy_of("rebuilt", rebuilt)


def _entry(entry: Entry) -> LogEntry:
    return LogEntry(entry.position, entry.prev, entry.name, json.loads(entry.payload))


def copy_of(holder: str, database: Database) -> Copy:
    """What a database holds."""
    with connected(database) as connection:
        return Copy(
            holder,
            projection.applied(connection).position,
            projection.table_hashes(connection),
            {table.name: count_rows(connection, table) for table in public_tables()},
            list(_miscounted(connection)),
        )


def _miscounted(connection: Connection) -> Iterator[str]:
    for counter, query in MISCOUNTED.items():
        for (row_id,) in connection.execute(text(query)):
            yield f"{counter} of {row_id}"


def names_in(system: System) -> Names:
    """The names that Redis holds for somebody; that of a deleted account is held by nobody."""
    with system.redis.client() as client:
        found = list(client.scan_iter(f"{keys.NAME_PREFIX}*", count=1000))
        holders = cast("list[bytes]", client.mget(found)) if found else []
    held = zip((name.decode().removeprefix(keys.NAME_PREFIX) for name in found), map(int, holders), strict=True)
    return Names({name: user_id for name, user_id in held if user_id > 0})
