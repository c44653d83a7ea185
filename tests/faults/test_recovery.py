"""The owner over a log that has lost entries: what it keeps, what it reports, and when it must not decide."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.common import keys
from services.common.database import private_path
from services.common.errors import BehindHorizon, FenceLost, InvariantError, LogForked, StorageUnfit
from services.common.events import AccountDeleted, TweetCreated, UserReinstated, UserSuspended, UserUpdated
from services.common.ids import entry_id, position_at, unix_ms_of
from services.common.log.append import NAME_HELD_SECONDS, AppendItem, CredentialChange
from services.common.log.client import EventLog
from services.common.log.subscription import Subscription
from services.db_updater.applier import Step
from services.write.clocks import LogView
from services.write.log_budget import LogBudget
from services.write.log_watch import LogWatch
from services.write.metrics import LogMetrics
from tests.support.owner import (
    append,
    archived,
    credentials,
    database_path,
    following,
    rebuilt_hashes,
    reported,
    table_hashes,
    tweet,
    user,
)
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually


def started(directory: Path, log: EventLog, redis_server: RedisServer, entries: int = 3) -> list[int]:
    """Start the log with an owner of this directory that applies an account and tweets, then leaves."""
    with following(directory, redis_server.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        positions = [ada, *append(log, *(tweet(ada) for _ in range(entries - 1)))]
        owner.wait_until_applied(positions[-1])
    return positions


def lose(redis_server: RedisServer, lost: list[int], head: int) -> None:
    """Take the last entries from the log, as an older file would."""
    with redis_server.client() as redis:
        for position in lost:
            redis.xdel(keys.STREAM, entry_id(position))
        redis.hset(keys.META, "head", str(head))


def test_emptied_redis_under_a_running_owner(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """FLUSHALL: rows, archive, names, e-mails and credentials are whole again, and the log goes on in epoch 2."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        ada, bob = append(log, user("ada"), user("Bob"))
        last = append(log, *(tweet(ada) for _ in range(1200)))[-1]
        owner.wait_until_applied(last)
        held, kept = table_hashes(database_path(tmp_path)), log.credentials([ada, bob])
        redis_server.flush()
        owner.wait_until_epoch(2)
        assert table_hashes(database_path(tmp_path)) == held
        assert log.credentials([ada, bob]) == kept
        assert log.append([user("BOB"), user("eve")]).results[0] == "username_taken"
        (after,) = append(log, tweet(bob))
        owner.wait_until_applied(after)
        assert owner.metric("recoveries_total") == 1
        assert owner.metric("recovery_timestamp_seconds") > 0
        assert owner.metric("discarded_entries") == 0
        eventually(lambda: owner.metric("applying") == 1)
        status = log.status()
        assert status.entries_added == owner.volume.applied.entries
    assert [line["reason"] for line in reported(tmp_path)] == [
        f"db-updater: applied up to {last}, but the log ends at 0"
    ]
    assert table_hashes(database_path(tmp_path)) == rebuilt_hashes(archived(tmp_path), tmp_path / "rebuilt.db")


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("goes_on", [True, False])
def test_redis_back_with_an_older_file(
    tmp_path: Path, fresh_redis: RedisServer, goes_on: bool, is_running: bool
) -> None:
    """HAZARDS 1, with a real file: what was applied stays, what was written beside it is reported with its content."""
    with closing(EventLog(fresh_redis.url)) as log:
        ada, *_ = started(tmp_path / "owner", log, fresh_redis)
        fresh_redis.copy_data(tmp_path / "older")
        with following(tmp_path / "owner", fresh_redis.url) as owner:
            owner.wait_until_ready()
            bob, lost = append(log, user("bob"), tweet(ada, "applied, then lost"))
            owner.wait_until_applied(lost)
            if not is_running:
                owner.owner.stop()
                owner.wait_until_left()
            held = table_hashes(database_path(tmp_path / "owner"))
            fresh_redis.kill()
            if is_running:
                owner.wait_until_refused("log_unavailable")
            fresh_redis.come_back_with(tmp_path / "older")
            fork: list[int] = []
            if goes_on and not is_running:
                fork = append(log, user("bob"), tweet(ada, "written beside it"))
            if is_running:
                owner.wait_until_epoch(2)
        with following(tmp_path / "owner", fresh_redis.url) as owner:
            owner.wait_until_epoch(2)
            assert table_hashes(database_path(tmp_path / "owner")) == held
            assert owner.volume.reports.discarded_entries == len(fork)
            # A process that came after the recovery still tells of it.
            assert owner.metric("recovery_timestamp_seconds") > 0
        *discarded, summary = reported(tmp_path / "owner")
        assert [entry["position"] for entry in discarded] == fork
        assert not fork or discarded[1]["payload"] == {"user_id": ada, "content": "written beside it"}
        assert (summary["base_position"], summary["discarded_entries"]) == (lost, len(fork))
        with fresh_redis.client() as redis:
            assert redis.get("name:bob") == redis.get("email:hmac of bob") == str(bob).encode()
            assert not fork or not redis.exists(keys.credential(fork[0]))
        assert credentials(tmp_path / "owner") == {ada: "ada@example.com", bob: "bob@example.com"}


def test_a_reader_had_more_than_anybody_else(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """The new epoch lies above what it reported, says how much was lost, and no id is given twice."""
    *_, applied = started(tmp_path, log, redis_server)
    lost = append(log, tweet(1), tweet(1))
    reader = Subscription(EventLog(redis_server.url), applied, name="reader", block_ms=5)
    assert len(reader.next_batch()) == 2
    lose(redis_server, lost, applied)
    with pytest.raises(LogForked):
        reader.next_batch()
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_epoch(2)
        assert owner.owner.position > lost[-1]
    (summary,) = reported(tmp_path)
    assert (summary["base_position"], summary["reported_position"]) == (applied, lost[-1])


def _follow_from(position: int, log: EventLog) -> None:
    with pytest.raises(BehindHorizon):
        Subscription(log, position, name="reader", block_ms=5).next_batch()


def _append_having_seen(position: int, log: EventLog) -> None:
    log.append([tweet(1)], seen_position=position)


def _look_having_seen(position: int, log: EventLog) -> None:
    view = LogView()
    metrics = LogMetrics(CollectorRegistry(), is_full=lambda: view.is_full)
    view.observe_head(position)
    watch = LogWatch(log, view, metrics, budget=LogBudget(0, metrics), requires_durability=False)
    asyncio.run(watch.look())
    assert watch.reason is None


@pytest.mark.parametrize("come_back", [_follow_from, _append_having_seen, _look_having_seen])
def test_who_has_seen_most_comes_back_after_the_recovery(
    tmp_path: Path, redis_server: RedisServer, log: EventLog, come_back: Callable[[int, EventLog], None]
) -> None:
    """The simulation's seed 3237: what only somebody had seen who was cut off is reported when that one is back."""
    first, *_, applied = started(tmp_path, log, redis_server)
    lost = append(log, tweet(1), tweet(1))
    lose(redis_server, lost, applied)
    log.report_fork("a writer had seen one of two", lost[0], None)
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_epoch(2)
        owner.wait_until_ready()
        for position in (first, lost[0], lost[1]):
            come_back(position, log)
            eventually(lambda: not log.status().abandoned)
        assert (log.status().epoch, log.status().halt) == (2, None)
        assert owner.volume.reports.last is not None
        assert owner.volume.reports.last.reported_position == lost[1]
        assert owner.metric("recoveries_total") == 1
    recovery, late = reported(tmp_path)
    assert (recovery["base_position"], recovery["reported_position"]) == (applied, lost[0])
    assert (late["base_position"], late["reported_position"], late["epoch"]) == (applied, lost[1], 2)


def test_an_owner_that_lags_takes_what_the_log_still_has(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """What continues from its position is its history: it is applied, nothing is discarded."""
    *_, applied = started(tmp_path, log, redis_server)
    kept = append(log, user("bob"), *(tweet(1) for _ in range(20)))
    log.report_fork("a reader is ahead", kept[-1] + 4096, None)
    with following(tmp_path, redis_server.url, batch_entries_max=4) as owner:
        owner.wait_until_epoch(2)
    entries = archived(tmp_path)
    assert [entry.position for entry in entries if applied < entry.position][:-1] == kept
    (summary,) = reported(tmp_path)
    assert (summary["base_position"], summary["discarded_entries"]) == (kept[-1], 0)


def test_who_reports_only_after_the_new_epoch_is_above_gets_another(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """Cut off all the while, under a clock that ran ahead: it halts the log again, and the next epoch lies above."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        redis_server.flush()
        owner.wait_until_epoch(1)
        eventually(lambda: log.status().epoch == 2)
        later = log.status().head + 4096 * 60_000
        log.report_fork("a writer that was cut off", later, None)
        owner.wait_until_epoch(3)
        assert log.status().head > later
        assert log.status().halt is None


def test_lost_fence_is_a_lost_entry(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Redis has forgotten an owner's start: nobody knows what else, so a new epoch settles it."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        with redis_server.client() as redis:
            redis.hset(keys.META, "fence", "0")
        owner.wait_until_refused("log_forked: ")
        owner.wait_until_epoch(2)
        assert log.status().fence == owner.volume.applied.fence == 2


def test_replaced_owner_does_not_recover(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """HAZARDS 15: a log that is halted is set right by its owner, not by the one before."""
    steps: list[Step] = []

    def replace(step: Step) -> None:
        steps.append(step)
        if step is Step.ACCOUNTS_REBUILT:
            log.raise_fence(0)

    with following(tmp_path, redis_server.url, at=replace) as owner:
        owner.wait_until_ready()
        log.halt("a test", 0)
        assert isinstance(owner.wait_until_failed(), FenceLost)
    assert Step.ACCOUNTS_REBUILT in steps
    assert (log.status().epoch, log.status().halt) == (1, "a test")


def test_log_that_forgot_only_its_head_is_kept(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Somebody deleted the hash beside the stream: an owner without anything takes all of the stream first."""
    positions = started(tmp_path / "lost", log, redis_server)
    with redis_server.client() as redis:
        redis.delete(keys.META)
    with following(tmp_path / "empty", redis_server.url) as owner:
        owner.wait_until_epoch(2)
    assert [entry.position for entry in archived(tmp_path / "empty")][1:-1] == positions


def test_credentials_that_only_redis_has_are_saved_first(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """The private file was lost: what is rebuilt from SQLite must not wipe out the last copy."""
    ada, *_ = started(tmp_path, log, redis_server)
    for path in tmp_path.glob("twitter.private.*"):
        path.unlink()
    log.halt("a test", 0)
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_epoch(2)
        assert log.credentials([ada])[ada].email == "ada@example.com"
    assert credentials(tmp_path) == {ada: "ada@example.com"}


def test_account_that_changed_before_it_was_applied_keeps_its_credentials(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """The simulation's seed 22: an owner that lagged had the account, and the log lost the change with the rest."""

    def crash(step: Step) -> None:
        if step is Step.ARCHIVED:
            raise InvariantError("a test")

    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        owner.wait_until_applied(log.head())
    (ada,) = append(log, user("ada"))
    append(log, moved(ada, "moved"))
    with following(tmp_path, redis_server.url, batch_entries_max=1, at=crash) as owner:
        owner.wait_until_failed()
        assert owner.volume.applied.position == ada
    redis_server.flush()
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_epoch(2)
        assert log.credentials([ada])[ada].email == "moved@example.com"


def test_a_suspended_account_stays_suspended(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Redis comes back empty: what bars an account is written back from the owner's private tables."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        ada, bob = append(log, user("ada"), user("bob"))
        append(log, *(AppendItem(UserSuspended(user_id=each)) for each in (ada, bob)))
        owner.wait_until_applied(append(log, AppendItem(UserReinstated(user_id=bob)))[0])
        redis_server.flush()
        owner.wait_until_epoch(2)
        act = [AppendItem(TweetCreated(user_id=each, content="x"), actor_id=each) for each in (ada, bob)]
        barred, free = log.append(act).results
    assert (barred, type(free)) == ("account_suspended", int)


@pytest.mark.parametrize("is_emptied", [False, True])
def test_name_of_a_deleted_account_stays_held(
    tmp_path: Path, redis_server: RedisServer, log: EventLog, is_emptied: bool
) -> None:
    """No public row says so any more: the owner has kept for how long."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        ada, bob = append(log, user("ada"), user("bob"))
        owner.wait_until_applied(append(log, AppendItem(AccountDeleted(user_id=ada)))[0])
        (cyd,) = append(log, user("Cyd"))
        owner.wait_until_applied(append(log, AppendItem(AccountDeleted(user_id=cyd)))[0])
        with redis_server.client() as redis:
            held = [redis.get("name:ada"), redis.get("name:cyd")]
        if is_emptied:
            redis_server.flush()
        else:
            log.halt("a test", 0)
        owner.wait_until_epoch(2)
        assert log.append([user("ada"), user("bob"), user("CYD")]).results == ["username_taken"] * 3
        with redis_server.client() as redis:
            assert [redis.get("name:ada"), redis.get("name:cyd")] == held
    assert list(credentials(tmp_path)) == [bob]


def test_names_are_held_of_accounts_that_came_and_went_in_one_batch_and_forgotten_when_free(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """The owner was away all the while; a month later, by the log, the name is nobody's."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
    (ada,) = append(log, user("ada"))
    (gone,) = append(log, AppendItem(AccountDeleted(user_id=ada)))
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_applied(gone)
        private = owner.volume.private
        assert private.held_names() == {"ada": gone}
        later = position_at(unix_ms_of(gone) + NAME_HELD_SECONDS * 1000 + 1)
        private.hold_names({"bob": later})
        assert private.held_names() == {"bob": later}


def test_private_data_of_accounts_that_are_lost_is_forgotten(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """The owner had copied the credentials of an account, and ended before the account; the log lost it then."""
    ada, *_, applied = started(tmp_path, log, redis_server)
    (lost,) = append(log, user("eve"))

    def stop_before_commit(step: Step) -> None:
        if step is Step.PRIVATE_COMMITTED:
            raise RuntimeError("ended here")

    with following(tmp_path, redis_server.url, at=stop_before_commit) as owner:
        owner.wait_until_failed()
    assert lost in credentials(tmp_path)
    lose(redis_server, [lost], applied)
    log.report_fork("a reader is ahead", lost, None)
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_epoch(2)
        assert credentials(tmp_path) == {ada: "ada@example.com"}
        (eve,) = append(log, user("Eve"))
        owner.wait_until_applied(eve)
    assert credentials(tmp_path) == {ada: "ada@example.com", eve: "Eve@example.com"}
    assert b"example.com" not in b"".join(path.read_bytes() for path in (tmp_path / "recoveries").iterdir())


def test_older_database_takes_what_the_log_still_has(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Restored from a backup while the log reaches back far enough: it replays, and nothing is a fork."""
    started(tmp_path / "owner", log, redis_server)
    shutil.copytree(tmp_path / "owner", tmp_path / "backup")
    with following(tmp_path / "owner", redis_server.url) as owner:
        owner.wait_until_ready()
        last = append(log, user("bob"), tweet(1))[-1]
        owner.wait_until_applied(last)
    with following(tmp_path / "backup", redis_server.url) as owner:
        owner.wait_until_applied(last)
        owner.wait_until_ready()
        assert owner.volume.applied.epoch == 1
    assert table_hashes(database_path(tmp_path / "backup")) == table_hashes(database_path(tmp_path / "owner"))
    assert credentials(tmp_path / "backup") == credentials(tmp_path / "owner")


@pytest.mark.parametrize(
    ("restored", "goes_on", "kept"),
    [
        ("twitter.db", False, "second"),
        ("twitter.db", True, "second"),
        ("twitter*.db", False, "first"),
        ("twitter*.db", True, "original"),
    ],
)
def test_older_database_and_older_redis_keep_the_newest_credential_of_this_history(
    tmp_path: Path, fresh_redis: RedisServer, restored: str, goes_on: bool, kept: str
) -> None:
    """The archive is newer than both: replaying it, an older credential or one of a fork must not win."""
    volume, backup = tmp_path / "owner", tmp_path / "backup"
    with closing(EventLog(fresh_redis.url)) as log:
        ada = started(volume, log, fresh_redis)[0]
        original = log.credentials([ada])[ada].email
        shutil.copytree(volume, backup)
        with following(volume, fresh_redis.url) as owner:
            owner.wait_until_applied(append(log, moved(ada, "first"))[0])
            fresh_redis.copy_data(tmp_path / "older")
            owner.wait_until_applied(append(log, moved(ada, "second"))[0])
        for path in backup.glob(restored):
            shutil.copy(path, volume / path.name)
        fresh_redis.kill()
        fresh_redis.come_back_with(tmp_path / "older")
        if goes_on:
            append(log, moved(ada, "forked"))
        with following(volume, fresh_redis.url) as owner:
            owner.wait_until_epoch(2)
        expected = {"first": "first@example.com", "second": "second@example.com", "original": original}[kept]
        assert credentials(volume) == {ada: expected}
        assert log.credentials([ada])[ada].email == expected


def moved(user_id: int, name: str) -> AppendItem:
    """An account gives another e-mail address."""
    change = CredentialChange(email=f"{name}@example.com", email_hmac=f"hmac of {name}")
    return AppendItem(UserUpdated(user_id=user_id), change=change)


def test_older_database_behind_a_recovery_is_refused(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """What it lacks is in the archive of the owner that recovered, not in the log: it asks for a restore."""
    started(tmp_path / "owner", log, redis_server)
    shutil.copytree(tmp_path / "owner", tmp_path / "backup")
    with following(tmp_path / "owner", redis_server.url) as owner:
        owner.wait_until_ready()
        owner.wait_until_applied(append(log, user("bob"))[0])
        redis_server.flush()
        owner.wait_until_epoch(2)
    with following(tmp_path / "backup", redis_server.url) as owner:
        owner.wait_until_refused("run `twitter restore --from")
        assert log.status().halt is None


def test_empty_volume_after_a_recovery_is_refused(tmp_path: Path, redis_server: RedisServer) -> None:
    """The log begins with the epoch now, and the epoch with what only the lost volume held."""
    with following(tmp_path / "lost", redis_server.url) as owner:
        owner.wait_until_ready()
        redis_server.flush()
        owner.wait_until_epoch(2)
    with following(tmp_path / "empty", redis_server.url) as owner:
        failure = owner.wait_until_failed()
    assert isinstance(failure, StorageUnfit)
    assert "twitter restore" in str(failure)


def test_lost_archive_over_a_forked_log_is_refused(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """A gap in the archive would be for ever: the log stays halted, and the owner keeps what it holds."""
    positions = started(tmp_path, log, redis_server)
    shutil.rmtree(tmp_path / "archive")
    redis_server.flush()
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_refused("run `twitter restore --from")
        assert owner.owner.position == positions[-1]
        assert log.status().halt is not None
    assert private_path(database_path(tmp_path)).exists()
