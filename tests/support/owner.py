"""An owner in the test's own process, over files of the test and a real Redis."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry
from sqlalchemy import select

from services.common import projection
from services.common.archive import read_archive
from services.common.database import Database, open_reader, open_writer
from services.common.events import Event, TweetCreated, UserCreated
from services.common.log.append import AppendItem, CredentialClaim
from services.common.log.client import EventLog
from services.common.log.entry import Entry
from services.common.models import Credential
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.owner import Owner
from services.db_updater.volume import Volume
from tests.support.databases import database_in, open_private_reader
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually

REBUILD_BATCH_ENTRIES = 11


@dataclass
class RunningOwner:
    """An owner that follows the log in a thread, until the ``following`` block ends."""

    owner: Owner
    volume: Volume
    registry: CollectorRegistry
    thread: threading.Thread | None = None
    failure: BaseException | None = None

    def wait_until_applied(self, position: int) -> None:
        """Wait until it has applied the log up to a position, and archived that."""
        eventually(
            lambda: self.volume.archive.position >= position or not self.is_running,
            describe=lambda: f"waiting for {position}: {self.owner.position}, {self.owner.readiness()}",
        )
        assert self.volume.archive.position >= position, f"the owner ended: {self.failure!r}"

    def wait_until_ready(self) -> None:
        """Wait until it applies entries as they come."""
        eventually(lambda: self.owner.readiness() is None, describe=self.owner.readiness)

    def wait_until_refused(self, reason: str) -> None:
        """Wait until it says a reason why it applies nothing."""
        eventually(lambda: reason in (self.owner.readiness() or ""), describe=self.owner.readiness)

    def wait_until_left(self) -> None:
        """Wait until run() has ended."""
        eventually(lambda: not self.is_running, describe=self.owner.readiness)

    def wait_until_failed(self) -> BaseException:
        """Wait until run() has raised, and return what."""
        eventually(lambda: not self.is_running, describe=self.owner.readiness)
        assert self.failure is not None
        return self.failure

    def wait_until_epoch(self, epoch: int) -> None:
        """Wait until it has started an epoch, applied it, and goes on."""
        eventually(
            lambda: self.volume.applied.epoch >= epoch and self.owner.readiness() is None,
            describe=lambda: f"epoch {self.volume.applied.epoch}, {self.owner.readiness()}, {self.failure!r}",
        )
        self.wait_until_applied(self.owner.position)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 before it was ever set."""
        return self.registry.get_sample_value(name, labels) or 0.0

    @property
    def is_running(self) -> bool:
        """Whether the thread that follows the log is alive."""
        return self.thread is not None and self.thread.is_alive()


@contextmanager
def following(
    directory: Path,
    redis_url: str,
    *,
    retention_seconds: int = 3600,
    grace_seconds: float = 0.05,
    **options: Any,
) -> Iterator[RunningOwner]:
    """An owner whose volume is this directory; it has left, and its files are closed, when the block ends."""
    registry = CollectorRegistry()
    with closing(open_volume(directory)) as volume, closing(EventLog(redis_url)) as log:
        metrics = OwnerMetrics(registry)
        owner = Owner(volume, log, metrics, retention_seconds=retention_seconds, grace_seconds=grace_seconds, **options)
        running = RunningOwner(owner, volume, registry)

        def run() -> None:
            try:
                owner.run()
            except BaseException as error:  # noqa: BLE001 - the test asks for it
                running.failure = error

        running.thread = threading.Thread(target=run)
        running.thread.start()
        try:
            yield running
        finally:
            owner.stop()
            running.thread.join()


def database_path(directory: Path) -> Path:
    """Where an owner of this directory keeps the public database, in a test that is about SQLite files."""
    path = database_in(directory)
    assert isinstance(path, Path)
    return path


def archive_path(directory: Path) -> Path:
    """Where an owner of this directory keeps the archive."""
    return directory / "archive"


def open_volume(directory: Path) -> Volume:
    """The files of this directory, as their owner opens them."""
    return Volume(database_in(directory), directory, archive_path(directory))


def user(name: str, **more: Any) -> AppendItem:
    """A new account with credentials of its own."""
    return AppendItem(
        UserCreated(username=name, **more),
        credential=CredentialClaim(f"{name}@example.com", f"hmac of {name}", f"hash of {name}"),
    )


def tweet(user_id: int, content: str = "hello") -> AppendItem:
    """A tweet of an account."""
    return AppendItem(TweetCreated(user_id=user_id, content=content))


def append(log: EventLog, *items: AppendItem) -> list[int]:
    """Append items that the log accepts; returns their positions."""
    results = log.append(items).results
    assert all(isinstance(result, int) for result in results), results
    return [int(result) for result in results]


def archived(directory: Path) -> list[Entry]:
    """Everything in the archive of this directory."""
    return [entry for batch in read_archive(archive_path(directory)) for entry in batch]


def reported(directory: Path) -> list[dict[str, Any]]:
    """All lines of all reports of recoveries, oldest first."""
    paths = sorted((directory / "recoveries").glob("*.ndjson"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def table_hashes(database: Database) -> dict[str, str]:
    """The hashes of the public tables in a database."""
    engine = open_reader(database)
    try:
        with engine.begin() as connection:
            return projection.table_hashes(connection)
    finally:
        engine.dispose()


def rebuilt_hashes(entries: list[Entry], scratch: Path) -> dict[str, str]:
    """The hashes of the public tables that these entries give, applied from nothing, in batches of no owner's size."""
    engine = open_writer(scratch, "off")
    with engine.begin() as connection:
        projection.create_tables(connection)
        for first in range(0, len(entries), REBUILD_BATCH_ENTRIES):
            projection.apply(connection, entries[first : first + REBUILD_BATCH_ENTRIES])
    engine.dispose()
    return table_hashes(scratch)


def credentials(directory: Path) -> dict[int, str]:
    """The e-mail of each user in the private tables of this directory."""
    engine = open_private_reader(database_in(directory))
    try:
        with engine.begin() as connection:
            rows = connection.execute(select(Credential.user_id, Credential.email))  # type: ignore[call-overload]
            return {row.user_id: row.email for row in rows}
    finally:
        engine.dispose()


class Nonsense(Event, frozen=True):
    """Malformed within a version that everybody knows."""

    name: ClassVar[str] = "tweet_created"
    user_id: str = "not a number"


def started(directory: Path, log: EventLog, redis_server: RedisServer) -> list[int]:
    """Start the log with an owner of this directory that applies two entries, then leaves; their positions."""
    with following(directory, redis_server.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        positions = [ada, *append(log, tweet(ada))]
        owner.wait_until_applied(positions[-1])
    return positions
