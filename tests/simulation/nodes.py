"""The project's own programs, without their HTTP: an owner, a reader and a writer, each a process of a world."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import CollectorRegistry
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.common import views
from services.common.cache import Cache
from services.common.errors import InvariantError, TwitterError
from services.common.log.append import AppendItem, Result
from services.common.log.client import EventLog
from services.common.log.pipelines import CONNECTIONS, Pipelines
from services.db_updater.applier import Step
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.owner import Owner
from services.db_updater.snapshots import Offer, SnapshotShelf
from services.db_updater.volume import Volume
from services.read.follower import Follower
from services.read.fresh_lookups import FreshLookups
from services.read.generations import Changes
from services.read.lookups import Lookups
from services.read.metrics import ReadMetrics
from services.read.replica import Replicas
from services.read.replica_directory import ReplicaDirectory
from services.read.snapshot_source import SnapshotSource
from services.read.store import Backing, Store
from services.write.clocks import LogView, TrustedClock
from services.write.group_commit import GroupCommit
from services.write.log_budget import LogBudget
from services.write.log_watch import LogWatch
from services.write.log_writer import LogWriter
from services.write.metrics import AppendMetrics, LogMetrics
from tests.simulation.loop import loop_of, on_loop
from tests.simulation.network import Network
from tests.simulation.world import Action, Process, SimEvent, SimThread, World
from tests.simulation.world import Result as ThreadResult

URL: Final = "redis://redis:6379"
LEASE_SECONDS: Final = 300
CALLS_IN_FLIGHT: Final = 2
CALM_CHUNK_SECONDS: Final = 1.5


class _Metrics:
    """What all nodes of all schedules count with; nobody reads it."""

    def __init__(self) -> None:
        self.owner = OwnerMetrics(CollectorRegistry())
        self.read = ReadMetrics(CollectorRegistry())
        self.append = AppendMetrics(CollectorRegistry())
        self.log = LogMetrics(CollectorRegistry(), is_full=lambda: False)


@cache
def _metrics() -> _Metrics:
    return _Metrics()


def event_log(network: Network, process: Process) -> EventLog:
    """The log as a process sees it."""
    log = EventLog(URL)
    log._redis.connection_pool.connection_class = network.threaded(process)
    return log


class OwnerNode:
    """The db-updater over a directory. ``at`` is called after each of its steps, ``on_end`` when it gives up."""

    def __init__(
        self,
        world: World,
        network: Network,
        directory: Path,
        name: str,
        *,
        retention_seconds: int,
        lease_seconds: int,
        batch_entries_max: int,
        at: Callable[[OwnerNode, Step], None],
        on_end: Action,
    ) -> None:
        self._on_end = on_end
        self.process = world.process(name)
        self.directory = directory
        self.failure: InvariantError | None = None
        self.loop = loop_of(self.process)
        world.current = self.process
        self.log = event_log(network, self.process)
        database = directory / "twitter.db"
        self.volume = Volume(database, directory, directory / "archive")
        self.shelf = SnapshotShelf(
            database,
            directory / "snapshots",
            _metrics().owner,
            applied_position=lambda: self.volume.applied.position,
            lease_seconds=lease_seconds,
            clock=lambda: world.now,
        )
        self.owner = Owner(
            self.volume,
            self.log,
            _metrics().owner,
            retention_seconds=retention_seconds,
            leased_position=self.shelf.leased_position,
            batch_entries_max=batch_entries_max,
            at=lambda step: at(self, step),
        )
        self.owner._stopping = SimEvent(world)
        SimThread(self.process, self._run)

    def _run(self) -> None:
        try:
            self.owner.run()
        except InvariantError as error:
            self.failure = error
            self.process.world.note(self.process.name, "ended", error=repr(error))
            self.process.kill()
            self._on_end()
        except Exception as error:  # noqa: BLE001 - a bug of the owner ends the schedule
            self.process.world.violate(error)

    def close(self) -> None:
        """Close the files."""
        self.volume.close()


class _Chunks(httpx.SyncByteStream):
    """A file as it arrives, ``seconds`` a chunk; not much slower than the log is trimmed, once there is ``calm``."""

    def __init__(
        self, world: World, calm: SimEvent, offer: Offer, seconds: float, is_alive: Callable[[], bool]
    ) -> None:
        self._world = world
        self._calm = calm
        self._offer = offer
        self._seconds = seconds
        self._is_alive = is_alive

    def __iter__(self) -> Iterator[bytes]:
        with self._offer.file as file:
            while chunk := file.read(2**16):
                self._calm.wait(self._seconds)
                if self._calm.is_set():
                    self._world.sleep(min(self._seconds, CALM_CHUNK_SECONDS))
                if not self._is_alive():
                    raise httpx.ReadError("the owner has died")
                yield chunk


OnOffer = Callable[[OwnerNode, Offer, float], None]
"""Told of each snapshot that is handed out, and when it was asked for."""


class SimSnapshots(SnapshotSource):
    """Asks whoever is the owner; ``owner`` is None while there is none that can be reached."""

    def __init__(self, world: World, owner: Callable[[], OwnerNode | None], on_offer: OnOffer, calm: SimEvent) -> None:
        self._on_offer = on_offer
        self._calm = calm
        self._url = "http://owner/internal/snapshot"
        self._client = httpx.Client(transport=httpx.MockTransport(self._answer))
        self._world = world
        self._owner = owner

    def _answer(self, _request: httpx.Request) -> httpx.Response:
        self._world.sleep(self._world.random.random() * 0.01)
        node = self._owner()
        if node is None or node.volume.is_filling:
            raise httpx.ConnectError("no owner")
        asked_at = self._world.now
        taken = ThreadResult(self._world)

        async def take() -> None:
            try:
                taken.set(await node.shelf.take())
            except TwitterError as error:
                taken.fail(error)

        node.loop.call_soon(lambda: node.loop.create_task(take()))
        try:
            offer: Offer = taken.get(30.0)
        except TwitterError:
            return httpx.Response(503)
        except TimeoutError as error:
            raise httpx.ReadTimeout("the owner is silent") from error
        self._on_offer(node, offer, asked_at)
        headers = {
            "X-Snapshot-Position": str(offer.snapshot.position),
            "X-Snapshot-SHA256": offer.snapshot.sha256,
            "X-Projection-Version": str(offer.snapshot.projection_version),
        }
        slow = self._world.random.random() < 0.1
        seconds = self._world.random.random() * (20.0 if slow else 0.01)
        stream = _Chunks(self._world, self._calm, offer, seconds, lambda: node.process.is_alive)
        return httpx.Response(200, headers=headers, stream=stream)


def _connections(network: Network, process: Process, count: int) -> list[AbstractConnection]:
    connection_class = network.awaited(process)
    return [connection_class(host="redis", retry=Retry(NoBackoff(), 0), protocol=2) for _ in range(count)]


class ReaderNode:
    """The read service with a replica. ``note_applied`` is called when a batch counts."""

    def __init__(
        self,
        world: World,
        network: Network,
        directory: Path,
        name: str,
        *,
        owner: Callable[[], OwnerNode | None],
        on_offer: OnOffer,
        calm: SimEvent,
        wait_seconds: float = 1.0,
    ) -> None:
        self.process = world.process(name)
        self.loop = loop_of(self.process)
        world.current = self.process
        self.store = Store(Cache(1_000_000))
        self.log = event_log(network, self.process)
        self.fresh = FreshLookups(
            Pipelines(_connections(network, self.process, CONNECTIONS)),
            _metrics().read,
            lambda user: self.store.backing.look_up(lambda reader: views.user(reader, user)),
        )
        self.lookups = Lookups(self.store, self.fresh, _metrics().read, min_position_wait_seconds=wait_seconds)
        self.follower = Follower(
            self.log,
            Replicas(SimSnapshots(world, owner, on_offer, calm), ReplicaDirectory(directory), _metrics().read),
            _metrics().read,
            adopt=on_loop(self.loop, self._adopt),
            note_applied=on_loop(self.loop, self._note_applied),
        )
        self.follower._stopping = SimEvent(world)
        SimThread(self.process, self._run)

    @property
    def position(self) -> int:
        """Up to where it serves."""
        return self.store.applied.value

    def _adopt(self, backing: Backing) -> None:
        self.process.world.note(self.process.name, "adopts", position=backing.position)
        if backing.position < self.position:
            raise AssertionError(f"adopted {backing.position} after {self.position} was served")
        self.store.adopt(backing)

    def _note_applied(self, changes: Changes) -> None:
        self.process.world.note(self.process.name, "applied", position=changes.position)
        self.store.note_applied(changes)

    def _run(self) -> None:
        try:
            self.follower.run()
        except Exception as error:  # noqa: BLE001 - a bug of the follower ends the schedule
            self.process.world.violate(error)


class WriterNode:
    """The write service from its group commit down."""

    def __init__(self, world: World, network: Network, name: str) -> None:
        self.process = world.process(name)
        self.loop = loop_of(self.process)
        world.current = self.process
        self.view = LogView()
        clock = TrustedClock()
        self.log = event_log(network, self.process)
        self.watch = LogWatch(
            self.log, self.view, _metrics().log, budget=LogBudget(0, _metrics().log), requires_durability=False
        )
        connections = _connections(network, self.process, CALLS_IN_FLIGHT)
        self._appends = [LogWriter(connection, self.view, clock) for connection in connections]
        self.commit: GroupCommit | None = None
        self.loop.call_soon(lambda: self.loop.create_task(self._main()))

    async def _main(self) -> None:
        self.commit = GroupCommit(self._appends, metrics=_metrics().append, on_failure=self.process.world.violate)
        await self.commit.__aenter__()
        await self.watch.look()
        await self.watch.run()

    def append(self, item: AppendItem, seconds: float, on_result: Callable[[Result | Exception], None]) -> None:
        """Append; the outcome comes later, or never if the process is killed."""

        async def run() -> None:
            assert self.commit is not None
            try:
                on_result(await self.commit.append(item, self.loop.time() + seconds))
            except TwitterError as error:
                on_result(error)

        self.loop.call_soon(lambda: self.loop.create_task(run()))


def copy_volume(source: Path, target: Path) -> None:
    """What a process that was killed leaves on its volume."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*-shm", "snapshots"))
