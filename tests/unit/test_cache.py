"""The cache is never wrong, stays within its bytes, and concurrent misses share one load."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from services.common.cache import ENTRY_OVERHEAD_BYTES, KEYS_SEEN_MAX, NAME_BYTES, SLOTS, Cache, Doorkeeper, Flights

TWEET = ("tweet", 1)
AUTHOR = ("user", 2)
ENTRY_BYTES = 100 + ENTRY_OVERHEAD_BYTES + 2 * NAME_BYTES
"""Of an entry that ``fill`` makes."""


def cache_of(entries: int) -> Cache[str]:
    """A cache with room for so many entries that ``fill`` makes."""
    return Cache(entries * ENTRY_BYTES)


def fill(cache: Cache[str], value: str = "value", *, at: int, key: object = "key") -> bool:
    """Fill with a value of 100 bytes made from TWEET and AUTHOR."""
    return cache.fill(key, value, size_bytes=100, read_position=at, made_from=[TWEET, AUTHOR])


STEPS = ("load", "commit", "raise", "fill", "hit")
ORDERS = [
    order
    for order in permutations(STEPS)
    if order.index("load") < order.index("fill") and order.index("commit") < order.index("raise")
]


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_no_order_of_load_event_fill_and_hit_serves_what_is_out_of_date(order: tuple[str, ...]) -> None:
    """HAZARDS 8: an event is committed at 11 and then raised; from then on the state at 10 is never served."""
    cache = cache_of(10)
    committed, loaded, raised = 10, 0, 10
    for step in order:
        match step:
            case "commit":
                committed = 11
            case "raise":
                cache.raise_generations([AUTHOR], 11)
                raised = 11
            case "load":
                loaded = committed
            case "fill":
                assert fill(cache, str(loaded), at=loaded) == (loaded >= raised)
            case "hit":
                assert cache.get("key") in {None, *map(str, range(raised, 12))}
    served = cache.get("key")
    assert served in (None, "11")
    assert (served is None) == (loaded == 10)


def test_one_event_invalidates_everything_made_from_what_it_changed_and_nothing_else() -> None:
    """HAZARDS 10: a follow changes one integer, however many tweets embed the author."""
    cache = cache_of(100)
    for number in range(50):
        cache.fill(
            number, str(number), size_bytes=10, read_position=10, made_from=[("tweet", number), ("user", number % 2)]
        )
    cache.raise_generations([("user", 0)], 11)
    assert [number for number in range(50) if cache.get(number) is not None] == list(range(1, 50, 2))


def test_an_entry_made_from_thousands_of_things_counts_them_and_goes_with_any() -> None:
    """It is looked at once for all that was raised since it was last asked for, and then again for what comes next."""
    names = [("user", number) for number in range(5_000)]
    for changed in (names[0], names[2_500], names[-1]):
        cache = Cache[str](1_000_000)
        assert cache.fill("home", "page", size_bytes=100, read_position=10, made_from=names)
        assert cache.size_bytes == 100 + ENTRY_OVERHEAD_BYTES + 5_000 * NAME_BYTES
        cache.raise_generations([], 11)
        assert [cache.get("home") for _ in range(2)] == ["page", "page"]
        cache.raise_generations([changed], 12)
        assert cache.get("home") is None


def test_a_tombstone_keeps_out_a_fill_that_was_read_before_it() -> None:
    """HAZARDS 9: nothing is cached when the tweet goes, and the slow load that saw it comes to nothing."""
    cache = cache_of(10)
    cache.raise_generations([TWEET], 20)
    assert not fill(cache, "the tweet", at=19)
    assert fill(cache, "not found", at=20)
    assert cache.get("key") == "not found"
    assert cache.fills_refused == 1


def test_another_copy_takes_over_and_nothing_read_from_the_one_before_is_served() -> None:
    """A reader swaps in a snapshot at 50 while a load from the old file is under way."""
    cache = cache_of(10)
    fill(cache, at=40)
    cache.start_over(50)
    assert cache.get("key") is None
    assert not fill(cache, at=49)
    assert fill(cache, at=50)


def test_a_collision_of_generations_only_invalidates_too_much() -> None:
    """Two users share a slot: an event of one drops the other's entry, which is then simply loaded again."""
    slots: dict[int, tuple[str, int]] = {}
    other = next(
        (name, slots[hash(name) % SLOTS])
        for name in (("user", number) for number in range(SLOTS + 1))
        if hash(name) % SLOTS in slots or slots.setdefault(hash(name) % SLOTS, name) != name
    )
    cache = cache_of(10)
    cache.fill("one", "1", size_bytes=1, read_position=10, made_from=[other[0]])
    cache.raise_generations([other[1]], 11)
    assert cache.get("one") is None
    assert cache.fill("one", "1", size_bytes=1, read_position=11, made_from=[other[0]])
    assert cache.get("one") == "1"


def test_the_cache_stays_within_its_bytes_and_the_least_recently_used_goes_first() -> None:
    """Four entries in room for three."""
    cache = cache_of(3)
    for key in "abc":
        fill(cache, key, at=10, key=key)
    cache.get("a")
    fill(cache, "d", at=10, key="d")
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    assert cache.size_bytes == 3 * ENTRY_BYTES


def test_what_is_larger_than_the_whole_cache_is_not_kept() -> None:
    """And takes nothing with it but what the bytes demand."""
    cache = cache_of(1)
    cache.fill("large", "x", size_bytes=10_000, read_position=10, made_from=[])
    assert cache.get("large") is None
    assert cache.size_bytes == 0


def test_filling_a_key_again_counts_its_bytes_once() -> None:
    """Two loads of one key that ran side by side."""
    cache = cache_of(10)
    fill(cache, at=10)
    fill(cache, at=12)
    assert (len(cache), cache.size_bytes) == (1, ENTRY_BYTES)


def test_hits_and_misses_are_counted() -> None:
    """A stale entry is a miss."""
    cache = cache_of(10)
    cache.get("key")
    fill(cache, at=10)
    cache.get("key")
    cache.raise_generations([TWEET], 11)
    cache.get("key")
    assert (cache.hits, cache.misses) == (1, 2)


def test_a_key_is_known_when_it_comes_again_and_forgotten_after_many_others() -> None:
    """Two of the others may have one slot, so a few more than KEYS_SEEN_MAX come."""
    doorkeeper = Doorkeeper()
    assert [doorkeeper.has_seen(("tweet", 1)) for _ in range(3)] == [False, True, True]
    others = (doorkeeper.has_seen(number) for number in range(SLOTS))
    assert sum(not was_seen for was_seen in others) > KEYS_SEEN_MAX
    assert not doorkeeper.has_seen(("tweet", 1))


class Loader:
    """A load that ends when the test says so."""

    def __init__(self) -> None:
        self.started = 0
        self.results: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        self.started += 1
        result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.results.append(result)
        return await result


def always(_: str) -> bool:
    """Whatever comes is good enough."""
    return True


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_concurrent_misses_share_one_load() -> None:
    """A hundred readers of a viral tweet cause one look-up, and the next one after it another."""
    flights, load = Flights(), Loader()
    waiters = [asyncio.create_task(flights.share("key", load, is_good_enough=always)) for _ in range(100)]
    await settled()
    load.results[0].set_result("found")
    assert await asyncio.gather(*waiters) == ["found"] * 100
    assert load.started == 1
    later = asyncio.create_task(flights.share("key", load, is_good_enough=always))
    await settled()
    assert load.started == 2
    load.results[1].set_result("again")
    assert await later == "again"


@pytest.mark.anyio
async def test_an_error_is_shared_and_forgotten() -> None:
    """Redis is down: all who wait are told, the next one tries again."""
    flights, load = Flights(), Loader()
    waiters = [asyncio.create_task(flights.share("key", load, is_good_enough=always)) for _ in range(3)]
    await settled()
    load.results[0].set_exception(ConnectionError("down"))
    assert [type(error) for error in await asyncio.gather(*waiters, return_exceptions=True)] == [ConnectionError] * 3
    later = asyncio.create_task(flights.share("key", load, is_good_enough=always))
    await settled()
    load.results[1].set_result("up")
    assert await later == "up"


@pytest.mark.anyio
async def test_a_client_that_leaves_does_not_take_the_others_load_with_it() -> None:
    """Not even when it was the one that started it."""
    flights, load = Flights(), Loader()
    first, second = (asyncio.create_task(flights.share("key", load, is_good_enough=always)) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    load.results[0].set_result("found")
    assert await second == "found"
    assert first.cancelled()


@pytest.mark.anyio
async def test_a_load_that_fails_after_everybody_left_disturbs_nobody() -> None:
    """asyncio would complain about an exception that nobody looked at."""
    flights, load = Flights(), Loader()
    only = asyncio.create_task(flights.share("key", load, is_good_enough=always))
    await settled()
    only.cancel()
    await settled()
    load.results[0].set_exception(ConnectionError("down"))
    await settled()
    assert only.cancelled()


@pytest.mark.anyio
async def test_a_load_that_began_before_the_caller_wrote_is_not_taken_for_an_answer() -> None:
    """Somebody guesses an id and finds nothing; meanwhile its author gets her 201 and reads: she must find it."""
    flights, load = Flights(), Loader()

    def is_found(result: str) -> bool:
        return result == "found"

    guess = asyncio.create_task(flights.share("key", load, is_good_enough=is_found))
    await settled()
    authors = [asyncio.create_task(flights.share("key", load, is_good_enough=is_found)) for _ in range(2)]
    await settled()
    load.results[0].set_result("nothing")
    await settled()
    assert await guess == "nothing"
    load.results[1].set_result("found")
    assert await asyncio.gather(*authors) == ["found", "found"]
    assert load.started == 2
