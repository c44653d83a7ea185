"""Snapshots on offer: shared, leased and reaped, over a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from services.common import events, projection
from services.common.database import open_writer
from services.common.errors import OwnerUnavailable
from services.common.events import TweetCreated, UserCreated
from services.common.log.entry import Entry
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.snapshots import REUSE_SECONDS, Offer, SnapshotShelf
from tests.support.limits import files_limited_to

LEASE_SECONDS = 60

pytestmark = pytest.mark.anyio


class Shop:
    """A database that an owner fills, the shelf beside it, and the clock they go by."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        self.directory = directory / "snapshots"
        self.registry = CollectorRegistry()
        self.now = 1000.0
        self.position = 0
        self._engine = engine
        self.shelf = SnapshotShelf(
            directory / "twitter.db",
            self.directory,
            OwnerMetrics(self.registry),
            applied_position=lambda: self.position,
            lease_seconds=LEASE_SECONDS,
            clock=lambda: self.now,
        )

    def apply(self, *more: events.Event) -> None:
        """Apply events at the next positions."""
        entries = [
            Entry(at, at - 1, event.name, 1, events.encode(event)) for at, event in enumerate(more, self.position + 1)
        ]
        with self._engine.begin() as connection:
            projection.apply(connection, entries)
        self.position = entries[-1].position

    async def taken_position(self) -> int:
        """Take a snapshot and put it back."""
        offer = await self.shelf.take()
        offer.file.close()
        return offer.snapshot.position

    def metric(self, name: str) -> float | None:
        """The value of a metric."""
        return self.registry.get_sample_value(name)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop whose database holds one user, at position 1."""
    engine = open_writer(tmp_path / "twitter.db", "full")
    with engine.begin() as connection:
        projection.create_tables(connection)
    shop = Shop(tmp_path, engine)
    shop.apply(UserCreated(username="ada"))
    yield shop
    engine.dispose()


async def test_those_who_ask_together_share_one(shop: Shop) -> None:
    """Many readers start at once: one copy is made."""
    offers: list[Offer] = await asyncio.gather(*(shop.shelf.take() for _ in range(20)))
    for offer in offers:
        offer.file.close()
    assert len({offer.snapshot.path for offer in offers}) == 1
    assert (shop.metric("snapshot_seconds_count"), shop.metric("snapshots_served_total")) == (1, 20)


async def test_young_snapshot_is_given_again(shop: Shop) -> None:
    """For a few seconds the same copy will do; after that one that holds what has been applied since is made."""
    assert await shop.taken_position() == 1
    shop.apply(TweetCreated(user_id=1, content="hello"))
    shop.now += REUSE_SECONDS - 1
    assert await shop.taken_position() == 1
    shop.now += 1
    assert await shop.taken_position() == 2


async def test_old_snapshot_is_given_again_while_nothing_was_applied(shop: Shop) -> None:
    """An idle system copies its database once."""
    await shop.taken_position()
    shop.now += 10_000
    await shop.taken_position()
    assert shop.metric("snapshot_seconds_count") == 1


async def test_lease_ends(shop: Shop) -> None:
    """Whoever took a snapshot has its position held for a while, not for ever; the oldest one counts."""
    assert shop.shelf.leased_position() is None
    await shop.taken_position()
    shop.now += LEASE_SECONDS / 2
    shop.apply(TweetCreated(user_id=1, content="hello"))
    await shop.taken_position()
    assert shop.shelf.leased_position() == 1
    shop.now += LEASE_SECONDS / 2
    assert shop.shelf.leased_position() == 2
    shop.now += LEASE_SECONDS / 2
    assert shop.shelf.leased_position() is None


async def test_position_is_leased_while_the_copy_is_made(shop: Shop) -> None:
    """The owner goes on and trims meanwhile: never past what the copy may hold."""
    taking = asyncio.create_task(shop.shelf.take())
    await asyncio.sleep(0)  # the task runs up to the thread that makes the copy
    assert shop.shelf.leased_position() == 1
    (await taking).file.close()


async def test_reaped_snapshot_stays_readable_for_those_who_took_it(shop: Shop) -> None:
    """A slow download is not cut off by the next snapshot, which leaves one file on disk."""
    first = await shop.shelf.take()
    shop.apply(TweetCreated(user_id=1, content="hello"))
    shop.now += REUSE_SECONDS
    second = await shop.shelf.take()
    assert list(shop.directory.iterdir()) == [second.snapshot.path]
    with first.file, second.file:
        assert len(first.file.read()) == first.snapshot.size_bytes


async def test_leftovers_are_reaped_at_start(tmp_path: Path, shop: Shop) -> None:
    """What a killed owner left behind goes, finished or not; other files are nobody's business."""
    (await shop.shelf.take()).file.close()
    (shop.directory / "offered-000009.db.tmp").write_bytes(b"half")
    (shop.directory / "notes.txt").write_text("mine")
    SnapshotShelf(
        tmp_path / "twitter.db",
        shop.directory,
        OwnerMetrics(CollectorRegistry()),
        applied_position=lambda: 0,
        lease_seconds=LEASE_SECONDS,
    )
    assert [path.name for path in shop.directory.iterdir()] == ["notes.txt"]


async def test_full_disk_is_said_and_passes(shop: Shop) -> None:
    """A copy that cannot be made is a fault that passes; the next one is made when there is room."""
    shop.apply(*(TweetCreated(user_id=1, content="x" * 280) for _ in range(1000)))
    with files_limited_to(128 * 1024), pytest.raises(OwnerUnavailable, match="no snapshot can be made"):
        await shop.shelf.take()
    assert list(shop.directory.iterdir()) == []
    assert await shop.taken_position() == 1001
