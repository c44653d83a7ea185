"""The owner over a real Redis and real files: what it does when all is well, and when something is not."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from services.common import events, keys, snapshot
from services.common.database import open_writer
from services.common.errors import FenceLost, StorageUnfit
from services.common.events import AccountDeleted, DeadLetterReplayed, Event, UserUpdated
from services.common.log.append import AppendItem, CredentialChange
from services.common.log.client import EventLog
from services.common.projection import create_tables
from services.db_updater.applier import Applier, Step
from services.db_updater.metrics import OwnerMetrics
from tests.support.owner import (
    Nonsense,
    append,
    archive_path,
    archived,
    credentials,
    database_path,
    following,
    open_volume,
    rebuilt_hashes,
    started,
    table_hashes,
    tweet,
    user,
)
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually


class FutureEvent(Event, frozen=True):
    """What a later version of the writers will append."""

    name: ClassVar[str] = "tweet_edited"
    version: ClassVar[int] = 2
    tweet_id: int = 1


class OddChange(Event, frozen=True):
    """A change of an account that no version understands, until one does."""

    name: ClassVar[str] = "user_updated"
    whose: int


def trim_everything(log: EventLog) -> None:
    """Make the log begin after what the owners so far have archived."""
    log.trim(log.head(), log.status().fence)


def test_log_is_started_followed_and_archived(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """On a new log an empty owner starts epoch 1; rows, archive and metrics follow what is appended."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        tweets = append(log, *(tweet(ada) for _ in range(1200)))
        owner.wait_until_applied(tweets[-1])
        applied = owner.volume.applied
        assert (applied.position, applied.entries, applied.epoch) == (tweets[-1], 1202, 1)
        eventually(lambda: owner.metric("applied_position") == tweets[-1])
        assert owner.metric("applied_entries_total", type="tweet_created") == 1200
        assert owner.metric("applying") == 1
    status = log.status()
    assert (status.epoch, status.version, status.head) == (1, 1, tweets[-1])
    assert [entry.position for entry in archived(tmp_path)[1:]] == [ada, *tweets]
    assert table_hashes(database_path(tmp_path)) == rebuilt_hashes(archived(tmp_path), tmp_path / "rebuilt.db")


def test_owner_lets_entries_gather_and_leaves_at_once(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """After a small batch it waits for more to come together; who stops it waits for nothing."""
    with following(tmp_path, redis_server.url, gather_seconds=600) as owner:
        eventually(lambda: owner.owner.position == log.head() > 0, describe=owner.owner.readiness)
        beginning = owner.owner.position
        (ann,) = append(log, user("ann"))
    assert owner.owner.position == beginning
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_applied(ann)


def test_second_owner_of_a_volume_is_refused(tmp_path: Path) -> None:
    """The lock names its holder, and is free again when that one has left."""
    with closing(open_volume(tmp_path)), pytest.raises(StorageUnfit, match=r"already has an owner \(pid \d+ on .+\)"):
        open_volume(tmp_path)
    open_volume(tmp_path).close()


def of_another_version(directory: Path) -> None:
    """Let the database of an owner that has left be made by another projection version."""
    engine = open_writer(database_path(directory), "full")
    with engine.begin() as connection:
        create_tables(connection)
        connection.execute(text("UPDATE applied SET projection_version = 2"))
    engine.dispose()


def test_database_of_another_version_gives_way(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """It is kept as it is; the owner fills a new one from its archive, and has all that the other one had."""
    *_, last = started(tmp_path, log, redis_server)
    held = table_hashes(database_path(tmp_path))
    of_another_version(tmp_path)
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_applied(last)
        owner.wait_until_ready()
    assert table_hashes(database_path(tmp_path)) == held
    assert table_hashes(tmp_path / "twitter.db.version-2") == held


def test_database_of_another_version_that_alone_holds_something_is_refused(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """The archive was lost: nothing could be filled from it."""
    started(tmp_path, log, redis_server)
    of_another_version(tmp_path)
    shutil.rmtree(tmp_path / "archive")
    with pytest.raises(StorageUnfit, match=r"of projection version 2 .* but the archive ends at 0"):
        open_volume(tmp_path)
    assert database_path(tmp_path).exists()


def test_batch_that_only_the_database_of_another_version_holds_is_archived_first(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """A crash kept it from the archive, and Redis has lost it since."""
    started(tmp_path, log, redis_server)

    def stop_before_archiving(step: Step) -> None:
        if step is Step.COMMITTED:
            raise RuntimeError("ended here")

    (bob,) = append(log, user("bob"))
    with following(tmp_path, redis_server.url, at=stop_before_archiving) as owner:
        owner.wait_until_failed()
    held = table_hashes(database_path(tmp_path))
    of_another_version(tmp_path)
    redis_server.flush()
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_epoch(2)
        assert bob in {entry.position for entry in archived(tmp_path)}
    assert table_hashes(database_path(tmp_path)) == held


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Whatever DATABASE_URL names by mistake is left as it is."""
    database_path(tmp_path).write_bytes(b"precious" * 1000)
    with pytest.raises(StorageUnfit, match="cannot be opened: file is not a database"):
        open_volume(tmp_path)
    assert database_path(tmp_path).read_bytes() == b"precious" * 1000


def test_private_data_stays_in_its_own_file(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Neither the public database nor its snapshot nor the archive contains an e-mail or a password hash."""
    ada, _ = started(tmp_path, log, redis_server)
    assert credentials(tmp_path) == {ada: "ada@example.com"}
    made = snapshot.make(database_path(tmp_path), tmp_path / "copy.db")
    contents = [database_path(tmp_path).read_bytes(), made.path.read_bytes()]
    contents += [repr(archived(tmp_path)).encode()]
    assert not any(
        secret in content for content in contents for secret in (b"ada@example.com", b"hash of ada", b"hmac")
    )


def test_private_data_follows_changes_and_is_erased(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """The owner's copy has the new address and the revocation; after a deletion it has nothing, in no byte."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        change = CredentialChange("moved@example.com", "hmac moved", "hash moved")
        changed = append(log, AppendItem(UserUpdated(user_id=ada), change=change))[-1]
        owner.wait_until_applied(changed)
        assert credentials(tmp_path) == {ada: "moved@example.com"}
        assert log.credentials([ada])[ada].revoked_position == changed
        owner.wait_until_applied(append(log, AppendItem(AccountDeleted(user_id=ada)))[-1])
        assert credentials(tmp_path) == {}
        left = b"".join(path.read_bytes() for path in tmp_path.glob("**/*.private.db*"))
        assert not any(
            secret in left for secret in (b"example.com", b"hash of", b"hash moved", b"hmac of", b"hmac moved")
        )


def test_dead_letter_is_recorded_and_the_next_entry_goes_on(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """A malformed entry is counted and kept; the tweet after it is there."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        after = append(log, AppendItem(Nonsense()), tweet(ada))[-1]
        owner.wait_until_applied(after)
        eventually(lambda: owner.metric("dead_letters") == 1)
        assert owner.metric("applied_entries_total", type="tweet_created") == 1
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        assert owner.metric("dead_letters") == 1


def test_replayed_change_of_an_account_reaches_the_private_tables(
    tmp_path: Path, redis_server: RedisServer, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A malformed entry names nobody, so its credentials were not copied; after the fix they are."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        (changed,) = append(log, AppendItem(OddChange(whose=ada)))
        owner.wait_until_applied(changed)
        eventually(lambda: owner.metric("dead_letters") == 1)
        with redis_server.client() as redis:
            redis.hset(keys.credential(ada), mapping={"email": "moved@example.com", "position": changed})
        fixed = SimpleNamespace(decode=lambda _payload: UserUpdated(user_id=ada, bio="moved"))
        monkeypatch.setitem(events._decoders, UserUpdated.name, fixed)
        owner.wait_until_applied(append(log, AppendItem(DeadLetterReplayed(position=changed)))[0])
        assert credentials(tmp_path) == {ada: "moved@example.com"}
        eventually(lambda: owner.metric("dead_letters") == 0)


def test_rejected_account_gives_its_name_back(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """An account that the projection rejects holds no name, no e-mail, no credentials; its rival keeps its own."""
    ada, _ = started(tmp_path, log, redis_server)
    with redis_server.client() as redis:
        redis.delete(f"{keys.NAME_PREFIX}ada", f"{keys.EMAIL_PREFIX}hmac of ada")
        (rejected,) = append(log, user("ADA"))
        assert redis.get(f"{keys.NAME_PREFIX}ada") == str(rejected).encode()
        with following(tmp_path, redis_server.url) as owner:
            owner.wait_until_applied(rejected)
            eventually(lambda: redis.get(f"{keys.NAME_PREFIX}ada") is None)
            assert not redis.exists(f"{keys.EMAIL_PREFIX}hmac of ADA", keys.credential(rejected))
            eventually(lambda: credentials(tmp_path) == {ada: "ada@example.com"})
            assert list(log.credentials([ada, rejected])) == [ada]


def test_owner_whose_fence_was_passed_applies_nothing(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Another owner, on another volume, has taken over: this one fails before it commits anything."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        before = owner.owner.position
        log.raise_fence(0)
        append(log, user("ada"))
        assert isinstance(owner.wait_until_failed(), FenceLost)
        assert owner.volume.applied.position == before


def test_what_was_read_before_the_fence_was_passed_is_not_applied_after_it(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """Two owners (HAZARDS 15): the first has read a batch when the second takes over."""
    ada, before = started(tmp_path, log, redis_server)
    append(log, tweet(ada))
    with closing(open_volume(tmp_path)) as volume:
        applier = Applier(volume, log, OwnerMetrics(CollectorRegistry()), at=lambda _step: None)
        applier.take_ownership(0)
        entries = log.read(volume.applied.position)
        log.raise_fence(0)
        with pytest.raises(FenceLost):
            applier.apply(entries)
        assert volume.applied.position == before
    assert archived(tmp_path)[-1].position == before


def test_idle_owner_notices_that_its_fence_was_passed(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """It does not wait for an entry to find out."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        log.raise_fence(0)
        assert isinstance(owner.wait_until_failed(), FenceLost)


def test_commit_needs_the_fence_in_the_database(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Even where the lock does not hold (another host), a changed fence makes the commit fail."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        with owner.volume._engine.begin() as connection:
            connection.execute(text("UPDATE applied SET fence = fence + 1"))
        append(log, user("ada"))
        assert isinstance(owner.wait_until_failed(), FenceLost)
        with owner.volume._engine.begin() as connection:
            assert connection.execute(text("SELECT count(*) FROM users")).scalar() == 0


def test_fence_is_above_those_of_redis_and_of_the_database(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """Redis may have come back from an older file: the database remembers."""
    started(tmp_path, log, redis_server)
    with redis_server.client() as redis:
        redis.hset(keys.META, "fence", "0")
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        assert log.status().fence == owner.volume.applied.fence == 2


def test_integrity_error_is_a_bug(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """A database that contradicts the log stops the owner, whatever its cause; nothing of the batch is kept."""
    ada, _ = started(tmp_path, log, redis_server)
    position = append(log, tweet(ada), AppendItem(Nonsense()))[-1]
    with closing(open_volume(tmp_path)) as volume, volume._engine.begin() as connection:
        connection.execute(text("INSERT INTO dead_letters VALUES (:position, '', 1, x'', '')"), {"position": position})
    with following(tmp_path, redis_server.url) as owner:
        assert isinstance(owner.wait_until_failed(), IntegrityError)
        with owner.volume._engine.begin() as connection:
            assert connection.execute(text("SELECT count(*) FROM tweets")).scalar() == 1


def test_newer_event_stops_an_old_owner_before_it(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """It applies what comes before, says why it stops, and reports how far behind it falls."""
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_ready()
        (ada,) = append(log, user("ada"))
        assert log.append([AppendItem(FutureEvent())]).results == ["owner_outdated"]
        log.announce_version(2)  # as an owner did that has been rolled back since
        before, _, _ = append(log, tweet(ada), AppendItem(FutureEvent()), tweet(ada))
        owner.wait_until_refused("needs projection version 2")
        assert owner.owner.position == before
        assert owner.is_running
        assert owner.metric("applying") == 0
        eventually(lambda: owner.metric("lag_entries") == 2)
        eventually(lambda: owner.metric("lag_seconds") > 0)
        assert snapshot.make(database_path(tmp_path), tmp_path / "copy.db").position == before


def test_empty_owner_does_not_start_a_log_that_somebody_halted(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """Log and volume are both gone, but a reader that still knows better has halted the log: nobody starts it."""
    log.report_fork("a reader has applied more", 4711, None)
    with following(tmp_path, redis_server.url) as owner:
        failure = owner.wait_until_failed()
    assert isinstance(failure, StorageUnfit)
    assert "a reader has applied more" in str(failure)
    assert "twitter restore" in str(failure)
    assert (log.status().epoch, log.status().reported) == (0, 4711)


def test_empty_database_is_filled_from_archive_and_log(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """The database is lost and the log trimmed: archive + stream are the whole log."""
    positions = started(tmp_path, log, redis_server)
    trim_everything(log)
    (last,) = append(log, tweet(positions[0]))
    hashes = table_hashes(database_path(tmp_path))
    for path in tmp_path.glob("twitter.*"):
        path.unlink()
    with following(tmp_path, redis_server.url, batch_entries_max=1) as owner:
        owner.wait_until_applied(last)
        owner.wait_until_ready()
    assert table_hashes(database_path(tmp_path)) != hashes
    assert table_hashes(database_path(tmp_path)) == rebuilt_hashes(archived(tmp_path), tmp_path / "rebuilt.db")
    assert credentials(tmp_path) == {positions[0]: "ada@example.com"}


@pytest.mark.parametrize("has_new_entries", [False, True])
def test_empty_volume_is_refused_when_the_log_was_trimmed(
    tmp_path: Path, redis_server: RedisServer, log: EventLog, has_new_entries: bool
) -> None:
    """Neither archive nor log holds the beginning: the owner does not start, and names the command that helps."""
    started(tmp_path / "lost", log, redis_server)
    trim_everything(log)
    if has_new_entries:
        append(log, user("bob"))
    with following(tmp_path / "empty", redis_server.url) as owner:
        failure = owner.wait_until_failed()
    assert isinstance(failure, StorageUnfit)
    assert "twitter restore" in str(failure)


def test_empty_volume_takes_a_whole_log(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """As long as the log still begins at its beginning, nothing is lost with the volume."""
    positions = started(tmp_path / "lost", log, redis_server)
    with following(tmp_path / "empty", redis_server.url) as owner:
        owner.wait_until_applied(positions[-1])
    assert table_hashes(database_path(tmp_path / "empty")) == table_hashes(database_path(tmp_path / "lost"))
    assert archived(tmp_path / "empty") == archived(tmp_path / "lost")


def test_lost_archive_is_filled_again_from_a_whole_log(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """What was applied but is not in the archive is archived before anything is trimmed."""
    started(tmp_path, log, redis_server)
    before = archived(tmp_path)
    for segment in archive_path(tmp_path).iterdir():
        segment.unlink()
    with following(tmp_path, redis_server.url, retention_seconds=0, batch_entries_max=1) as owner:
        owner.wait_until_ready()
        assert archived(tmp_path) == before


def test_lost_archive_of_a_trimmed_log_is_refused(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Going on would leave a gap in the archive for ever: the owner keeps what it holds and asks for a restore."""
    positions = started(tmp_path, log, redis_server)
    trim_everything(log)
    for segment in archive_path(tmp_path).iterdir():
        segment.unlink()
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_refused("run `twitter restore --from")
        assert owner.owner.position == positions[-1]


def test_owner_that_was_away_too_long_is_refused(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """Only another owner can have trimmed what this one has not applied: it keeps what it holds."""
    started(tmp_path, log, redis_server)
    append(log, user("bob"))
    trim_everything(log)
    with following(tmp_path, redis_server.url) as owner:
        owner.wait_until_refused("run `twitter restore --from")


def test_archived_entries_are_trimmed_and_progress_is_shown(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """Without a retention window the stream empties; a standard tool sees no lag."""
    with following(tmp_path, redis_server.url, retention_seconds=0) as owner:
        owner.wait_until_ready()
        append(log, *(user(f"user{number}") for number in range(100)))
        eventually(lambda: log.status().length == 0, describe=log.status)
        eventually(lambda: owner.metric("trimmed_entries_total") == 101)
        assert owner.metric("lag_entries") == 0
    assert len(archived(tmp_path)) == 101
    with redis_server.client() as redis:
        (group,) = redis.xinfo_groups(keys.STREAM)
        assert (group["entries-read"], group["lag"]) == (101, 0)


def test_retention_window_keeps_entries_for_readers(tmp_path: Path, redis_server: RedisServer, log: EventLog) -> None:
    """What is younger than the window stays, archived or not."""
    steps: list[Step] = []
    with following(tmp_path, redis_server.url, retention_seconds=3600, at=steps.append) as owner:
        owner.wait_until_ready()
        (position,) = append(log, user("ada"))
        owner.wait_until_applied(position)
        steps.clear()
        eventually(lambda: steps.count(Step.TRIMMED) == 2)
        assert log.status().length == 2


def test_lease_keeps_entries_for_a_reader_with_a_snapshot(
    tmp_path: Path, redis_server: RedisServer, log: EventLog
) -> None:
    """Entries after a snapshot on offer stay until its lease ends, however short the window is."""
    leased = [0]

    def leased_position() -> int | None:
        return leased[0] if leased else None

    with following(tmp_path, redis_server.url, retention_seconds=0, leased_position=leased_position) as owner:
        owner.wait_until_ready()
        first, second, third = append(log, user("ada"), user("bob"), user("cyd"))
        owner.wait_until_applied(third)
        leased[0] = first
        eventually(lambda: log.status().horizon == second, describe=log.status)
        leased.clear()
        eventually(lambda: log.status().length == 0, describe=log.status)
