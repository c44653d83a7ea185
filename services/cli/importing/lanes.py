"""Threads that share work, each its own part in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from services.cli.importing.api import Stopped

LANE_ITEMS_MAX: Final = 16
POLL_SECONDS: Final = 0.1

ItemType = TypeVar("ItemType")


class Lanes(Generic[ItemType]):
    """``count`` threads with a bounded queue each. Items of the same lane are done in order, one after another.

    A context manager: leaving it waits until all is done. The first error of a lane stops the others and is raised
    by ``put`` or at the end; an error of the caller stops them after the item at which they are.
    """

    def __init__(self, count: int, work: Callable[[ItemType], None], stopping: threading.Event) -> None:
        self._work = work
        self._stopping = stopping
        self._error: BaseException | None = None
        self._queues: list[Queue[ItemType | None]] = [Queue(LANE_ITEMS_MAX) for _ in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(queue,)) for queue in self._queues]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def put(self, lane: int, item: ItemType) -> None:
        """Hand over an item; waits while the lane is full. Raises the error of a lane that failed."""
        self._put(self._queues[lane % len(self._queues)], item)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self._stopping.set()
        try:
            if error is None:
                for queue in self._queues:
                    self._put(queue, None)
            for thread in self._threads:
                thread.join()
        except BaseException:
            self._stopping.set()
            raise
        if error is None and self._error is not None:
            raise self._error

    def _put(self, queue: Queue[ItemType | None], item: ItemType | None) -> None:
        while self._error is None:
            try:
                return queue.put(item, timeout=POLL_SECONDS)
            except Full:
                continue
        raise self._error

    def _run(self, queue: Queue[ItemType | None]) -> None:
        try:
            while (item := self._next(queue)) is not None:
                self._work(item)
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that gives out the work
            self._error = self._error or error
            self._stopping.set()

    def _next(self, queue: Queue[ItemType | None]) -> ItemType | None:
        while not self._stopping.is_set():
            try:
                return queue.get(timeout=POLL_SECONDS)
            except Empty:
                continue
        return None
