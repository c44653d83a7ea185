"""The writer that looks at the log: what it has seen and the log has lost, it says before it learns anything newer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from services.common import keys
from services.common.events import TweetCreated
from services.common.ids import entry_id
from services.common.log.append import AppendItem
from services.common.log.client import EventLog
from services.write.clocks import LogView
from services.write.log_budget import LogBudget
from services.write.log_watch import LogWatch
from services.write.metrics import LogMetrics
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog


@dataclass(frozen=True, slots=True)
class Writer:
    """What looks, and what it knows."""

    view: LogView
    watch: LogWatch

    def look(self) -> str | None:
        """Look once; why the log takes no writes."""
        asyncio.run(self.watch.look())
        return self.watch.reason


@pytest.fixture
def log(redis_server: RedisServer) -> ScriptedLog:
    """A started log."""
    return ScriptedLog.started(redis_server.url)


@pytest.fixture
def writer(log: ScriptedLog) -> Writer:
    """One that has seen nothing yet."""
    view = LogView()
    metrics = LogMetrics(CollectorRegistry(), is_full=lambda: view.is_full)
    budget = LogBudget(0, metrics)
    return Writer(view, LogWatch(EventLog(log.url), view, metrics, budget=budget, requires_durability=False))


def append(log: ScriptedLog) -> int:
    """Append a tweet; its position."""
    return int(log.call([AppendItem(TweetCreated(user_id=1, content="hello"))]).results[0])


def lose(log: ScriptedLog, position: int, head: int) -> None:
    """Take the last entry from the log, and a halt with it, as an older file would."""
    log.redis.xdel(keys.STREAM, entry_id(position))
    log.redis.hset(keys.META, "head", head)
    log.redis.hdel(keys.META, "halt", "reported")


def test_a_log_that_went_on_without_what_was_seen_is_halted_at_every_look(log: ScriptedLog, writer: Writer) -> None:
    """The simulation's seeds 1150 and 2603: a halt can be lost as entries can, and then nobody else may know."""
    kept, lost = append(log), append(log)
    assert writer.look() is None
    assert writer.view.head == lost
    lose(log, lost, kept)
    log.set_time(log.now_ms + 1_000)
    beside = append(log)
    for _ in range(2):
        writer.look()
        assert writer.look() is not None
        assert writer.view.head == lost
        status = EventLog(log.url).status()
        assert (status.halt is not None, status.reported) == (True, lost)
        log.redis.hdel(keys.META, "halt", "reported")
    log.redis.hset(keys.META, mapping={"halt": "again", "reported": lost})
    epoch_position = EventLog(log.url).start_epoch(2, fence=1, base_position=beside)
    assert writer.look() is None
    assert writer.view.head == epoch_position
    assert EventLog(log.url).status().abandoned == [lost]


def test_what_was_only_trimmed_halts_nothing(log: ScriptedLog, writer: Writer) -> None:
    """The owner is told, and finds it in its archive."""
    seen = append(log)
    assert writer.look() is None
    newest = append(log)
    EventLog(log.url).trim(newest, fence=1)
    assert writer.look() is None
    assert writer.view.head == newest
    assert EventLog(log.url).status().abandoned == [seen]
