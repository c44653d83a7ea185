"""Group commit: requests that arrive together share one call to the log, and one fsync.

Nothing here waits for company: a worker takes whatever is queued when it becomes free. So a lone request is sent at
once, and under load the calls grow by themselves while the earlier ones are on their way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import structlog

from services.common import events
from services.common.errors import LogUnavailable, OperationalError, OutcomeUnknown, Overloaded
from services.common.log.append import AppendItem, Repeated, Result
from services.write.errors import Stopping, WriterFailed
from services.write.metrics import AppendMetrics

CALL_ENTRIES_MAX: Final = 512
CALL_BYTES_MAX: Final = 2**20  # a call is closed by the item that reaches it, and items are small
QUEUE_ENTRIES_MAX: Final = 4096  # about a quarter of a second's work
SEND_SECONDS_MIN: Final = 0.2  # what is left less than this is refused plainly, instead of sent without hope
GRACE_SECONDS: Final = 0.05  # lets the call's own verdict at the deadline arrive first: it knows more
DRAIN_SECONDS: Final = 2.0  # longer than any item may wait

log = structlog.get_logger(__name__)


Append = Callable[[Sequence[AppendItem], float], Awaitable[Sequence[Result]]]
"""Append items in one atomic call, by a deadline on the event loop's clock; a result for each item, in order.

Raises OutcomeUnknown if the items may have been written, another OperationalError if they were not.
"""


@dataclass(slots=True, eq=False)
class _Pending:
    item: AppendItem
    size_bytes: int
    deadline: float
    result: asyncio.Future[Result] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_sent: bool = False

    def fail(self, error: Exception) -> None:
        if not self.result.done():  # its client may have gone, or its time be up
            self.result.set_exception(error)


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
        self._queue: asyncio.Queue[_Pending | None] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._is_closing = False
        self._failure: BaseException | None = None
        metrics.queue_entries.set_function(self._queue.qsize)

    @property
    def failure(self) -> BaseException | None:
        """What a worker died of, None while all live."""
        return self._failure

    async def append(self, item: AppendItem, deadline: float) -> Result:
        """Append one item by ``deadline`` on the event loop's clock; its position, or why the log has not appended it.

        Raises Overloaded, Stopping, LogUnavailable or WritesRefused if nothing was written, OutcomeUnknown if it
        may have been, WriterFailed after the death of a worker. Cancelling the caller harms nobody else's item.
        """
        if self._failure is not None:
            raise WriterFailed("the group commit has failed") from self._failure
        if self._is_closing:
            raise Stopping("this process is stopping")
        if self._queue.qsize() >= self._queue_entries_max:
            raise Overloaded("too many writes are waiting")
        size = len(events.encode(item.event)) + len(item.written_through or b"")
        pending = _Pending(item, size, deadline)
        self._queue.put_nowait(pending)
        try:
            async with asyncio.timeout_at(deadline + GRACE_SECONDS):
                return await pending.result
        except TimeoutError:
            if pending.is_sent:
                raise OutcomeUnknown("the log has not answered; the write may or may not have happened") from None
            raise LogUnavailable("the log was too slow to take this write; nothing was written") from None

    async def __aenter__(self) -> Self:
        self._workers = [asyncio.create_task(self._work(append)) for append in self._appends]
        for worker in self._workers:
            worker.add_done_callback(self._note_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_closing = True
        for _ in self._workers:
            self._queue.put_nowait(None)
        _, unfinished = await asyncio.wait(self._workers, timeout=DRAIN_SECONDS)
        for worker in unfinished:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self, append: Append) -> None:
        while batch := await self._next_batch():
            await self._commit(append, batch)

    async def _next_batch(self) -> list[_Pending]:
        """What is queued, at least one item, up to the bounds of a call; empty at the end of the queue."""
        batch: list[_Pending] = []
        taken_bytes = 0
        while len(batch) < CALL_ENTRIES_MAX and taken_bytes < CALL_BYTES_MAX:
            if batch and self._queue.empty():
                break
            pending = await self._queue.get()
            if pending is None:
                if batch:  # this worker's own end: meet it again after the batch
                    self._queue.put_nowait(None)
                break
            if self._is_worth_sending(pending):
                pending.is_sent = True
                batch.append(pending)
                taken_bytes += pending.size_bytes
        return batch

    def _is_worth_sending(self, pending: _Pending) -> bool:
        if pending.result.done():
            return False
        if pending.deadline - asyncio.get_running_loop().time() < SEND_SECONDS_MIN:
            pending.fail(LogUnavailable("the log was too slow to take this write; nothing was written"))
            return False
        return True

    async def _commit(self, append: Append, batch: list[_Pending]) -> None:
        self._metrics.batch_entries.observe(len(batch))
        started = asyncio.get_running_loop().time()
        try:
            results = await append([pending.item for pending in batch], max(pending.deadline for pending in batch))
            outcomes = list(zip(batch, results, strict=True))
        except OperationalError as error:
            self._metrics.count(error.code, len(batch))
            for pending in batch:
                pending.fail(error)
            return
        except BaseException:
            self._metrics.count("failed", len(batch))
            for pending in batch:
                pending.fail(OutcomeUnknown("the write may or may not have happened"))
            raise
        finally:
            self._metrics.seconds.observe(asyncio.get_running_loop().time() - started)
        for pending, result in outcomes:
            self._metrics.count(_outcome(result))
            if not pending.result.done():
                pending.result.set_result(result)

    def _note_end(self, worker: asyncio.Task[None]) -> None:
        error = None if worker.cancelled() else worker.exception()
        if error is None:
            return
        self._failure = error
        log.critical("group_commit_failed", exc_info=error)
        while not self._queue.empty():
            pending = self._queue.get_nowait()
            if pending is not None:
                pending.fail(LogUnavailable("the group commit has failed; nothing was written"))
        self._on_failure(error)


def _outcome(result: Result) -> str:
    match result:
        case str():
            return result
        case Repeated():
            return "repeated"
        case int():
            return "appended"
