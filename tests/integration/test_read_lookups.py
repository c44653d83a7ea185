"""Where an answer comes from, and of which position it is, while a batch is on its way into a replica."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from services.common import projection, views
from services.common.cache import Cache
from services.common.database import open_writer
from services.common.errors import StorageUnfit, StoreUnavailable
from services.common.events import TweetCreated, TweetLiked, UserCreated, UserFollowed
from services.common.log.pipelines import pipelines_to
from services.common.views import Window
from services.read import lookups
from services.read.encoded import Encoded
from services.read.fresh_lookups import FreshLookups
from services.read.hot_routes import HotReads
from services.read.lookups import Lookups
from services.read.metrics import ReadMetrics
from services.read.replica import Replica
from services.read.routes import Read
from services.read.store import Store
from tests.support.logbook import chained

pytestmark = pytest.mark.anyio

HISTORY = chained([UserCreated(username="ada"), UserCreated(username="bob")])
ADA, BOB = (entry.position for entry in HISTORY)
HISTORY += chained([TweetCreated(user_id=ADA, content="hello")], BOB)
TWEET = HISTORY[-1].position


class Reading:
    """A replica that has applied HISTORY, and look-ups over it; Redis is nowhere."""

    def __init__(self, path: Path) -> None:
        engine = open_writer(path, "off")
        with engine.begin() as connection:
            projection.create_tables(connection)
            projection.apply(connection, HISTORY)
        engine.dispose()
        self.replica = Replica(path)
        self.store = Store(Cache(1_000_000))
        self.store.adopt(self.replica)
        metrics = ReadMetrics(CollectorRegistry())
        self.fresh = FreshLookups(
            pipelines_to("redis://127.0.0.1:1"),
            metrics,
            lambda user: self.replica.look_up(lambda reader: views.user(reader, user)),
        )
        self.lookups = Lookups(self.store, self.fresh, metrics, min_position_wait_seconds=1)


@pytest.fixture
async def reading(tmp_path: Path) -> AsyncIterator[Reading]:
    """A replica in service."""
    made = Reading(tmp_path / "replica.db")
    yield made
    await made.fresh.aclose()
    made.replica.close()


def body(encoded: Encoded) -> dict[str, int]:
    """The answer's JSON."""
    parsed: dict[str, int] = json.loads(encoded.body)
    return parsed


async def test_between_commit_and_notice_an_answer_is_of_the_position_it_was_read_at(reading: Reading) -> None:
    """Else a client could see a like here, and with this answer's position no like elsewhere."""
    batch = reading.replica.apply(chained([TweetLiked(tweet_id=TWEET)], TWEET))
    answer = await reading.lookups.tweet(TWEET)
    assert reading.lookups.applied_position == TWEET
    assert (body(answer)["likes"], answer.read_position) == (1, batch.position)
    home = await reading.lookups.home(ADA, Window(10))
    assert home.read_position == batch.position
    reading.store.note_applied(batch)
    assert await reading.lookups.tweet(TWEET) is answer


async def test_an_answer_from_before_the_notice_waits_for_it(reading: Reading) -> None:
    """Else the next one, from the cache, would be at an older position than this one."""
    hot = HotReads()
    hot.lookups = reading.lookups
    found = hot.routes.find({"method": "GET", "path": f"/tweets/{TWEET}"})
    assert found is not None
    answer_now = found[0].answer
    batch = reading.replica.apply(chained([TweetLiked(tweet_id=TWEET)], TWEET))
    assert answer_now(b"", {}, TWEET) is None, "it is for those who can wait"

    app = SimpleNamespace(state=SimpleNamespace(lookups=reading.lookups))
    read = Read(Request({"type": "http", "app": app, "headers": [], "state": {}}))
    waiting = asyncio.create_task(read.answer(await reading.lookups.tweet(TWEET)))
    await asyncio.sleep(0)
    assert not waiting.done()
    reading.store.note_applied(batch)
    assert body(await reading.lookups.tweet(TWEET))["likes"] == 1
    assert (await waiting).status_code == 200
    assert answer_now(b"", {}, TWEET) == ((await reading.lookups.tweet(TWEET)).whole({}), batch.position)


async def test_look_ups_of_one_turn_are_of_one_state_unless_a_newer_one_is_noticed_in_it(reading: Reading) -> None:
    """To begin to read takes system calls; but nobody may be told a position that his answer does not have."""
    (other,) = chained([TweetCreated(user_id=BOB, content="other")], TWEET)
    assert body(await reading.lookups.user(ADA))["followers_count"] == 0
    reading.store.note_applied(reading.replica.apply([other]))
    batch = reading.replica.apply(chained([TweetLiked(tweet_id=TWEET)], other.position))
    assert body(await reading.lookups.tweet(other.position))["likes"] == 0
    late = reading.replica.apply(chained([TweetLiked(tweet_id=TWEET)], batch.position))
    assert (await reading.lookups.tweet(TWEET)).read_position == batch.position, "the turn has not ended"
    await asyncio.sleep(0)
    assert (await reading.lookups.home(ADA, Window(10))).read_position == late.position
    reading.store.note_applied(batch)
    reading.store.note_applied(late)
    answer = await reading.lookups.tweet(TWEET)
    assert (body(answer)["likes"], answer.read_position) == (2, late.position)


async def test_a_replica_that_is_replaced_in_a_turn_can_be_closed_at_once(reading: Reading, tmp_path: Path) -> None:
    """What the turn has read of it is over by then."""
    await reading.lookups.tweet(TWEET)
    other = Reading(tmp_path / "other.db")
    replaced, reading.replica = reading.replica, other.replica
    reading.store.adopt(reading.replica)
    replaced.close()
    await asyncio.sleep(0)
    assert body(await reading.lookups.tweet(TWEET))["id"] == TWEET
    await other.fresh.aclose()


async def test_a_cached_answer_lives_until_the_notice_and_not_longer(reading: Reading) -> None:
    """A like of another tweet leaves it alone; a like of it, or a follow of its author, does not."""
    (other,) = chained([TweetCreated(user_id=BOB, content="other")], TWEET)
    cached = await reading.lookups.tweet(TWEET)
    reading.store.note_applied(reading.replica.apply([other]))
    assert await reading.lookups.tweet(TWEET) is cached
    for number, event in enumerate([TweetLiked(tweet_id=TWEET), UserFollowed(follower_id=BOB, followee_id=ADA)]):
        cached = await reading.lookups.tweet(TWEET)
        batch = reading.replica.apply(chained([event], other.position + number * 4096))
        assert await reading.lookups.tweet(TWEET) is cached
        reading.store.note_applied(batch)
        assert await reading.lookups.tweet(TWEET) != cached


async def test_what_is_asked_for_once_at_once_is_not_kept(reading: Reading) -> None:
    """To keep an answer takes as long as to read it again, and of most tweets there is no second time."""
    asks: list[Callable[[], Encoded | None]] = [
        lambda: reading.lookups.tweet_now(TWEET),
        lambda: reading.lookups.tweets_by_author_now(ADA, Window(10), 0),
        lambda: reading.lookups.home_now(ADA, Window(10)),
    ]
    for kept_before, ask in enumerate(asks):
        first, second, third = ask(), ask(), ask()
        assert first == second
        assert (second is third, first is second, len(reading.store.cache)) == (True, False, kept_before + 1)


async def test_a_home_timeline_of_many_is_made_in_a_thread_and_kept_from_the_second_time_on(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold up everybody else's requests; once it is kept, it is at hand for all."""
    monkeypatch.setattr(lookups, "FOLLOWED_NOW_MAX", -1)
    assert reading.lookups.home_now(ADA, Window(10)) is None
    first, second, third = [await reading.lookups.home(ADA, Window(10)) for _ in range(3)]
    assert (first == second, first is second, second is third) == (True, False, True)
    assert reading.lookups.home_now(ADA, Window(10)) is third


async def test_a_like_of_another_tweet_leaves_a_home_timeline_in_the_cache(reading: Reading) -> None:
    """What the author's own list shows has changed with it; what this page shows has not, and where it ends neither."""
    reading.store.note_applied(reading.replica.apply(chained([TweetCreated(user_id=ADA, content="new")] * 2, TWEET)))
    window = Window(1)
    kept = [await reading.lookups.home(ADA, window) for _ in range(2)][-1]
    applied = reading.lookups.applied_position
    reading.store.note_applied(reading.replica.apply(chained([TweetLiked(tweet_id=TWEET)], applied)))
    assert await reading.lookups.home(ADA, window) is kept


async def test_a_404_is_cached_until_somebody_takes_the_id_or_the_name(reading: Reading) -> None:
    """Negative answers are answers: a fixture comes late, and a name is taken."""
    missing = [await reading.lookups.tweet(5), await reading.lookups.user_by_username("Carol")]
    assert [answer.status for answer in missing] == [404, 404]
    assert await reading.lookups.tweet(5) is missing[0]
    assert await reading.lookups.user_by_username("carol") is missing[1]
    events = [UserCreated(username="carol"), TweetCreated(user_id=ADA, content="late", id=5)]
    reading.store.note_applied(reading.replica.apply(chained(events, TWEET)))
    assert body(await reading.lookups.tweet(5))["id"] == 5
    assert (await reading.lookups.user_by_username("CAROL")).status == 200


async def test_a_disk_that_fails_is_to_be_tried_again(reading: Reading) -> None:
    """Part of the file cannot be read for a while: each look-up says so, in a transaction too, and then goes on."""
    wal = reading.replica.path.with_name(reading.replica.path.name + "-wal")
    reading.store.note_applied(reading.replica.apply(chained([TweetLiked(tweet_id=TWEET)], TWEET)))
    content = wal.read_bytes()
    os.truncate(wal, 0)
    for look_up in (
        reading.lookups.tweet(TWEET),
        reading.lookups.tweets_by_author(ADA, Window(10), 0),
        reading.lookups.home(ADA, Window(10)),
    ):
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            await look_up
    wal.write_bytes(content)
    assert body(await reading.lookups.tweet(TWEET))["likes"] == 1
    assert len(json.loads((await reading.lookups.home(ADA, Window(10))).body)) == 1


async def test_a_damaged_replica_stops_the_process_that_may_make_another(reading: Reading) -> None:
    """Not a 500 each time it is read: the next start takes a new copy."""
    page_bytes = 4096
    with reading.replica.path.open("r+b") as file:
        file.seek(page_bytes)
        file.write(b"\xff" * (reading.replica.path.stat().st_size - page_bytes))
    with pytest.raises(StorageUnfit, match="damaged"):
        await reading.lookups.tweet(TWEET)


async def test_an_id_far_in_the_future_is_a_404_without_asking_anybody(reading: Reading) -> None:
    """Redis is nowhere: a look-up there would be a 503."""
    assert (await reading.lookups.tweet(2**53 - 1)).status == 404
    assert (await reading.lookups.home(2**53 - 1, Window(10))).status == 404
