"""The end of a run: what the log, every copy and Redis hold when nothing happens any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from services.cli.errors import CommandFailed
from services.cli.history import build_database, whole_log
from services.common import keys
from services.common.errors import InvariantError, OperationalError
from services.common.log.client import EventLog
from tests.support.system import System
from tests.torture.copies import describe, describe_entry
from tests.torture.history import Copy, Incomplete, LogEntry, Names, Record


def collect(system: System, patience_seconds: float = 120) -> Iterator[Record]:
    """Everything that the checker needs besides the operations. Waits until all have applied the whole log."""
    with closing(EventLog(system.redis.url)) as log:
        head = log.head()
        try:
            system.wait_until_applied(head, patience_seconds)
        except AssertionError as error:
            yield Incomplete(f"not everybody came to {head}: {error}")
        try:
            yield from _log(system, log, head)
        except (InvariantError, OperationalError, CommandFailed) as error:
            yield Incomplete(f"the whole log cannot be read: {error}")
    yield Copy(**describe("owner", system.database))
    for reader in system.readers:
        for path in reader.directory.glob("replica/*/replica-*.db"):
            yield Copy(**describe(reader.name, path))
    yield names_in(system)


def _log(system: System, log: EventLog, head: int) -> Iterator[Record]:
    archive = system.owner_directory / "archive"
    for entries in whole_log(archive, log, head):
        yield from (LogEntry(**describe_entry(entry)) for entry in entries)
    with TemporaryDirectory(prefix="twitter-rebuilt-") as directory:
        rebuilt = Path(directory) / "rebuilt.db"
        build_database(rebuilt, whole_log(archive, log, head), lambda _count: None)
        yield Copy(**describe("rebuilt", rebuilt))


def names_in(system: System) -> Names:
    """The names that Redis holds for somebody; that of a deleted account is held by nobody."""
    with system.redis.client() as client:
        found = list(client.scan_iter(f"{keys.NAME_PREFIX}*", count=1000))
        holders = cast("list[bytes]", client.mget(found)) if found else []
    held = zip((name.decode().removeprefix(keys.NAME_PREFIX) for name in found), map(int, holders), strict=True)
    return Names({name: user_id for name, user_id in held if user_id > 0})
