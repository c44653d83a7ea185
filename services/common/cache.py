"""The cache that is never wrong, and the sharing of concurrent loads.

Everything a response is made from (a tweet, a user, an author's list) has a *generation*: the position of the newest
applied batch that changed it. An entry carries the position its rows were read at, and is good exactly as long as no
generation of what it was made from is above that. So a fill that began before an event and ends after it carries a
position below the event's and loses; no order of load, event, fill and hit serves what is out of date (HAZARDS 8, 9,
10). An event changes a few integers, however many entries embed what it changed. An entry made from thousands of things
is as well looked after as one made from two, since it is looked at once for all batches since it was last asked for.

Only the thread of the event loop may use a Cache or Flights.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from services.common.ids import BEGINNING

T = TypeVar("T")

SLOTS: Final = 2**20
"""Generations are kept by hash, so their memory is bounded; a collision only invalidates too much.

So many that what is made from a thousand things outlives a thousand changes of others.
"""

ENTRY_OVERHEAD_BYTES: Final = 600
"""What an entry takes besides what its owner counts: key, objects, its place in the dictionary."""

NAME_BYTES: Final = array("I").itemsize
"""What each thing that an entry was made from takes besides."""

KEYS_SEEN_MAX: Final = 2**14
"""What a Doorkeeper remembers before it starts again: about as many keys as the default cache has entries of tweets.

What is asked for again later than that would not be in the cache any more.
"""

_KEY_SLOTS: Final = 4 * KEYS_SEEN_MAX


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    read_position: int
    slots: array[int]
    size_bytes: int
    raises_seen: int
    """How many calls of raise_generations it is known to have outlived."""


class Cache(Generic[T]):
    """Values by key, least recently used out first, at most ``bytes_max`` in all.

    ``position`` arguments are applied positions. A value may be a negative result; None is not a value.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._generations = array("q", bytes(8 * SLOTS))  # all BEGINNING; a list would be as large again in integers
        self._raises = 0
        self._floor = BEGINNING
        self.size_bytes = 0
        self.hits = 0
        self.misses = 0
        self.fills_refused = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> T | None:
        """The value under a key, if nothing it was made from has changed since it was read."""
        value = self.find(key)
        if value is None:
            self.misses += 1
        return value

    def find(self, key: Hashable) -> T | None:
        """The same, and no miss is counted: for who leaves it to others to load what is missing."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.raises_seen != self._raises:
            if self._have_changed(entry.slots, entry.read_position):
                self._drop(key)
                return None
            entry.raises_seen = self._raises
        self._entries.move_to_end(key)
        self.hits += 1
        return entry.value

    def fill(
        self, key: Hashable, value: T, *, size_bytes: int, read_position: int, made_from: Iterable[Hashable]
    ) -> bool:
        """Keep a value whose rows were read, in one transaction, at ``read_position``.

        ``made_from`` names all it depends on, as ``raise_generations`` will name what changes. Returns False, and
        keeps nothing, when any of it has changed since.
        """
        slots = array("I", map(_slot, made_from))
        if read_position < self._floor or self._have_changed(slots, read_position):
            self.fills_refused += 1
            return False
        self._drop(key)
        size_bytes += ENTRY_OVERHEAD_BYTES + NAME_BYTES * len(slots)
        self._entries[key] = _Entry(value, read_position, slots, size_bytes, self._raises)
        self.size_bytes += size_bytes
        while self.size_bytes > self._bytes_max:
            self._drop(next(iter(self._entries)))
        return True

    def raise_generations(self, changed: Iterable[Hashable], position: int) -> None:
        """Note that the batch applied up to ``position`` changed these; positions only ever grow."""
        self._raises += 1
        for name in changed:
            self._generations[_slot(name)] = position

    def start_over(self, position: int) -> None:
        """Forget everything, and refuse whatever was read below ``position``: another copy takes over there."""
        self._entries.clear()
        self.size_bytes = 0
        self._floor = position

    def _have_changed(self, slots: array[int], after_position: int) -> bool:
        generations = self._generations
        for slot in slots:  # noqa: SIM110 - a tweet is made of two things, and a generator takes longer than they do
            if generations[slot] > after_position:
                return True
        return False

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes


def _slot(name: Hashable) -> int:
    return hash(name) % SLOTS


class Doorkeeper:
    """Tells keys that are asked for again from those asked for once, in little memory; none is remembered for long.

    For values that take no longer to make than to keep, of which most are never asked for again. Keys are known by
    hash: one may be taken for another that came before.
    """

    def __init__(self) -> None:
        self._seen = bytearray(_KEY_SLOTS)
        self._keys = 0

    def has_seen(self, key: Hashable) -> bool:
        """Whether this key, or one of the same slot, is among the last KEYS_SEEN_MAX that came."""
        slot = hash(key) % _KEY_SLOTS
        if self._seen[slot]:
            return True
        if self._keys >= KEYS_SEEN_MAX:
            self._seen, self._keys = bytearray(_KEY_SLOTS), 0
        self._seen[slot] = 1
        self._keys += 1
        return False


class Flights:
    """Loads under way, by key: who needs the same at the same time waits for one load."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}

    async def share(self, key: Hashable, load: Callable[[], Awaitable[T]], *, is_good_enough: Callable[[T], bool]) -> T:
        """The result of a load of this key; an error is shared too. Cancelling a waiter does not cancel the load.

        A load that had begun before this call may not know what its caller already saw elsewhere: if its result is
        not good enough, one that began later is waited for.
        """
        under_way = self._flights.get(key)
        if under_way is not None:
            result: T = await asyncio.shield(under_way)
            if is_good_enough(result):
                return result
        return await asyncio.shield(self._flights.get(key) or self._start(key, load))

    def _start(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        async def run() -> T:
            return await load()

        flight = self._flights[key] = asyncio.create_task(run())
        flight.add_done_callback(lambda done: self._land(key, done))
        return flight

    def _land(self, key: Hashable, flight: asyncio.Task[Any]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # looked at here, in case every waiter has gone
