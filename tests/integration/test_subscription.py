"""Following a real log: what was trimmed, lost, forked or is too new is noticed, never passed over."""

from __future__ import annotations

import pytest

from services.common import keys
from services.common.errors import BehindHorizon, FenceLost, InvariantError, LogForked, LogUnavailable, NewerVersion
from services.common.events import PROJECTION_VERSION, TweetCreated
from services.common.ids import entry_id
from services.common.log.append import AppendItem
from services.common.log.client import EventLog
from services.common.log.subscription import Subscription
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog


@pytest.fixture
def log(redis_server: RedisServer) -> ScriptedLog:
    """A started log."""
    return ScriptedLog.started(redis_server.url)


def append(log: ScriptedLog, entries: int) -> list[int]:
    """Append tweets; returns their positions."""
    item = AppendItem(TweetCreated(user_id=1, content="hello"))
    return [int(result) for result in log.call([item] * entries).results]


def follow(
    log: ScriptedLog, after_position: int, *, entries_max: int = 1000, version: int = PROJECTION_VERSION
) -> Subscription:
    """A follower with an answer within milliseconds when there is nothing new."""
    return Subscription(
        EventLog(log.url), after_position, name="reader-1", block_ms=5, entries_max=entries_max, version=version
    )


def test_a_follower_catches_up_in_batches_from_any_position(log: ScriptedLog) -> None:
    """Each entry comes once and in order, wherever the follower starts."""
    positions = append(log, 25)
    subscription = follow(log, positions[3], entries_max=10)
    batches = [[entry.position for entry in subscription.next_batch()] for _ in range(4)]
    assert [len(batch) for batch in batches] == [10, 10, 1, 0]
    assert sum(batches, []) == positions[4:]
    assert subscription.position == positions[-1]


def test_a_follower_behind_the_horizon_is_told_to_take_a_snapshot(log: ScriptedLog) -> None:
    """HAZARDS 20: Redis itself returns the next entry without a word about the gap."""
    positions = append(log, 10)
    EventLog(log.url).trim(positions[5], fence=1)
    with pytest.raises(BehindHorizon):
        follow(log, positions[3]).next_batch()
    assert EventLog(log.url).status().abandoned == [positions[3]]
    assert len(follow(log, positions[5]).next_batch()) == 4


def test_a_follower_behind_a_log_that_was_trimmed_to_its_end_is_told_so_at_once(log: ScriptedLog) -> None:
    """The simulation's seed 12: nothing is left to show the gap, and an idle log would have hidden it until a write."""
    positions = append(log, 3)
    EventLog(log.url).trim(positions[-1], fence=1)
    with pytest.raises(BehindHorizon):
        follow(log, positions[0]).next_batch()
    assert follow(log, positions[-1]).next_batch() == []


def test_a_log_that_came_back_shorter_halts_all_writes(log: ScriptedLog) -> None:
    """HAZARDS 1: fifteen applied, Redis back with ten, two new appends: nobody goes on with those two."""
    kept = append(log, 10)
    applied = append(log, 5)[-1]
    for position in range(kept[-1] + 1, applied + 1):
        log.redis.xdel(keys.STREAM, entry_id(position))
    log.redis.hset(keys.META, "head", str(kept[-1]))
    log.set_time(log.now_ms + 1_000)
    append(log, 2)
    with pytest.raises(LogForked):
        follow(log, applied).next_batch()
    status = EventLog(log.url).status()
    assert status.halt is not None
    assert "reader-1" in status.halt
    assert status.reported == applied


def test_an_emptied_redis_halts_all_writes_even_without_a_new_entry(log: ScriptedLog) -> None:
    """An idle follower compares its position with the head."""
    applied = append(log, 3)[-1]
    log.redis.flushall()
    with pytest.raises(LogForked):
        follow(log, applied).next_batch()
    assert EventLog(log.url).status().halt is not None


def test_a_record_of_another_program_halts_the_log(log: ScriptedLog) -> None:
    """Nobody can say what an XADD by hand means or came after."""
    head = append(log, 1)[-1]
    log.redis.xadd(keys.STREAM, {"hello": "world"}, id=entry_id(head + 1))
    with pytest.raises(LogForked):
        follow(log, head).next_batch()


def test_a_newer_event_stops_an_older_follower_before_it(log: ScriptedLog) -> None:
    """HAZARDS 5: what came before is applied, the newer entry is not guessed at."""
    head = append(log, 1)[-1]
    newer = {"e": "tweet_edited", "v": "2", "p": str(head), "d": "{}"}
    log.redis.xadd(keys.STREAM, newer, id=entry_id(head + 1))  # type: ignore[arg-type]
    subscription = follow(log, 0)
    assert len(subscription.next_batch()) == 2
    for _ in range(2):
        with pytest.raises(NewerVersion, match="upgrade"):
            subscription.next_batch()
    assert subscription.position == head


def test_a_log_that_came_back_older_under_a_clock_that_stands_behind_gives_no_position_again(log: ScriptedLog) -> None:
    """The simulation's seed 948: positions were counted one by one, and given to something else. Nobody could tell."""
    log.set_time(log.now_ms - 5_000)
    (first,) = append(log, 1)
    log.set_time(log.now_ms + 7)
    (second,) = append(log, 1)
    follower = follow(log, second)
    log.redis.delete(keys.STREAM)  # XADD takes no id at or below the last
    log.redis.hset(keys.META, "head", str(first))
    log.set_time(log.now_ms + 11)
    again = append(log, 3)
    assert first < again[0] != second
    assert again == list(range(again[0], again[0] + 3))
    with pytest.raises(LogForked):
        follower.next_batch()


def test_an_epoch_from_another_state_asks_for_a_snapshot(log: ScriptedLog) -> None:
    """Only a follower that holds exactly the owner's state may go on without one."""
    positions = append(log, 3)
    owner = EventLog(log.url)
    owner.halt("fork", positions[-1])
    epoch_position = owner.start_epoch(2, fence=1, base_position=positions[1])
    assert epoch_position > positions[-1]
    assert owner.status().halt is None
    with pytest.raises(BehindHorizon):
        follow(log, positions[-1]).next_batch()
    with pytest.raises(InvariantError):
        owner.start_epoch(2, fence=1, base_position=positions[1])


def test_a_fork_that_was_resolved_meanwhile_halts_nothing(log: ScriptedLog) -> None:
    """Between a follower's look and its report the owner may have started the next epoch."""
    positions = append(log, 3)
    owner = EventLog(log.url)
    owner.halt("fork", positions[-1])
    owner.start_epoch(2, fence=1, base_position=positions[-1])
    owner.report_fork("the log ended before", positions[-1], None)
    owner.report_fork("an entry did not continue", positions[-1], positions[0])
    assert (owner.status().halt, owner.status().reported) == (None, 0)


def test_an_epoch_rests_on_the_log_as_it_was_seen(log: ScriptedLog) -> None:
    """What is appended or reported after the owner has looked is never passed over."""
    positions = append(log, 3)
    owner = EventLog(log.url)
    seen = owner.status()
    owner.report_fork("a reader is ahead", positions[-1] + 1, None)
    with pytest.raises(LogForked, match="reported"):
        owner.start_epoch(2, fence=1, base_position=positions[-1], seen=seen)
    assert owner.status().length == 4
    epoch = owner.start_epoch(2, fence=1, base_position=positions[-1], entries=4, seen=owner.status())
    status = owner.status()
    assert (status.length, status.horizon, status.entries_added, status.halt) == (1, epoch, 5, None)


def test_a_log_that_has_forgotten_the_fence_has_lost_entries(log: ScriptedLog) -> None:
    """No other owner ever lowers it."""
    owner = EventLog(log.url)
    fence = owner.raise_fence(at_least=7)
    log.redis.hset(keys.META, "fence", "3")
    for forbidden in (lambda: owner.check_fence(fence), lambda: owner.trim(1, fence)):
        with pytest.raises(LogForked, match="came back older"):
            forbidden()


def test_an_old_owner_can_neither_trim_nor_start_an_epoch(log: ScriptedLog) -> None:
    """HAZARDS 15: the fence of the new owner is above it, in Redis itself."""
    positions = append(log, 3)
    old, new = EventLog(log.url), EventLog(log.url)
    fence = new.raise_fence(at_least=7)
    assert fence == 8
    new.check_fence(fence)
    for forbidden in (
        lambda: old.trim(positions[1], fence=1),
        lambda: old.start_epoch(2, fence=1, base_position=0),
        lambda: old.check_fence(1),
    ):
        with pytest.raises(FenceLost):
            forbidden()
    assert new.status().length == 4


def test_standard_tools_see_the_owners_lag(log: ScriptedLog) -> None:
    """HAZARDS 20: without ENTRIESREAD the lag of the group would be unknown."""
    positions = append(log, 9)
    owner = EventLog(log.url)
    for _ in range(2):
        owner.show_progress(positions[5], entries_read=7)
        (group,) = log.redis.xinfo_groups(keys.STREAM)
        assert (group["name"], group["lag"]) == (keys.OWNER_GROUP.encode(), 3)


def test_a_dead_redis_is_unavailable_and_nothing_else(fresh_redis: RedisServer) -> None:
    """A follower tries again; it does not stop for what may pass."""
    log = EventLog(fresh_redis.url, timeout_seconds=0.2)
    fresh_redis.kill()
    with pytest.raises(LogUnavailable):
        log.head()
    fresh_redis.start()
    assert log.head() == 0
    fresh_redis.pause()
    with pytest.raises(LogUnavailable):
        log.head()
    fresh_redis.resume()
    assert log.head() == 0
