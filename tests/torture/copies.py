"""What a database holds, as the checker wants it.

Needs nothing but the services, so that it also runs in a pod that has no tests: ``python -c SOURCE owner`` prints the
log and the tables of the owner there, ``python -c SOURCE reader`` those of the replicas, a line of JSON each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, func, select, text

from services.common import projection
from services.common.archive import read_archive
from services.common.database import Database, open_reader
from services.common.log.entry import Entry
from services.common.models import Applied, Public
from services.common.settings import load

MISCOUNTED: Final = {
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


def describe_entry(entry: Entry) -> dict[str, Any]:
    """The fields of a history's LogEntry."""
    return {
        "position": entry.position,
        "prev": entry.prev,
        "name": entry.name,
        "event": json.loads(entry.payload),
    }


def describe(holder: str, database: Database) -> dict[str, Any]:
    """The fields of a history's Copy."""
    engine = open_reader(database)
    try:
        with engine.begin() as connection:
            tables = [table for table in Public.metadata.sorted_tables if table.name != Applied.__tablename__]
            return {
                "holder": holder,
                "position": projection.applied(connection).position,
                "hashes": projection.table_hashes(connection),
                "rows": {
                    table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                    for table in tables
                },
                "miscounted": list(_miscounted(connection)),
            }
    finally:
        engine.dispose()


def _miscounted(connection: Connection) -> Iterator[str]:
    for counter, query in MISCOUNTED.items():
        for (row_id,) in connection.execute(text(query)):
            yield f"{counter} of {row_id}"


def _of_this_pod(service: str) -> Iterator[dict[str, Any]]:
    if service == "owner":
        from services.db_updater.settings import OwnerSettings  # noqa: PLC0415 - an image has one service

        owner = load(OwnerSettings)
        for entries in read_archive(owner.archive_directory):
            yield from map(describe_entry, entries)
        yield describe("owner", owner.database)
    else:
        from services.read.settings import ReadSettings  # noqa: PLC0415

        for path in load(ReadSettings).replica_dir.glob("*/replica-*.db"):
            yield describe(f"{path.parent.name}", path)


if __name__ == "__main__":
    for each in _of_this_pod(sys.argv[1]):
        sys.stdout.write(json.dumps(each) + "\n")
