"""Group commit against a real log: everything acknowledged is there once, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from services.common import events
from services.common.errors import OutcomeUnknown
from services.common.events import TweetCreated
from services.common.log.append import AppendItem, Result
from services.common.log.client import EventLog
from services.common.log.redis_url import connection_to
from services.write.clocks import LogView, TrustedClock
from services.write.group_commit import GroupCommit
from services.write.log_writer import LogWriter
from services.write.metrics import AppendMetrics
from tests.support.faulty_network import Fault, FaultyNetwork
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def event_log(redis_server: RedisServer) -> EventLog:
    """A started log."""
    log = EventLog(redis_server.url)
    log.start_epoch(1, log.raise_fence(0), 0)
    return log


def fail_test(error: BaseException) -> None:
    """An ``on_failure`` for tests in which no worker may die."""
    raise AssertionError("a worker died") from error


@asynccontextmanager
async def group_commit_to(url: str, registry: CollectorRegistry) -> AsyncIterator[GroupCommit]:
    """A group commit as the service has it: two calls in flight over two connections."""
    view, clock = LogView(), TrustedClock()
    async with AsyncExitStack() as stack:
        writers = [LogWriter(connection_to(url), view, clock) for _ in range(2)]
        for writer in writers:
            stack.push_async_callback(writer.aclose)
        metrics = AppendMetrics(registry)
        yield await stack.enter_async_context(GroupCommit(writers, metrics=metrics, on_failure=fail_test))


async def append(commit: GroupCommit, content: str, seconds: float = 5.0) -> Result:
    """Append a tweet; the deadline is generous, because the machine may be busy."""
    item = AppendItem(TweetCreated(user_id=1, content=content))
    return await commit.append(item, asyncio.get_running_loop().time() + seconds)


def contents(log: EventLog) -> dict[int, str]:
    """The tweets of the log by position, in log order."""
    tweets = {}
    for entry in log.read(0, entries_max=100_000):
        event = events.decode(entry.name, entry.payload)
        if isinstance(event, TweetCreated):
            tweets[entry.position] = event.content
    return tweets


async def test_two_thousand_concurrent_writes_are_each_there_once(
    redis_server: RedisServer, event_log: EventLog
) -> None:
    """No id twice, each write's own position, ids ascending in the log, and far fewer calls than writes."""
    registry = CollectorRegistry()
    async with group_commit_to(redis_server.url, registry) as commit:
        results = await asyncio.gather(*(append(commit, f"tweet {number}") for number in range(2_000)))
    written = contents(event_log)
    assert written == {position: f"tweet {number}" for number, position in enumerate(results)}
    assert list(written) == sorted(written)
    calls = registry.get_sample_value("append_batch_entries_count")
    assert calls is not None
    assert calls < 100


async def test_clients_that_go_away_take_nobody_elses_write_with_them(
    redis_server: RedisServer, event_log: EventLog
) -> None:
    """A third of them leaves at some moment: the others' writes are there once; theirs are, or are not."""
    moments = random.Random(11)
    async with group_commit_to(redis_server.url, CollectorRegistry()) as commit:
        tasks = [asyncio.create_task(append(commit, f"tweet {number}")) for number in range(600)]
        for task in moments.sample(tasks, 200):
            await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    written = contents(event_log)
    acknowledged = {position: f"tweet {number}" for number, position in enumerate(results) if isinstance(position, int)}
    assert len(acknowledged) >= 400
    assert acknowledged.items() <= written.items()
    assert len(set(written.values())) == len(written)


async def test_writes_over_a_network_that_loses_answers_are_there_once(
    redis_server: RedisServer, event_log: EventLog
) -> None:
    """Requests and answers get lost at random: every acknowledged write exists once, nothing exists twice."""
    faults = random.Random(7)
    async with (
        FaultyNetwork(redis_server.port) as network,
        group_commit_to(network.url, CollectorRegistry()) as commit,
    ):
        acknowledged: dict[int, str] = {}
        for round_number in range(10):
            network.faults.append(faults.choice([Fault.LOSE_ANSWER, Fault.LOSE_REQUEST]))
            names = [f"tweet {round_number} {number}" for number in range(20)]
            results = await asyncio.gather(*(append(commit, name) for name in names), return_exceptions=True)
            for name, result in zip(names, results, strict=True):
                assert isinstance(result, int | OutcomeUnknown)
                if isinstance(result, int):
                    acknowledged[result] = name
    written = contents(event_log)
    assert len(acknowledged) == 200
    assert written == acknowledged


async def test_what_was_accepted_before_a_graceful_stop_is_written(
    redis_server: RedisServer, event_log: EventLog
) -> None:
    """Leaving drains the queue before the connections close."""
    async with group_commit_to(redis_server.url, CollectorRegistry()) as commit:
        tasks = [asyncio.create_task(append(commit, f"tweet {number}")) for number in range(50)]
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks)
    assert list(contents(event_log)) == results
