"""A read process without HTTP, and an owner without a process, over a real log: a test decides who gets on when."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry

from services.common import projection, snapshot, views
from services.common.cache import Cache
from services.common.database import Database, open_writer
from services.common.errors import InvariantError, OwnerUnavailable
from services.common.events import Event, UserCreated
from services.common.log.append import AppendItem, CredentialClaim
from services.common.log.client import EventLog
from services.common.log.pipelines import pipelines_to
from services.common.log.subscription import Subscription
from services.common.snapshot import Snapshot
from services.read.app import _following, _on_this_loop
from services.read.encoded import Encoded
from services.read.follower import Follower
from services.read.fresh_lookups import FreshLookups
from services.read.lookups import Lookups
from services.read.metrics import ReadMetrics
from services.read.replica import Replicas
from services.read.replica_directory import ReplicaDirectory
from services.read.shared_cache import SharedCache
from services.read.shared_database import SharedDatabases
from services.read.store import Store
from tests.support.scripted_log import ScriptedLog

ReadStore = Literal["replica", "shared"]


def append(log: ScriptedLog, *happened: Event) -> list[int]:
    """Append events; returns their positions."""
    items = [
        AppendItem(event, credential=CredentialClaim(event.username, event.username))
        if isinstance(event, UserCreated)
        else AppendItem(event)
        for event in happened
    ]
    return [int(result) for result in log.call(items).results]


def body(encoded: Encoded) -> Any:
    """The answer's JSON."""
    return json.loads(encoded.body)


class Owner:
    """Applies the log when told, and gives snapshots unless it is down."""

    def __init__(self, log: EventLog, database: Database) -> None:
        self.log = log
        self.database = database
        self.is_down = False
        self.fetches = 0
        self.engine = open_writer(database, "full")
        with self.engine.begin() as connection:
            projection.create_tables(connection)
        self.position = 0

    def catch_up(self) -> None:
        """Apply the log to its end."""
        subscription = Subscription(self.log, self.position, name="owner", block_ms=5)
        while entries := subscription.next_batch():
            with self.engine.begin() as connection:
                projection.apply(connection, entries)
        self.position = subscription.position

    def fetch(self, target: Path, *, at_least: int, is_cancelled: Callable[[], bool]) -> Snapshot:
        """What services.read.snapshot_source does over HTTP."""
        self.fetches += 1
        if self.is_down or self.position < at_least or is_cancelled():
            raise OwnerUnavailable(f"down, or at {self.position} instead of {at_least}")
        return snapshot.make(self.database, target)

    def hashes(self) -> dict[str, str]:
        """The hashes of its tables."""
        with self.engine.begin() as connection:
            return projection.table_hashes(connection)

    def close(self) -> None:
        """Close the database and the log."""
        self.engine.dispose()
        self.log.close()


@dataclass
class ReadProcess:
    """What one process serves from."""

    store: Store
    lookups: Lookups
    follower: Follower
    metrics: CollectorRegistry

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 before it was ever set."""
        return self.metrics.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def reading(
    read_store: ReadStore,
    owner: Owner,
    redis_url: str,
    directory: Path,
    *,
    cache_url: str | None = None,
    wait_seconds: float = 10,
) -> AsyncIterator[ReadProcess]:
    """A process that follows the log in a thread, and answers in this event loop once it has caught up."""
    registry = CollectorRegistry()
    metrics = ReadMetrics(registry)
    store = Store(Cache(1_000_000))
    cache = SharedCache(cache_url or redis_url, metrics, ttl_seconds=60) if read_store == "shared" else None
    failures: list[InvariantError] = []
    with ExitStack() as opened:
        backings = (
            SharedDatabases(owner.database)
            if read_store == "shared"
            else Replicas(owner, opened.enter_context(closing(ReplicaDirectory(directory))), metrics)
        )
        follower = Follower(
            opened.enter_context(closing(EventLog(redis_url))),
            backings,
            metrics,
            adopt=_on_this_loop(store.adopt),
            note_applied=_on_this_loop(store.note_applied),
        )
        fresh = FreshLookups(
            pipelines_to(redis_url),
            metrics,
            lambda user_id: store.backing.look_up(lambda reader: views.user(reader, user_id)),
        )
        lookups = Lookups(store, fresh, metrics, min_position_wait_seconds=wait_seconds, shared_cache=cache)
        closing_cache = aclosing(cache) if cache else nullcontext()
        async with aclosing(fresh), closing_cache, _following(follower, failures.append):
            await store.applied.reach(owner.position, wait_seconds)
            yield ReadProcess(store, lookups, follower, registry)
    assert not failures
