"""kill -9 of a real owner process between any two steps: the next start comes to the same state."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common import keys
from services.common.ids import entry_id
from services.common.log.append import AppendItem
from services.common.log.client import EventLog
from services.db_updater.applier import Step
from tests.support.databases import database_in
from tests.support.owner import (
    Nonsense,
    RunningOwner,
    append,
    archived,
    credentials,
    following,
    rebuilt_hashes,
    reported,
    table_hashes,
    tweet,
    user,
)
from tests.support.owner_to_kill import BATCH_ENTRIES_MAX
from tests.support.process import REPOSITORY, Program
from tests.support.redis_server import RedisServer

START_STEPS = [step for step in Step if step.startswith("start:")]
RECOVERY_STEPS = [step for step in Step if step.startswith("recovery:")]
OTHER_STEPS = [step for step in Step if step not in START_STEPS + RECOVERY_STEPS]


@dataclass(frozen=True)
class Appended:
    """The positions of everything appended, and of the accounts."""

    positions: list[int]
    ada: int
    bob: int
    rejected: int
    cyd: int


def append_everything(log: EventLog, redis_server: RedisServer) -> Appended:
    """Three batches of the owner to be killed; whatever can happen in a batch happens in the second."""
    ada, bob, *tweets = append(log, user("ada"), user("bob"), *(tweet(1) for _ in range(BATCH_ENTRIES_MAX - 2)))
    with redis_server.client() as redis:
        redis.delete(f"{keys.NAME_PREFIX}ada", f"{keys.EMAIL_PREFIX}hmac of ada")
    batch = append(
        log, tweet(ada), user("Ada"), AppendItem(Nonsense()), user("cyd"), tweet(bob), tweet(ada), tweet(ada)
    )
    tweets += append(log, *(tweet(bob) for _ in range(BATCH_ENTRIES_MAX)))
    return Appended(sorted([ada, bob, *batch, *tweets]), ada, bob, batch[1], batch[3])


def killed_owner(directory: Path, redis_server: RedisServer, step: Step) -> Program:
    """A process that kills itself at a step."""
    command = [sys.executable, "-m", "tests.support.owner_to_kill", str(directory), redis_server.url, step]
    return Program("owner", command, directory, {"PYTHONPATH": str(REPOSITORY)})


@pytest.mark.parametrize("step", OTHER_STEPS)
def test_owner_killed_while_it_applies(tmp_path: Path, redis_server: RedisServer, log: EventLog, step: Step) -> None:
    """Every entry is applied and archived once, private data and names are as if nothing had happened."""
    directory = tmp_path / "owner"
    with following(directory, redis_server.url) as owner:
        owner.wait_until_ready()
        started_at = owner.owner.position
    appended = append_everything(log, redis_server)

    process = killed_owner(directory, redis_server, step)
    process.start()
    assert process.wait() == -signal.SIGKILL

    with following(directory, redis_server.url, retention_seconds=0) as owner:
        owner.wait_until_applied(appended.positions[-1])
        owner.wait_until_ready()
        assert owner.volume.applied.entries == 1 + len(appended.positions)
    entries = archived(directory)
    assert [entry.position for entry in entries] == [started_at, *appended.positions]
    assert table_hashes(database_in(directory)) == rebuilt_hashes(entries, tmp_path / "rebuilt.db")
    assert credentials(directory) == {
        appended.ada: "ada@example.com",
        appended.bob: "bob@example.com",
        appended.cyd: "cyd@example.com",
    }
    assert log.credentials([appended.rejected]) == {}
    with redis_server.client() as redis:
        assert redis.get(f"{keys.NAME_PREFIX}ada") is None


@pytest.mark.parametrize("step", START_STEPS)
def test_owner_killed_while_it_starts(tmp_path: Path, redis_server: RedisServer, log: EventLog, step: Step) -> None:
    """There is one epoch, each start has a fence of its own, and the log is followed."""
    process = killed_owner(tmp_path, redis_server, step)
    process.start()
    assert process.wait() == -signal.SIGKILL
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        status = log.status()
        assert (status.epoch, status.length) == (1, 1)
        assert status.fence == owner.volume.applied.fence == 2
        assert owner.owner.position == status.head


@pytest.mark.parametrize("step", [*RECOVERY_STEPS, Step.EPOCH_STARTED])
def test_owner_killed_while_it_recovers(tmp_path: Path, redis_server: RedisServer, log: EventLog, step: Step) -> None:
    """A log that came back older and went on: whatever step is the last, the next start comes to the same end."""
    directory = tmp_path / "owner"
    with following(directory, redis_server.url) as owner:
        owner.wait_until_ready()
        ada, kept = append(log, user("ada"), tweet(1))
        lost = lose_after(kept, log, owner, redis_server)
    discarded = append(log, user("eve"), tweet(ada), user("bob"))
    held = table_hashes(database_in(directory))

    process = killed_owner(directory, redis_server, step)
    process.start()
    assert process.wait() == -signal.SIGKILL
    assert step is Step.EPOCH_STARTED or log.status().halt is not None

    with following(directory, redis_server.url) as owner:
        owner.wait_until_epoch(2)
        assert owner.volume.reports.discarded_entries == len(discarded)
    *entries, summary = reported(directory)
    assert [entry["position"] for entry in entries] == discarded
    assert (summary["epoch"], summary["base_position"]) == (2, lost[-1])
    assert table_hashes(database_in(directory)) == held
    assert log.status().epoch == 2
    assert log.status().length == 1
    with redis_server.client() as redis:
        names = {key: redis.get(key) for key in redis.keys(f"{keys.NAME_PREFIX}*")}
    assert names == {b"name:ada": str(ada).encode(), b"name:bob": str(lost[0]).encode()}
    assert archived(directory)[-1].prev == lost[-1]


@pytest.mark.parametrize("step", [Step.PRIVATE_COMMITTED, Step.COMMITTED, Step.ARCHIVED])
def test_owner_killed_and_redis_emptied_at_the_same_time(
    tmp_path: Path, redis_server: RedisServer, log: EventLog, step: Step
) -> None:
    """What was applied is kept, and archived too, although the log cannot give it a second time."""
    directory = tmp_path / "owner"
    with following(directory, redis_server.url) as owner:
        owner.wait_until_ready()
    append_everything(log, redis_server)
    process = killed_owner(directory, redis_server, step)
    process.start()
    assert process.wait() == -signal.SIGKILL
    held = table_hashes(database_in(directory))
    redis_server.flush()
    with following(directory, redis_server.url) as owner:
        owner.wait_until_epoch(2)
    entries = archived(directory)
    assert table_hashes(database_in(directory)) == held == rebuilt_hashes(entries, tmp_path / "rebuilt.db")
    accounts = set(credentials(directory))
    with redis_server.client() as redis:
        assert set(redis.keys("cred:*")) == {keys.credential(user_id).encode() for user_id in accounts}


def lose_after(kept: int, log: EventLog, owner: RunningOwner, redis_server: RedisServer) -> list[int]:
    """Let the owner apply an account and two tweets that the log then forgets, as an older file would."""
    lost = append(log, user("bob"), tweet(1), tweet(1))
    owner.wait_until_applied(lost[-1])
    owner.owner.stop()
    owner.wait_until_left()
    with redis_server.client() as redis:
        for position in lost:
            redis.xdel(keys.STREAM, entry_id(position))
        redis.hset(keys.META, "head", str(kept))
        redis.delete("name:bob", "email:hmac of bob", keys.credential(lost[0]))
    return lost
