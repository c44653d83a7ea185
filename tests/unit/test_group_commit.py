"""Group commit against a log that the test plays itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import LogUnavailable, OutcomeUnknown, Overloaded, WritesRefused
from services.common.events import TweetLiked
from services.common.log.append import AppendItem, Result
from services.write.errors import Stopping, WriterFailed
from services.write.group_commit import CALL_ENTRIES_MAX, SEND_SECONDS_MIN, Append, GroupCommit
from services.write.metrics import AppendMetrics

pytestmark = pytest.mark.anyio


class FakeLog:
    """Numbers what it is given. Each call waits until the test lets it go, if ``is_held``."""

    def __init__(self, *, is_held: bool = False) -> None:
        self.calls: list[list[AppendItem]] = []
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()
        self.position = 0
        self.error: Exception | None = None
        if not is_held:
            self.go.set()

    async def append(self, items: Sequence[AppendItem], _deadline: float) -> Sequence[Result]:
        """An ``Append``."""
        self.calls.append(list(items))
        self.arrived.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        first = self.position + 1
        self.position += len(items)
        return list(range(first, self.position + 1))


class Failures:
    """Notes what a group commit said it died of."""

    def __init__(self) -> None:
        self.seen: list[BaseException] = []

    def note(self, error: BaseException) -> None:
        """An ``on_failure``."""
        self.seen.append(error)


def group_commit(
    *appends: Append, registry: CollectorRegistry | None = None, failures: Failures | None = None, queue: int = 4096
) -> GroupCommit:
    """A group commit over these logs."""
    metrics = AppendMetrics(registry or CollectorRegistry())
    return GroupCommit(appends, metrics=metrics, on_failure=(failures or Failures()).note, queue_entries_max=queue)


def like(tweet_id: int = 1) -> AppendItem:
    """Something small to append."""
    return AppendItem(TweetLiked(tweet_id=tweet_id))


def soon() -> float:
    """A deadline that no test waits for, however busy the machine."""
    return asyncio.get_running_loop().time() + 30


async def test_requests_that_arrive_together_share_one_call() -> None:
    """And each gets the position of its own item, in the order of arrival."""
    log = FakeLog()
    async with group_commit(log.append) as commit:
        results = await asyncio.gather(*(commit.append(like(number), soon()) for number in range(1, 101)))
    assert results == list(range(1, 101))
    assert [len(call) for call in log.calls] == [100]


async def test_a_call_takes_what_came_while_the_one_before_was_on_its_way() -> None:
    """The batch grows with the load by itself; a lone request does not wait for company."""
    log = FakeLog(is_held=True)
    async with group_commit(log.append) as commit:
        first = asyncio.create_task(commit.append(like(), soon()))
        await log.arrived.wait()
        others = [asyncio.create_task(commit.append(like(), soon())) for _ in range(5)]
        await asyncio.sleep(0)
        log.go.set()
        await asyncio.gather(first, *others)
    assert [len(call) for call in log.calls] == [1, 5]


async def test_a_call_is_bounded_in_entries() -> None:
    """So that no call keeps Redis busy for long."""
    log = FakeLog()
    async with group_commit(log.append) as commit:
        await asyncio.gather(*(commit.append(like(), soon()) for _ in range(CALL_ENTRIES_MAX + 1)))
    assert [len(call) for call in log.calls] == [CALL_ENTRIES_MAX, 1]


async def test_two_logs_mean_two_calls_in_flight() -> None:
    """One call is sent while the other is fsynced; a third has to wait."""
    first, second = FakeLog(is_held=True), FakeLog(is_held=True)
    async with group_commit(first.append, second.append) as commit:
        tasks = [asyncio.create_task(commit.append(like(), soon()))]
        await first.arrived.wait()
        tasks.append(asyncio.create_task(commit.append(like(), soon())))
        await second.arrived.wait()
        tasks.append(asyncio.create_task(commit.append(like(), soon())))
        await asyncio.sleep(0)
        assert [len(first.calls), len(second.calls)] == [1, 1]
        first.go.set()
        second.go.set()
        await asyncio.gather(*tasks)


async def test_beside_a_call_a_smaller_one_waits_for_company() -> None:
    """It is sent when it has as many items, or when there is no call beside it any more, whichever is first."""
    first, second = FakeLog(is_held=True), FakeLog(is_held=True)
    async with group_commit(first.append, second.append) as commit:
        tasks = [asyncio.create_task(commit.append(like(), soon())) for _ in range(3)]
        await first.arrived.wait()
        tasks += [asyncio.create_task(commit.append(like(), soon())) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert second.calls == []
        tasks.append(asyncio.create_task(commit.append(like(), soon())))
        await second.arrived.wait()
        tasks.append(asyncio.create_task(commit.append(like(), soon())))
        first.go.set()
        second.go.set()
        await asyncio.gather(*tasks)
    assert [len(call) for call in first.calls + second.calls] in ([3, 1, 3], [3, 3, 1])


async def test_what_one_call_has_no_room_for_is_sent_by_whoever_is_free() -> None:
    """Also if all of it came at once, and woke only one."""
    first, second = FakeLog(is_held=True), FakeLog(is_held=True)
    async with group_commit(first.append, second.append) as commit:
        tasks = [asyncio.create_task(commit.append(like(), soon())) for _ in range(CALL_ENTRIES_MAX + 1)]
        await first.arrived.wait()
        await second.arrived.wait()
        first.go.set()
        second.go.set()
        await asyncio.gather(*tasks)
    assert [len(first.calls[0]), len(second.calls[0])] == [CALL_ENTRIES_MAX, 1]


async def test_each_item_gets_its_own_refusal() -> None:
    """One taken name does not spoil the batch."""

    async def append(items: Sequence[AppendItem], _deadline: float) -> Sequence[Result]:
        answers: list[Result] = [7, "username_taken", 8]
        return answers[: len(items)]

    registry = CollectorRegistry()
    async with group_commit(append, registry=registry) as commit:
        results = await asyncio.gather(*(commit.append(like(), soon()) for _ in range(3)))
    assert results == [7, "username_taken", 8]
    assert registry.get_sample_value("appends_total", {"result": "appended"}) == 2
    assert registry.get_sample_value("appends_total", {"result": "username_taken"}) == 1


async def test_a_call_that_fails_fails_each_of_its_items_and_nothing_else() -> None:
    """The next call is made as if nothing had happened."""
    log = FakeLog()
    async with group_commit(log.append) as commit:
        log.error = WritesRefused("halted", "the log is halted")
        results = await asyncio.gather(*(commit.append(like(), soon()) for _ in range(3)), return_exceptions=True)
        assert [getattr(error, "code", None) for error in results] == ["halted"] * 3
        log.error = None
        assert await commit.append(like(), soon()) == 1


async def test_a_full_queue_refuses_at_once() -> None:
    """Waiting longer than a client waits helps nobody."""
    log = FakeLog(is_held=True)
    async with group_commit(log.append, queue=2) as commit:
        tasks = [asyncio.create_task(commit.append(like(), soon()))]
        await log.arrived.wait()
        tasks += [asyncio.create_task(commit.append(like(), soon())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await commit.append(like(), soon())
        log.go.set()
        assert await asyncio.gather(*tasks) == [1, 2, 3]


async def test_a_client_that_goes_away_harms_nobody_else() -> None:
    """Neither while its item waits, nor while it is on its way."""
    log = FakeLog(is_held=True)
    async with group_commit(log.append) as commit:
        sent = [asyncio.create_task(commit.append(like(), soon())) for _ in range(3)]
        await log.arrived.wait()
        queued = [asyncio.create_task(commit.append(like(), soon())) for _ in range(3)]
        await asyncio.sleep(0)
        sent[1].cancel()
        queued[1].cancel()
        await asyncio.sleep(0)
        log.go.set()
        results = await asyncio.gather(*sent, *queued, return_exceptions=True)
    assert [results[0], results[2], results[3], results[5]] == [1, 3, 4, 5]
    assert isinstance(results[1], asyncio.CancelledError)
    assert isinstance(results[4], asyncio.CancelledError)
    assert len(log.calls[1]) == 2  # who was gone before the call was made is not in it


async def test_a_client_that_goes_away_before_its_call_fails_harms_nobody_else() -> None:
    """The others hear of the failure, and the worker lives on."""
    log = FakeLog(is_held=True)
    async with group_commit(log.append) as commit:
        tasks = [asyncio.create_task(commit.append(like(), soon())) for _ in range(2)]
        await log.arrived.wait()
        tasks[0].cancel()
        await asyncio.sleep(0)
        log.error = LogUnavailable("for a test")
        log.go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, LogUnavailable]
        assert commit.failure is None


async def test_what_waited_too_long_is_never_sent() -> None:
    """With so little time left a stalled log could only make its outcome unknown."""
    log = FakeLog()
    async with group_commit(log.append) as commit:
        late = asyncio.get_running_loop().time() + SEND_SECONDS_MIN / 2
        with pytest.raises(LogUnavailable):
            await commit.append(like(), late)
    assert log.calls == []


async def test_what_is_still_queued_at_its_deadline_is_known_not_to_be_written() -> None:
    """The log stalls on the call before: a plain refusal, not an unknown outcome."""
    log = FakeLog(is_held=True)
    async with group_commit(log.append) as commit:
        stalled = asyncio.create_task(commit.append(like(), soon()))
        await log.arrived.wait()
        with pytest.raises(LogUnavailable):
            await commit.append(like(), asyncio.get_running_loop().time())
        log.go.set()
        await stalled
    assert len(log.calls) == 1


async def test_what_was_sent_and_not_answered_by_its_deadline_is_unknown() -> None:
    """Should the answer come after all, there is nobody left to hear it."""
    log = FakeLog(is_held=True)
    async with group_commit(log.append) as commit:
        with pytest.raises(OutcomeUnknown):
            await commit.append(like(), asyncio.get_running_loop().time() + SEND_SECONDS_MIN + 0.01)
        log.go.set()
    assert log.position == 1


async def test_leaving_drains_the_queue() -> None:
    """A graceful stop: everything accepted is appended, nothing new is taken."""
    log = FakeLog(is_held=True)
    commit = group_commit(log.append)
    async with commit:
        tasks = [asyncio.create_task(commit.append(like(), soon()))]
        await log.arrived.wait()
        tasks += [asyncio.create_task(commit.append(like(), soon())) for _ in range(3)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(log.go.set)
    assert await asyncio.gather(*tasks) == [1, 2, 3, 4]
    with pytest.raises(Stopping):
        await commit.append(like(), soon())


async def test_the_death_of_a_worker_is_loud_and_nobody_hangs() -> None:
    """Sent: unknown. Queued: refused. Later: refused. And the process is told to stop."""
    log, failures = FakeLog(is_held=True), Failures()
    async with group_commit(log.append, failures=failures) as commit:
        sent = asyncio.create_task(commit.append(like(), soon()))
        await log.arrived.wait()
        queued = asyncio.create_task(commit.append(like(), soon()))
        await asyncio.sleep(0)
        log.error = RuntimeError("a bug")
        log.go.set()
        with pytest.raises(OutcomeUnknown):
            await sent
        with pytest.raises(LogUnavailable):
            await queued
        with pytest.raises(WriterFailed):
            await commit.append(like(), soon())
    assert failures.seen == [log.error]
    assert commit.failure is log.error


async def test_an_answer_of_the_wrong_length_is_the_death_of_the_worker() -> None:
    """Results must never be handed to the wrong requests."""
    failures = Failures()

    async def append(items: Sequence[AppendItem], _deadline: float) -> Sequence[Result]:
        return [*range(1, len(items) + 2)]

    async with group_commit(append, failures=failures) as commit:
        with pytest.raises(OutcomeUnknown):
            await commit.append(like(), soon())
    assert isinstance(failures.seen[0], ValueError)
