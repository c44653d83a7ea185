"""The db-updater as it runs: a process with HTTP and metrics, over a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from services.common import snapshot
from services.common.log.client import EventLog
from tests.support.owner import append, table_hashes, tweet, user
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually


@pytest.fixture
def log(redis_server: RedisServer) -> Iterator[EventLog]:
    """The log of that Redis."""
    with closing(EventLog(redis_server.url)) as client:
        yield client


@pytest.fixture
def owner(tmp_path: Path, redis_server: RedisServer) -> Iterator[ServiceProcess]:
    """A db-updater on a new log."""
    process = service(tmp_path / "owner", redis_server)
    with closing(process):
        process.start()
        process.wait_ready()
        yield process


def service(directory: Path, redis_server: RedisServer) -> ServiceProcess:
    """A db-updater, not started, with all its files in this directory."""
    environment = {"REDIS_URL": redis_server.url, "DATABASE_URL": str(directory / "twitter.db"), "LOG_FORMAT": "json"}
    return ServiceProcess("owner", "services.db_updater", directory, environment)


def position(owner: ServiceProcess) -> int:
    """How far the owner has applied the log."""
    return int(owner.http.get("/internal/position").json()["position"])


def wait_until_applied(owner: ServiceProcess, up_to_position: int) -> None:
    """Wait until the owner has applied the log up to a position."""
    eventually(lambda: position(owner) >= up_to_position, describe=lambda: f"{position(owner)} < {up_to_position}")


def test_snapshot_is_served_whole(tmp_path: Path, owner: ServiceProcess, log: EventLog) -> None:
    """Body, length, checksum and position belong together, and the file is an equal copy."""
    (ada,) = append(log, user("ada"))
    tweets = append(log, *(tweet(ada, "x" * 280) for _ in range(999)))
    wait_until_applied(owner, tweets[-1])
    response = owner.http.get("/internal/snapshot")
    assert response.status_code == 200
    assert response.headers["X-Snapshot-Position"] == response.headers["X-Log-Position"] == str(tweets[-1])
    assert response.headers["X-Projection-Version"] == "1"
    assert int(response.headers["Content-Length"]) == len(response.content)
    received = tmp_path / "received.db"
    received.write_bytes(response.content)
    snapshot.verify(received, response.headers["X-Snapshot-SHA256"], tweets[-1])
    assert table_hashes(received) == table_hashes(tmp_path / "owner" / "twitter.db")


def test_readers_that_start_together_get_the_same_snapshot(owner: ServiceProcess) -> None:
    """Each gets all of it, and it is made once."""
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: httpx.get(f"{owner.url}/internal/snapshot"), range(8)))
    assert len({sha256(response.content).hexdigest() for response in responses}) == 1
    assert "snapshot_seconds_count 1.0" in owner.metrics()
    assert "snapshots_served_total 8.0" in owner.metrics()


def test_position_report_and_metrics(owner: ServiceProcess, log: EventLog) -> None:
    """What operators and other services ask for is there, under the names in the documentation."""
    (ada,) = append(log, user("ada"))
    wait_until_applied(owner, ada)
    eventually(lambda: owner.http.get("/internal/position").json()["archived_position"] == ada)
    assert owner.http.get("/internal/position").json() == {
        "position": ada,
        "epoch": 1,
        "entries": 2,
        "archived_position": ada,
        "projection_version": 1,
        "discarded_entries": 0,
        "last_recovery": None,
    }
    eventually(lambda: 'applied_entries_total{type="user_created"} 1.0' in owner.metrics())
    names = {line.split()[2] for line in owner.metrics().splitlines() if line.startswith("# TYPE")}
    assert names >= {
        "applied_position",
        "lag_entries",
        "lag_seconds",
        "applied_entries_total",
        "dead_letters",
        "batch_entries",
        "batch_seconds",
        "archive_bytes",
        "trimmed_entries_total",
        "snapshots_served_total",
    }
    free, size = (
        float(line.split()[1])
        for name in ("volume_free_bytes", "volume_bytes")
        for line in owner.metrics().splitlines()
        if line.startswith(f"{name} ")
    )
    assert 0 < free < size


def test_owner_that_holds_nothing_yet_offers_no_snapshot(tmp_path: Path, fresh_redis: RedisServer) -> None:
    """Before it has started the log, or filled a new database, a reader would take nothing for everything."""
    fresh_redis.terminate()
    with closing(service(tmp_path / "owner", fresh_redis)) as owner:
        owner.start()
        eventually(lambda: '"event": "listening"' in owner.log, describe=lambda: owner.log_tail)
        response = owner.http.get("/internal/snapshot")
        assert (response.status_code, response.json()["code"]) == (503, "owner_unavailable")
        assert "Retry-After" in response.headers
        fresh_redis.start()
        owner.wait_ready()
        assert owner.http.get("/internal/snapshot").status_code == 200


def test_second_owner_of_the_volume_exits(owner: ServiceProcess, redis_server: RedisServer) -> None:
    """It says who holds the volume, and leaves the first one alone."""
    second = service(owner.directory, redis_server)
    second.name, second.log_path = "second", owner.directory / "second.log"
    with closing(second):
        second.start()
        assert second.wait() == 1
        assert f"already has an owner (pid {owner.pid} on " in second.log
    assert owner.is_ready


def test_stop_finishes_the_batch_and_leaves(owner: ServiceProcess, log: EventLog) -> None:
    """SIGTERM in the middle of a stream of entries: exit code 0, and the next start goes on without a gap."""
    (ada,) = append(log, user("ada"))
    for _ in range(5):
        tweets = append(log, *(tweet(ada) for _ in range(1000)))
    assert owner.terminate(timeout_seconds=5) == 0
    owner.start()
    owner.wait_ready()
    wait_until_applied(owner, tweets[-1])
    assert owner.http.get("/internal/position").json()["entries"] == 5002


def test_owner_that_lost_its_fence_exits(owner: ServiceProcess, log: EventLog) -> None:
    """Two owners on two volumes: the older one ends with an error instead of going on beside the other."""
    log.raise_fence(0)
    assert owner.wait() == 1
    assert "another owner" in owner.log


def test_owner_of_an_emptied_log_recovers_and_reports_it(owner: ServiceProcess, redis_server: RedisServer) -> None:
    """It says why it is not ready, serves snapshots all the while, and goes on by itself in the next epoch."""
    held = position(owner)
    redis_server.flush()
    eventually(lambda: not owner.is_ready)
    assert f"applied up to {held}, but the log ends at 0" in owner.http.get("/healthz/ready").json()["detail"]
    assert owner.http.get("/internal/snapshot").headers["X-Snapshot-Position"] == str(held)
    owner.wait_ready()
    report = owner.http.get("/internal/position").json()
    assert (report["epoch"], report["discarded_entries"]) == (2, 0)
    assert report["last_recovery"] == {
        "epoch": 2,
        "reason": f"db-updater: applied up to {held}, but the log ends at 0",
        "base_position": held,
        "log_head": 0,
        "reported_position": held,
        "unix_ms": report["last_recovery"]["unix_ms"],
        "discarded_entries": 0,
        "missing_entries": 0,
    }
    assert abs(report["last_recovery"]["unix_ms"] / 1000 - time.time()) < 600
    assert "recoveries_total 1.0" in owner.metrics()
    assert owner.terminate() == 0


def test_empty_owner_of_a_trimmed_log_exits(
    tmp_path: Path, owner: ServiceProcess, redis_server: RedisServer, log: EventLog
) -> None:
    """A volume that was lost while the log no longer begins at its beginning: exit code 1, and what to run."""
    log.trim(log.head(), log.status().fence)
    owner.kill()
    with closing(service(tmp_path / "empty", redis_server)) as empty:
        empty.start()
        assert empty.wait() == 1
        assert "twitter restore" in empty.log
