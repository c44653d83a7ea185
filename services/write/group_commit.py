"""Group commit: requests that arrive together share one call to the log, and one fsync.

A lone request is sent at once. While a call is under way, the next one gathers until it has as many items, or until one
is answered (ADR 49): under load the calls grow by themselves, and no small one takes a fsync from those behind it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Final, Self

import msgspec
import structlog

from services.common.errors import LogUnavailable, OperationalError, OutcomeUnknown, Overloaded
from services.common.log.append import AppendItem, Repeated, Result
from services.write.errors import Stopping, WriterFailed
from services.write.metrics import AppendMetrics

CALL_ENTRIES_MAX: Final = 512
QUEUE_ENTRIES_MAX: Final = 4096  # about a quarter of a second's work
SEND_SECONDS_MIN: Final = 0.2  # what is left less than this is refused plainly, instead of sent without hope
GRACE_SECONDS: Final = 0.05  # lets the call's own verdict at the deadline arrive first: it knows more
DRAIN_SECONDS: Final = 2.0  # longer than any item may wait

log = structlog.get_logger(__name__)


Append = Callable[[Sequence[AppendItem], float], Awaitable[Sequence[Result]]]
"""Append items in one atomic call, by a deadline on the event loop's clock; a result for each item, in order.

Raises OutcomeUnknown if the items may have been written, another OperationalError if they were not.
"""

Settle = Callable[[Result | Exception], None]
"""Called once with what became of an item. Must not raise."""


class _Pending(msgspec.Struct, eq=False):
    item: AppendItem
    deadline: float
    settle: Settle | None
    is_sent: bool = False

    def end(self, outcome: Result | Exception) -> None:
        settle, self.settle = self.settle, None
        if settle is not None:  # its client may have gone, or its time be up
            settle(outcome)

    def end_late(self) -> None:
        if self.is_sent:
            self.end(OutcomeUnknown("the log has not answered; the write may or may not have happened"))
        else:
            self.end(LogUnavailable("the log was too slow to take this write; nothing was written"))


class GroupCommit:
    """A bounded queue and one worker for each ``append``, so that as many calls may be in flight.

    An async context manager: entering starts the workers, leaving drains the queue. ``on_failure`` is called when
    a worker dies; whoever waits then, or comes later, gets an error at once.
    """

    def __init__(
        self,
        appends: Sequence[Append],
        *,
        metrics: AppendMetrics,
        on_failure: Callable[[BaseException], None],
        queue_entries_max: int = QUEUE_ENTRIES_MAX,
    ) -> None:
        self._appends = appends
        self._metrics = metrics
        self._on_failure = on_failure
        self._queue_entries_max = queue_entries_max
        self._queue: deque[_Pending] = deque()
        self._sent: list[list[_Pending]] = []
        self._idle: deque[asyncio.Future[None]] = deque()
        self._workers: list[asyncio.Task[None]] = []
        self._is_closing = False
        self._failure: BaseException | None = None
        self._expires_at = math.inf  # when the one timer for all items is due
        metrics.queue_entries.set_function(self._queue.__len__)

    @property
    def failure(self) -> BaseException | None:
        """What a worker died of, None while all live."""
        return self._failure

    async def append(self, item: AppendItem, deadline: float) -> Result:
        """Append one item by ``deadline`` on the event loop's clock; its position, or why the log has not appended it.

        Raises what ``submit`` raises and settles with. Cancelling the caller harms nobody else's item.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        pending = self._put(item, deadline, partial(_resolve, future))
        try:
            return await future
        finally:
            pending.settle = None

    def submit(self, item: AppendItem, deadline: float, settle: Settle) -> None:
        """Append one item by ``deadline``, and call ``settle`` with the result, or with an error.

        Raises Overloaded, Stopping, or WriterFailed after the death of a worker. Settles with LogUnavailable or
        WritesRefused if nothing was written, with OutcomeUnknown if it may have been.
        """
        self._put(item, deadline, settle)

    async def __aenter__(self) -> Self:
        self._workers = [asyncio.create_task(self._work(append)) for append in self._appends]
        for worker in self._workers:
            worker.add_done_callback(self._note_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_closing = True
        while self._idle:
            self._wake_one()
        _, unfinished = await asyncio.wait(self._workers, timeout=DRAIN_SECONDS)
        for worker in unfinished:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _put(self, item: AppendItem, deadline: float, settle: Settle) -> _Pending:
        if self._failure is not None:
            raise WriterFailed("the group commit has failed") from self._failure
        if self._is_closing:
            raise Stopping("this process is stopping")
        if len(self._queue) >= self._queue_entries_max:
            raise Overloaded("too many writes are waiting")
        pending = _Pending(item, deadline, settle)
        self._queue.append(pending)
        if not self._sent or len(self._queue) >= len(self._sent[-1]):
            self._wake_one()
        if deadline + GRACE_SECONDS < self._expires_at:
            self._expire_at(deadline + GRACE_SECONDS)
        return pending

    def _wake_one(self) -> None:
        if self._idle:
            self._idle.popleft().set_result(None)

    def _expire_at(self, moment: float) -> None:
        self._expires_at = moment
        asyncio.get_running_loop().call_at(moment, self._expire, moment)

    def _expire(self, due: float) -> None:
        """End what nobody may wait for any longer. One timer for all: one each would cost more than the queue does."""
        if due != self._expires_at:
            return  # an item with less time has come since, and has its own
        now = asyncio.get_running_loop().time()
        self._expires_at = math.inf
        waiting = [pending for pending in chain(self._queue, *self._sent) if pending.settle is not None]
        for pending in waiting:
            if pending.deadline + GRACE_SECONDS <= now:
                pending.end_late()
        if next_moment := min((each.deadline for each in waiting if each.settle is not None), default=0.0):
            self._expire_at(next_moment + GRACE_SECONDS)

    async def _work(self, append: Append) -> None:
        while batch := await self._next_batch():
            self._sent.append(batch)
            try:
                await self._commit(append, batch)
            finally:
                self._sent.remove(batch)

    async def _next_batch(self) -> list[_Pending]:
        """What is queued, at least one item, up to the bounds of a call; empty at the end of the queue."""
        while True:
            if batch := self._take():
                return batch
            if self._is_closing:
                return []
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(woken)
            await woken

    def _take(self) -> list[_Pending]:
        batch: list[_Pending] = []
        too_late = asyncio.get_running_loop().time() + SEND_SECONDS_MIN
        while self._queue and len(batch) < CALL_ENTRIES_MAX:
            pending = self._queue.popleft()
            if pending.settle is None:
                continue
            if pending.deadline < too_late:
                pending.end_late()
                continue
            pending.is_sent = True
            batch.append(pending)
        if self._queue:
            self._wake_one()
        return batch

    async def _commit(self, append: Append, batch: list[_Pending]) -> None:
        self._metrics.batch_entries.observe(len(batch))
        started = asyncio.get_running_loop().time()
        try:
            results = await append([pending.item for pending in batch], max(pending.deadline for pending in batch))
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} items")
        except OperationalError as error:
            self._metrics.count(error.code, len(batch))
            _end_all(batch, error)
            return
        except BaseException:
            self._metrics.count("failed", len(batch))
            _end_all(batch, OutcomeUnknown("the write may or may not have happened"))
            raise
        finally:
            self._metrics.seconds.observe(asyncio.get_running_loop().time() - started)
        self._count(results)
        for pending, result in zip(batch, results, strict=True):
            pending.end(result)

    def _count(self, results: Sequence[Result]) -> None:
        others = [result for result in results if type(result) is not int]
        if len(others) < len(results):
            self._metrics.count("appended", len(results) - len(others))
        for result in others:
            self._metrics.count("repeated" if isinstance(result, Repeated) else str(result))

    def _note_end(self, worker: asyncio.Task[None]) -> None:
        error = None if worker.cancelled() else worker.exception()
        if error is None:
            return
        self._failure = error
        log.critical("group_commit_failed", exc_info=error)
        queued = list(self._queue)
        self._queue.clear()
        _end_all(queued, LogUnavailable("the group commit has failed; nothing was written"))
        self._on_failure(error)


def _end_all(batch: Iterable[_Pending], error: Exception) -> None:
    for pending in batch:
        pending.end(error)


def _resolve(future: asyncio.Future[Result], outcome: Result | Exception) -> None:
    if future.done():  # its client has gone
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
