"""Two versions at once, on real processes: upgrades in order and out of it, under load, and back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from services.common.log.append import AppendItem
from services.common.log.client import EventLog
from tests.support import next_version
from tests.support.databases import USES_POSTGRESQL
from tests.support.next_version import NEXT_VERSION, UserGreeted
from tests.support.owner import append, archived, database_path, rebuilt_hashes, table_hashes, tweet
from tests.support.process import ServiceProcess
from tests.support.system import System
from tests.support.wait import eventually

pytestmark = [pytest.mark.timeout(150), pytest.mark.skipif(USES_POSTGRESQL, reason="the files are SQLite's")]

MANY = 20_000


@pytest.fixture
def log(fresh_system: System) -> Iterator[EventLog]:
    """The log of the system."""
    with closing(EventLog(fresh_system.redis.url)) as client:
        yield client


def upgrade(service: ServiceProcess) -> None:
    """Let the next start be of the next version."""
    service.command[2:] = [next_version.__name__, service.command[-1]]


def roll_back(service: ServiceProcess) -> None:
    """Let the next start be of this version again."""
    service.command[2:] = service.command[-1:]


def kept(system: System, version: int) -> Path:
    """Where the owner's database of a version is while it is not in use."""
    return system.owner_directory / f"twitter.db.version-{version}"


def greeting(user_id: int) -> AppendItem:
    """What only the next version understands."""
    return AppendItem(UserGreeted(user_id=user_id, greeting="hello"), target=user_id)


def why_not_ready(service: ServiceProcess) -> str:
    """What a service says at its readiness probe, empty when it is ready or does not answer."""
    try:
        answer = service.http.get("/healthz/ready")
    except httpx.TransportError:
        return ""
    return "" if answer.status_code == httpx.codes.OK else str(answer.json()["detail"])


def test_upgrade_in_any_order(fresh_system: System, log: EventLog) -> None:
    """Old and new understand each other until a new kind of event is written; then the old ones stop before it."""
    system = fresh_system
    ada = system.create_user("ada").json()["id"]
    system.wait_until_applied(system.create_tweet(ada, "of the old owner").json()["id"])
    old, new = system.readers[0], system.new_reader("new")
    upgrade(new)
    system.readers.append(new)
    new.start()
    eventually(lambda: "has version 1, this reader has 2" in why_not_ready(new), describe=lambda: new.log_tail)
    assert log.append([greeting(ada)]).results == ["owner_outdated"]

    system.owner.terminate()
    meanwhile = system.create_tweet(ada, "of no owner").json()["id"]
    upgrade(system.owner)
    system.owner.start()
    system.owner.wait_ready()
    new.wait_ready()
    system.wait_until_applied(meanwhile)
    assert system.owner.http.get("/internal/position").json()["projection_version"] == NEXT_VERSION
    for reader in (old, new):
        assert [each["content"] for each in reader.http.get(f"/users/{ada}/tweets").json()] == [
            "of no owner",
            "of the old owner",
        ]
    late = system.new_reader("late")
    system.readers.append(late)
    late.start()
    eventually(lambda: "has version 2, this reader has 1" in why_not_ready(late), describe=lambda: late.log_tail)
    late.kill()

    (greeted,) = append(log, greeting(ada))
    eventually(lambda: int(new.http.get("/").headers["X-Log-Position"]) >= greeted)
    assert new.http.get(f"/users/{ada}").json()["bio"] == "hello"
    eventually(lambda: "user_greeted) needs projection version 2" in why_not_ready(old), describe=lambda: old.log_tail)
    assert old.http.get(f"/users/{ada}").json()["bio"] == ""
    assert int(old.http.get("/").headers["X-Log-Position"]) == meanwhile
    asked = {"X-Min-Position": str(greeted)}
    assert old.http.get(f"/users/{ada}", headers=asked).status_code == httpx.codes.SERVICE_UNAVAILABLE
    old.terminate()
    upgrade(old)
    old.restart()
    assert old.http.get(f"/users/{ada}", headers=asked).json()["bio"] == "hello"


def test_roll_back(fresh_system: System, log: EventLog, tmp_path: Path) -> None:
    """Back to the file that was kept, and forward to the other, as long as no new kind of event is written."""
    system = fresh_system
    ada = system.create_user("ada").json()["id"]
    for step, version in ((upgrade, NEXT_VERSION), (roll_back, 1)):
        last = system.create_tweet(ada, f"before version {version}").json()["id"]
        system.owner.terminate()
        step(system.owner)
        system.owner.restart()
        system.wait_until_applied(last)
        assert log.status().version == version
        assert kept(system, NEXT_VERSION + 1 - version).exists()
        assert not kept(system, version).exists()
    assert system.owner.log.count("database_put_aside") == 2
    assert system.owner.log.count("database_put_back") == 1
    assert log.append([greeting(ada)]).results == ["owner_outdated"]
    assert table_hashes(database_path(system.owner_directory)) == rebuilt_hashes(
        archived(system.owner_directory), tmp_path / "rebuilt.db"
    )

    system.owner.terminate()
    upgrade(system.owner)
    system.owner.restart()
    (greeted,) = append(log, greeting(ada))
    after = system.create_tweet(ada, "after the greeting").json()["id"]
    eventually(lambda: system.owner.http.get("/internal/position").json()["archived_position"] >= after)
    system.owner.terminate()
    roll_back(system.owner)
    system.owner.start()
    eventually(lambda: "needs projection version 2, this is version 1" in why_not_ready(system.owner))
    assert system.owner.http.get("/internal/position").json()["position"] < greeted
    still = system.create_tweet(ada, "writes go on").json()["id"]
    system.owner.terminate()
    upgrade(system.owner)
    system.owner.restart()
    eventually(lambda: system.owner.http.get("/internal/position").json()["position"] >= still)


@dataclass
class Load:
    """One client that writes and reads until it is told to stop; what went wrong."""

    system: System
    author: int
    tweets: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The client is at work while this is entered."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._run, args=(stopping,))
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def _run(self, stopping: threading.Event) -> None:
        writer, reader = self.system.writers[0].url, self.system.readers[0].url
        with httpx.Client() as http:
            while not stopping.is_set():
                written = http.post(f"{writer}/tweets", json={"user_id": self.author, "content": "under load"})
                if written.status_code != httpx.codes.CREATED:
                    self.wrong.append(f"POST {written.status_code}")
                    continue
                self.tweets.append(written.json()["id"])
                asked = {"X-Min-Position": str(self.tweets[-1])}
                found = http.get(f"{reader}/tweets/{self.tweets[-1]}", headers=asked)
                if found.status_code != httpx.codes.OK:
                    self.wrong.append(f"GET {found.status_code}")


def test_upgrade_of_a_large_database_under_load(fresh_system: System, log: EventLog, tmp_path: Path) -> None:
    """The new database is filled from the archive while the old readers serve: no read and no write fails."""
    system = fresh_system
    ada = system.create_user("ada").json()["id"]
    for _ in range(MANY // 1000):
        last = append(log, *(tweet(ada) for _ in range(1000)))[-1]
    system.wait_until_applied(last)
    load = Load(system, ada)
    with load.running():
        system.owner.terminate()
        upgrade(system.owner)
        before = len(load.tweets)
        system.owner.start()
        eventually(lambda: why_not_ready(system.owner), describe=lambda: system.owner.log_tail)
        assert system.owner.http.get("/internal/snapshot").status_code == httpx.codes.SERVICE_UNAVAILABLE
        system.owner.wait_ready()
        assert len(load.tweets) > before
        eventually(lambda: len(load.tweets) > before + 10)
    assert load.wrong == []
    system.wait_until_applied(load.tweets[-1])
    upgrade(system.readers[0])
    system.readers[0].restart()
    assert system.read.get(f"/tweets/{load.tweets[-1]}").status_code == httpx.codes.OK
    assert system.owner.http.get("/internal/position").json()["entries"] == 2 + MANY + len(load.tweets)
    upgraded = table_hashes(database_path(system.owner_directory))
    assert upgraded == rebuilt_hashes(archived(system.owner_directory), tmp_path / "rebuilt.db")
