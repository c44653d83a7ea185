"""What this process answers from: the rows behind, the cache before them, and how far they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from services.common.cache import Cache
from services.common.errors import OperationalError
from services.common.log.entry import Entry
from services.common.views import Answer, Reader
from services.read.applied_position import AppliedPosition
from services.read.encoded import Encoded
from services.read.generations import Changes, Name

T = TypeVar("T")


class Starting(OperationalError):
    """There is nothing to answer from yet."""

    code = "starting"


class Loaded(NamedTuple):
    """A response, and what it was made from; None for one that is not to be kept."""

    encoded: Encoded
    made_from: list[Name] | None


class Backing(Protocol):
    """What READ_STORE names: a replica of one's own, or the database that all share.

    ``look_up``, ``run`` and ``renew`` belong to the event loop, the rest to the follower's thread.
    """

    position: int
    """It is followed up to here. No look-up that begins after the next ``renew`` finds an older state."""

    @property
    def is_own(self) -> bool:
        """Whether this process alone writes to it: what is found above its position is noted as applied in a moment."""

    async def look_up(self, view: Callable[[Reader], Answer[T]]) -> Answer[T]:
        """What a view finds that takes microseconds where there is no way to a server."""

    async def run(self, view: Callable[[Reader], Answer[T]]) -> Answer[T]:
        """What a view finds that takes milliseconds."""

    def look_up_now(self, view: Callable[[Reader], Answer[T]]) -> Answer[T] | None:
        """The same, at once; None where there is a way to a server."""

    def renew(self) -> None:
        """Let look-ups from here on find what has been applied by now: those of one turn may have shared a state."""

    def apply(self, entries: Sequence[Entry]) -> Changes:
        """Get beyond consecutive entries; says what is out of date from then on."""

    def close(self) -> None:
        """Let the look-ups under way finish. The event loop uses it no more."""


class Store:
    """For the thread of the event loop only; the follower's thread calls it through the loop."""

    def __init__(self, cache: Cache[Encoded]) -> None:
        self.cache = cache
        self.applied = AppliedPosition()
        self._backing: Backing | None = None

    @property
    def backing(self) -> Backing:
        """What is in service. Raises Starting before there is anything."""
        if self._backing is None:
            raise Starting("there is nothing to answer from yet")
        return self._backing

    def adopt(self, backing: Backing) -> None:
        """Answer from this from here on; it is above everything served so far."""
        if self._backing is not None:
            self._backing.renew()  # its file is about to be closed
        self._backing = backing
        self.cache.start_over(backing.position)
        self.applied.advance(backing.position)

    def keep(self, key: object, loaded: Loaded) -> bool:
        """Put a response into the cache; False if it is not to be kept, or out of date by now."""
        encoded, made_from = loaded
        if made_from is None:
            return False
        return self.cache.fill(
            key, encoded, size_bytes=encoded.size_bytes, read_position=encoded.read_position, made_from=made_from
        )

    def note_applied(self, changes: Changes) -> None:
        """The backing has got further: first what has changed is out of date, then its position is reached."""
        self.backing.renew()
        if changes.names is None:
            self.cache.start_over(changes.position)
        else:
            self.cache.raise_generations(changes.names, changes.position)
        self.applied.advance(changes.position)
