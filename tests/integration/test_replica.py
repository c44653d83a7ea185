"""The follower keeps a replica true to a real log, whatever happens to the log, the owner and the process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.common import keys, projection, views
from services.common.cache import Cache
from services.common.database import open_reader
from services.common.errors import StorageUnfit
from services.common.events import TweetCreated, TweetLiked, UserCreated
from services.common.ids import entry_id
from services.common.log.client import EventLog
from services.read.encoded import Encoded
from services.read.follower import Follower
from services.read.generations import Changes
from services.read.metrics import ReadMetrics
from services.read.replica import Replica, Replicas
from services.read.replica_directory import ReplicaDirectory
from services.read.store import Backing, Store
from tests.support.process import REPOSITORY
from tests.support.reading import Owner, append
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog
from tests.support.wait import eventually


class Reader:
    """A follower in a thread and what it serves, without HTTP. ``is_held`` keeps it from going on after a batch."""

    def __init__(self, redis_url: str, owner: Owner, directory: Path) -> None:
        self.store: Store = Store(Cache(1_000_000))
        self.served: list[int] = []
        self.directory = ReplicaDirectory(directory)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.log = EventLog(redis_url)
        self.follower = Follower(
            self.log,
            Replicas(owner, self.directory, ReadMetrics(CollectorRegistry())),
            ReadMetrics(CollectorRegistry()),
            adopt=self._adopt,
            note_applied=self._note_applied,
        )
        self._thread = threading.Thread(target=self.follower.run)

    @property
    def position(self) -> int:
        """The applied position, as clients see it."""
        return self.store.applied.value

    def hashes(self) -> dict[str, str]:
        """The hashes of the replica's tables."""
        engine = open_reader(self.replica.path)
        try:
            with engine.begin() as connection:
                return projection.table_hashes(connection)
        finally:
            engine.dispose()

    def wait_for(self, position: int) -> None:
        """Wait until this position is applied."""
        eventually(lambda: self.position >= position, describe=lambda: f"{position}, applied {self.position}")

    def _adopt(self, replica: Backing) -> None:
        assert isinstance(replica, Replica)
        self.replica = replica
        self.store.adopt(replica)
        self.served.append(self.position)

    def _note_applied(self, changes: Changes) -> None:
        self.store.note_applied(changes)
        self.served.append(self.position)
        self.may_go_on.wait(30)


@contextmanager
def following(redis_url: str, owner: Owner, directory: Path) -> Iterator[Reader]:
    """A running reader."""
    reader = Reader(redis_url, owner, directory)
    reader._thread.start()
    try:
        yield reader
    finally:
        reader.may_go_on.set()
        reader.follower.stop()
        reader._thread.join(10)
        assert not reader._thread.is_alive()
        reader.directory.close()
        reader.log.close()


@pytest.fixture
def log(redis_server: RedisServer) -> ScriptedLog:
    """A started log."""
    return ScriptedLog.started(redis_server.url)


@pytest.fixture
def owner(log: ScriptedLog, tmp_path: Path) -> Iterator[Owner]:
    """An owner that has applied everything so far: one epoch."""
    made = Owner(EventLog(log.url), tmp_path / "owner.db")
    made.catch_up()
    yield made
    made.engine.dispose()
    made.log.close()


def tweets(log: ScriptedLog, author: int, count: int) -> list[int]:
    """Append tweets; returns their positions."""
    return append(log, *(TweetCreated(user_id=author, content="hello") for _ in range(count)))


def lose(log: ScriptedLog, positions: Sequence[int]) -> None:
    """Make Redis what it is after it came back without its newest entries."""
    head = EventLog(log.url).entry(positions[0])
    assert head is not None
    log.redis.xdel(keys.STREAM, *(entry_id(position) for position in positions))
    log.redis.hset(keys.META, "head", str(head.prev))


def test_a_reader_starts_from_a_snapshot_and_follows_the_log(log: ScriptedLog, owner: Owner, tmp_path: Path) -> None:
    """Its tables are the owner's, whatever part of them came by which way."""
    (ada,) = append(log, UserCreated(username="ada"))
    tweets(log, ada, 5)
    owner.catch_up()
    behind = tweets(log, ada, 5)[-1]
    with following(log.url, owner, tmp_path / "replica") as reader:
        reader.wait_for(behind)
        eventually(lambda: reader.follower.readiness() is None)
        live = append(log, *(TweetLiked(tweet_id=behind) for _ in range(5)))[-1]
        reader.wait_for(live)
        owner.catch_up()
        assert reader.hashes() == owner.hashes()
        assert reader.follower.age_seconds() < 2
        assert owner.fetches == 1


def test_a_reader_is_not_ready_before_its_first_snapshot(log: ScriptedLog, owner: Owner, tmp_path: Path) -> None:
    """The owner is down when it starts; it goes on asking."""
    owner.is_down = True
    with following(log.url, owner, tmp_path / "replica") as reader:
        eventually(lambda: owner.fetches >= 2)
        assert "down" in str(reader.follower.readiness())
        owner.is_down = False
        eventually(lambda: reader.follower.readiness() is None)


def test_a_reader_behind_the_horizon_takes_a_snapshot_and_serves_on_meanwhile(
    log: ScriptedLog, owner: Owner, tmp_path: Path
) -> None:
    """HAZARDS 20: the log was trimmed past it, and the owner is down for a while."""
    (ada,) = append(log, UserCreated(username="ada"))
    with following(log.url, owner, tmp_path / "replica") as reader:
        reader.may_go_on.clear()
        first = tweets(log, ada, 1)[0]
        reader.wait_for(first)
        missed = tweets(log, ada, 10)
        owner.catch_up()
        EventLog(log.url).trim(missed[5], fence=1)
        owner.is_down, fetches = True, owner.fetches
        reader.store.cache.fill("seen", Encoded(200, b""), size_bytes=1, read_position=first, made_from=[])
        reader.may_go_on.set()
        eventually(lambda: owner.fetches >= fetches + 2)
        assert views.tweet(reader.replica.reader, first).value is not None
        assert reader.follower.readiness() is None
        outdated = reader.replica.path
        owner.is_down = False
        reader.wait_for(missed[-1])
        assert reader.store.cache.get("seen") is None
        live = tweets(log, ada, 1)[0]
        reader.wait_for(live)
        owner.catch_up()
        assert reader.hashes() == owner.hashes()
        eventually(lambda: not outdated.exists())
    assert reader.served == sorted(reader.served)


def test_a_reader_of_a_forked_log_halts_it_and_serves_what_it_has_until_the_new_epoch(
    log: ScriptedLog, owner: Owner, tmp_path: Path
) -> None:
    """HAZARDS 1: Redis comes back without entries that this reader has applied, and the owner has not."""
    (ada,) = append(log, UserCreated(username="ada"))
    owner.catch_up()
    with following(log.url, owner, tmp_path / "replica") as reader:
        lost = tweets(log, ada, 3)
        reader.wait_for(lost[-1])
        lose(log, lost)
        eventually(lambda: log.redis.hget(keys.META, "halt"))
        assert log.redis.hget(keys.META, "reported") == str(lost[-1]).encode()
        assert views.tweet(reader.replica.reader, lost[-1]).value is not None
        assert reader.follower.readiness() is None
        epoch = EventLog(log.url).start_epoch(2, fence=1, base_position=owner.position)
        owner.catch_up()
        reader.wait_for(epoch)
        assert views.tweet(reader.replica.reader, lost[-1]).value is None
        assert reader.hashes() == owner.hashes()
    assert reader.served == sorted(reader.served)


def test_a_reader_too_old_for_an_event_stops_before_it_and_says_so(
    log: ScriptedLog, owner: Owner, tmp_path: Path
) -> None:
    """HAZARDS 5: what came before is applied, the replica goes on being served, readiness names the remedy."""
    (ada,) = append(log, UserCreated(username="ada"))
    prev = tweets(log, ada, 3)[-1]
    log.redis.xadd(keys.STREAM, {"e": "tweet_edited", "v": 2, "p": prev, "d": "{}"}, id=entry_id(prev + 1))
    log.redis.hset(keys.META, "head", str(prev + 1))
    with following(log.url, owner, tmp_path / "replica") as reader:
        eventually(lambda: "upgrade" in str(reader.follower.readiness()))
        assert reader.position == prev
        assert views.tweet(reader.replica.reader, prev).value is not None


def test_a_reader_goes_on_by_itself_when_redis_is_back(fresh_redis: RedisServer, tmp_path: Path) -> None:
    """Killed and started again: the age of what is served grows, then falls, and nothing is missing."""
    log = ScriptedLog(fresh_redis.url)
    log.start()
    (ada,) = append(log, UserCreated(username="ada"))
    owner = Owner(EventLog(log.url), tmp_path / "owner.db")
    owner.catch_up()
    with following(log.url, owner, tmp_path / "replica") as reader:
        eventually(lambda: reader.follower.readiness() is None)
        fresh_redis.kill()
        eventually(lambda: reader.follower.age_seconds() > 1)
        assert reader.follower.readiness() is None
        fresh_redis.start()
        reader.wait_for(tweets(log, ada, 3)[-1])
        eventually(lambda: reader.follower.age_seconds() < 1)
        assert owner.fetches == 1
    owner.engine.dispose()


def test_a_reader_that_starts_while_redis_is_down_serves_the_snapshot(fresh_redis: RedisServer, tmp_path: Path) -> None:
    """It cannot know how much it misses, so it is ready, and what it serves grows old."""
    log = ScriptedLog(fresh_redis.url)
    log.start()
    (ada,) = append(log, UserCreated(username="ada"))
    owner = Owner(EventLog(log.url), tmp_path / "owner.db")
    owner.catch_up()
    fresh_redis.kill()
    with following(log.url, owner, tmp_path / "replica") as reader:
        eventually(lambda: reader.follower.readiness() is None)
        assert views.user(reader.replica.reader, ada).value is not None
        assert reader.position == ada
    owner.engine.dispose()


def test_a_replica_file_is_removed_with_its_reader(log: ScriptedLog, owner: Owner, tmp_path: Path) -> None:
    """Nothing of it stays when the process leaves as it should."""
    with following(log.url, owner, tmp_path / "replica") as reader:
        eventually(lambda: reader.follower.readiness() is None)
        assert reader.replica.path.exists()
    assert not reader.directory.path.exists()


def test_a_directory_of_a_killed_process_is_removed_and_one_in_use_is_not(tmp_path: Path) -> None:
    """kill -9 leaves the files; the lock goes with the process, so its number may be somebody else's by now."""
    program = (
        "import pathlib, sys\n"
        "from services.read.replica_directory import ReplicaDirectory\n"
        "directory = ReplicaDirectory(pathlib.Path(sys.argv[1]))\n"
        "print(directory.path, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        other = Path(process.stdout.readline().decode().strip())
        own = ReplicaDirectory(tmp_path)
        assert other.exists()
        process.kill()
        process.wait(10)
    third = ReplicaDirectory(tmp_path)
    assert not other.exists()
    assert own.path.exists()
    own.close()
    third.close()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_replica_directory_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    """REPLICA_DIR names a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnfit, match="REPLICA_DIR"):
        ReplicaDirectory(tmp_path / "file")
