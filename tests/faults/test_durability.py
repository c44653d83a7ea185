"""A Redis whose settings may lose what it has acknowledged is recognised, warned of, and refused where it must be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from services.common.log.client import EventLog
from tests.integration.test_write_service import ADA, entries, metric, start, write_service
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.system import EMAIL_HASH_KEY
from tests.support.wait import eventually

WEAK = [
    ("appendonly", "no", "aof_off"),
    ("appendfsync", "everysec", "fsync_not_always"),
    ("no-appendfsync-on-rewrite", "yes", "fsync_pauses"),
    ("maxmemory-policy", "allkeys-lru", "log_evictable"),
]


@pytest.fixture
def log(fresh_redis: RedisServer) -> Iterator[EventLog]:
    """A started log."""
    with closing(EventLog(fresh_redis.url)) as client:
        start(client)
        yield client


def configure(server: RedisServer, name: str, value: str) -> None:
    """Change a setting of a running server."""
    with server.client() as redis:
        redis.config_set(name, value)


def hide_settings(server: RedisServer) -> None:
    """Let nobody read or change settings."""
    with server.client() as redis:
        redis.execute_command("ACL SETUSER default -config")


@pytest.mark.parametrize(("name", "value", "code"), WEAK)
def test_each_setting_that_may_lose_writes_is_a_finding(
    fresh_redis: RedisServer, log: EventLog, name: str, value: str, code: str
) -> None:
    """It says what is wrong, and what it advises helps."""
    assert not log.durability()
    configure(fresh_redis, name, value)
    (finding,) = log.durability()
    assert finding.code == code
    assert finding.problem.startswith(f"{name} is {value}: ")
    advised = finding.remedy.removeprefix("run ").partition(",")[0]
    with fresh_redis.client() as redis:
        redis.execute_command(*advised.split())
    assert not log.durability()


def test_settings_that_nobody_may_read_are_a_finding(fresh_redis: RedisServer, log: EventLog) -> None:
    """A hosted Redis forbids CONFIG: that is no proof of anything."""
    hide_settings(fresh_redis)
    assert [finding.code for finding in log.durability()] == ["settings_hidden"]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, value, _ in WEAK])
async def test_where_durability_is_required_nothing_is_written_to_a_weak_redis(
    fresh_redis: RedisServer, log: EventLog, name: str, value: str
) -> None:
    """Readiness says what to do; once it is done, writes go on without a restart."""
    configure(fresh_redis, name, value)
    async with write_service(fresh_redis.url, LOG_DURABILITY="required") as write:
        ready = await write.get("/healthz/ready")
        assert ready.status_code == 503
        assert f"LOG_DURABILITY=required: {name} is {value}" in ready.text
        answer = await write.post("/users", json=ADA)
        assert (answer.status_code, answer.json()["code"]) == (503, "log_not_durable")
        assert entries(log) == []
        assert metric(write, "log_durability_findings") == 1
        (finding,) = log.durability()
        with fresh_redis.client() as redis:
            redis.execute_command(*finding.remedy.removeprefix("run ").partition(",")[0].split())
        assert (await write.post("/users", json=ADA)).status_code == 201
        async with asyncio.timeout(30):
            while (await write.get("/healthz/ready")).status_code != httpx.codes.OK:
                await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_where_durability_is_required_hidden_settings_are_no_proof(
    fresh_redis: RedisServer, log: EventLog
) -> None:
    """Nobody knows whether the write would be kept."""
    hide_settings(fresh_redis)
    async with write_service(fresh_redis.url, LOG_DURABILITY="required") as write:
        answer = await write.post("/users", json=ADA)
    assert (answer.status_code, answer.json()["code"]) == (503, "log_not_durable")
    assert entries(log) == []


@pytest.mark.anyio
async def test_a_redis_that_comes_back_with_other_settings_gets_no_write(
    fresh_redis: RedisServer, log: EventLog
) -> None:
    """Not even one before the service has looked again: each new connection is asked first."""
    async with write_service(fresh_redis.url, LOG_DURABILITY="required") as write:
        assert (await write.post("/users", json=ADA)).status_code == 201
        _come_back_weak(fresh_redis)
        answer = await write.post("/users", json={"username": "bob", "email": "bob@example.org"})
    assert (answer.status_code, answer.json()["code"]) == (503, "log_not_durable")
    assert len(entries(log)) == 1


def test_a_weak_redis_is_warned_of_at_start_and_when_it_comes_back_so(
    fresh_redis: RedisServer, log: EventLog, tmp_path: Path
) -> None:
    """With the finding's code and remedy; a durable one is not warned of."""
    assert log.head()
    environment = {"REDIS_URL": fresh_redis.url, "EMAIL_HASH_KEY": EMAIL_HASH_KEY, "LOG_FORMAT": "json"}
    service = ServiceProcess("write", "services.write", tmp_path / "write", environment)
    try:
        service.start()
        service.wait_ready()
        assert "log_not_durable" not in service.log
        _come_back_weak(fresh_redis)
        eventually(lambda: "fsync_not_always" in service.log, describe=lambda: service.log_tail)
        assert service.terminate() == 0
        before = service.log.count("run CONFIG SET appendfsync always")
        service.start()
        service.wait_ready()
        assert service.log.count("run CONFIG SET appendfsync always") == before + 1
    finally:
        service.close()


def _come_back_weak(server: RedisServer) -> None:
    """Restart a server with a setting that loses writes, as a changed configuration file would."""
    server.kill()
    at = server.command.index("--appendfsync")
    server.command[at + 1] = "everysec"
    server.start()
