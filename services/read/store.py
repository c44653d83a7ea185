"""What this process answers from: the replica in service, the cache over it, and how far they go."""

from __future__ import annotations

from services.common.cache import Cache
from services.common.errors import OperationalError
from services.common.projection import AppliedBatch
from services.read.applied_position import AppliedPosition
from services.read.encoded import Encoded
from services.read.generations import changed_by
from services.read.replica import Replica


class Starting(OperationalError):
    """There is no replica yet."""

    code = "starting"


class Store:
    """For the thread of the event loop only; the follower's thread calls it through the loop."""

    def __init__(self, cache: Cache[Encoded]) -> None:
        self.cache = cache
        self.applied = AppliedPosition()
        self._replica: Replica | None = None

    @property
    def replica(self) -> Replica:
        """The replica in service. Raises Starting before there is one."""
        if self._replica is None:
            raise Starting("the first snapshot has not arrived yet")
        return self._replica

    def adopt(self, replica: Replica) -> None:
        """Answer from this replica from here on; it is above everything served so far."""
        self._replica = replica
        self.cache.start_over(replica.position)
        self.applied.advance(replica.position)

    def note_applied(self, batch: AppliedBatch) -> None:
        """The replica has committed a batch: first what it changed is out of date, then its position is reached."""
        self.cache.raise_generations(changed_by(batch), batch.position)
        self.applied.advance(batch.position)
