"""Limits that several processes share: what passes in all, with and without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common.limits import Admission, Leases, Limit, Limiter, LimitMetrics
from services.common.settings import MetricsPort, Port, PublicSettings
from services.common.telemetry import create_registry
from services.common.web import RequestLimits
from tests.support.clock import Clock
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.wait import PATIENCE_SECONDS, eventually
from tests.support.web_app import small_app

pytestmark = pytest.mark.anyio

NOWHERE = "redis://127.0.0.1:1"
LIMIT = Limit("test", quota=100, window_seconds=10)


class Process:
    """A limiter with leases and a connection of its own, as another process would have."""

    def __init__(self, redis_url: str, clock: Clock, limit: Limit = LIMIT) -> None:
        self.registry = CollectorRegistry()
        self.leases = Leases(redis_url, LimitMetrics(self.registry), ask_seconds=PATIENCE_SECONDS)
        self.limiter = Limiter(limit, self.leases.take, clock)

    async def admitted(self, subject: str, requests: int, *, at_once: bool = False) -> int:
        """How many of so many requests pass."""
        if at_once:
            admissions = await asyncio.gather(*(self.limiter.admit(subject) for _ in range(requests)))
        else:
            admissions = [await self.limiter.admit(subject) for _ in range(requests)]
        return sum(admission.is_admitted for admission in admissions)

    def leases_counted(self, result: str) -> float:
        """How often Redis was asked with this result."""
        return self.registry.get_sample_value("limit_leases_total", {"result": result}) or 0


@asynccontextmanager
async def processes(redis_url: str, clock: Clock, number: int, limit: Limit = LIMIT) -> AsyncIterator[list[Process]]:
    """Several of them."""
    made = [Process(redis_url, clock, limit) for _ in range(number)]
    try:
        yield made
    finally:
        for process in made:
            await process.leases.aclose()


@pytest.mark.parametrize("at_once", [False, True])
async def test_processes_together_admit_the_quota_and_a_share_each_at_most(
    redis_server: RedisServer, at_once: bool
) -> None:
    """Whichever of them is asked, one request after the other or all at once; and in the next window again."""
    clock = Clock()
    async with processes(redis_server.url, clock, 3) as made:
        for _ in range(2):
            tasks = [process.admitted("ann", 300, at_once=at_once) for process in made]
            admitted = sum(await asyncio.gather(*tasks))
            assert LIMIT.quota <= admitted <= LIMIT.quota + 3 * LIMIT.share
            clock.seconds += LIMIT.window_seconds


async def test_taking_turns_a_client_gets_the_whole_quota(redis_server: RedisServer) -> None:
    """No process holds on to so much that another one, which is asked as often, refuses early."""
    async with processes(redis_server.url, Clock(), 2) as made:
        admissions = [(await made[turn % 2].limiter.admit("ann")).is_admitted for turn in range(200)]
    assert all(admissions[: LIMIT.quota - 2 * LIMIT.share])
    assert LIMIT.quota <= sum(admissions) <= LIMIT.quota + 2 * LIMIT.share


async def test_subjects_are_counted_apart(redis_server: RedisServer) -> None:
    """One who asks too often is nobody else's trouble."""
    async with processes(redis_server.url, Clock(), 1) as (process,):
        assert await process.admitted("ann", 200) == LIMIT.quota
        assert await process.admitted("bob", LIMIT.quota) == LIMIT.quota


async def test_who_asks_little_costs_redis_nothing_and_who_asks_much_a_call_a_share(redis_server: RedisServer) -> None:
    """A call for each request would cost the log an fsync each (HAZARDS 21)."""
    async with processes(redis_server.url, Clock(), 1) as (process,):
        for number in range(50):
            assert await process.admitted(f"reader {number}", LIMIT.share) == LIMIT.share
        with redis_server.client() as client:
            assert client.dbsize() == 0
        assert await process.admitted("ann", 1000) == LIMIT.quota
        assert (process.leases_counted("granted"), process.leases_counted("exhausted")) == (9, 1)


def scripts_run(server: RedisServer) -> int:
    """How many calls of a script this Redis has had."""
    with server.client() as client:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


async def test_what_was_asked_for_at_once_is_one_call(redis_server: RedisServer) -> None:
    """One fsync for all that came while the call before was under way."""
    async with processes(redis_server.url, Clock(), 1) as (process,):
        await process.admitted("warm up", LIMIT.share + 1)
        before = scripts_run(redis_server)
        await asyncio.gather(*(process.admitted(f"reader {number}", LIMIT.share + 1) for number in range(50)))
    assert scripts_run(redis_server) - before <= 2
    assert process.leases_counted("granted") == 51


async def test_every_counter_expires(redis_server: RedisServer) -> None:
    """Two windows after its last lease at most; Redis may evict it before."""
    async with processes(redis_server.url, Clock(), 1) as (process,):
        await process.admitted("ann", 200)
    with redis_server.client() as client:
        (key,) = client.scan_iter("limit:*")
        assert 0 < client.pttl(key) <= 2 * LIMIT.window_seconds * 1000


async def test_without_redis_each_process_lets_half_the_quota_pass() -> None:
    """Nobody is refused for Redis's sake, nobody waits for it twice, and the log says so once."""
    with capture_logs() as logs:
        async with processes(NOWHERE, Clock(), 1) as (alone,):
            assert await alone.admitted("ann", 1000) == LIMIT.quota // 2
    assert alone.leases_counted("unavailable") == 1
    assert [entry["event"] for entry in logs] == ["limits_counted_alone"]


async def test_what_passed_without_redis_is_made_up_for_when_it_is_back(redis_server: RedisServer) -> None:
    """In the same window: the next lease tells it."""
    clock = Clock()
    async with processes(NOWHERE, clock, 1) as (alone,), processes(redis_server.url, clock, 1) as (other,):
        take = alone.leases.take
        alone.limiter = Limiter(LIMIT, lambda wanted: take(wanted), clock)  # noqa: PLW0108 - of which Redis changes
        assert await alone.admitted("ann", 3 * LIMIT.share) == 3 * LIMIT.share
        take = other.leases.take
        assert await alone.admitted("ann", 1) == 1
        assert await other.admitted("ann", 1000) == LIMIT.quota - 4 * LIMIT.share


async def test_a_tight_limit_is_leased_one_by_one(redis_server: RedisServer) -> None:
    """Guessing passwords at two processes is no faster than at one, but for one guess each."""
    limit = Limit("sign-in", quota=5, window_seconds=60)
    async with processes(redis_server.url, Clock(), 2, limit) as made:
        admissions = [(await made[turn % 2].limiter.admit("192.0.2.1")).is_admitted for turn in range(20)]
    assert sum(admissions) in range(5, 8)


async def test_an_admission_says_what_is_left_and_until_when(redis_server: RedisServer) -> None:
    """As this process knows it: other processes' use is in it since the last lease."""
    clock = Clock()
    clock.seconds += 3
    async with processes(redis_server.url, clock, 2) as (one, other):
        assert await one.limiter.admit("ann") == Admission(is_admitted=True, remaining=99, reset_seconds=7)
        await other.admitted("ann", 35)
        await one.admitted("ann", 9)
        assert await one.limiter.admit("ann") == Admission(is_admitted=True, remaining=49, reset_seconds=7)
        await other.admitted("ann", 100)
        await one.admitted("ann", 100)
        assert await one.limiter.admit("ann") == Admission(is_admitted=False, remaining=0, reset_seconds=7)


class Settings(PublicSettings):
    """A service that limits."""

    port: Port = 0
    metrics_port: MetricsPort = 0


@asynccontextmanager
async def limited(redis_url: str, *, trusted_proxies: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """The small service with limits: of accounts 10 and of addresses 20 in a window, of signing in 1."""
    settings = Settings(
        redis_url=redis_url,
        account_requests_per_second=1,
        address_requests_per_second=2,
        trusted_proxies=trusted_proxies,
    )
    accounts = {b"Bearer ann": 1, b"Bearer bob": 2}
    limits = RequestLimits(
        "test", settings, create_registry(), account=accounts.get, sign_ins_per_minute=1, now=Clock()
    )
    app = small_app(limits=limits)
    async with limits, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://small") as client:
        yield client


async def statuses(client: httpx.AsyncClient, token: str | None = None) -> list[int]:
    """What a hundred requests are answered, with a token or without."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return [(await client.get("/notes/1", headers=headers)).status_code for _ in range(100)]


async def test_a_request_counts_for_its_account_and_without_a_good_token_for_its_address(
    redis_server: RedisServer,
) -> None:
    """An invented token is none: or everybody could have as many quotas as he likes."""
    async with limited(redis_server.url) as client:
        for token in ("ann", "bob"):
            answered = await statuses(client, token)
            assert 200 in answered
            assert answered[-1] == 429
        assert 200 in await statuses(client)
        assert set(await statuses(client, "made up")) == {429}
        assert {(await client.get("/healthz/live")).status_code for _ in range(100)} == {200}


async def test_a_refusal_says_when_to_come_back(redis_server: RedisServer) -> None:
    """In the one error shape, with the RateLimit fields that every counted answer has."""
    async with limited(redis_server.url) as client:
        first = await client.post("/users", json={})
        refused = await client.post("/auth/token", json={})
    policy = '"sign-in";q=1;w=60'
    assert (first.status_code, first.headers["ratelimit-policy"]) == (404, policy)
    assert first.headers["ratelimit"] == '"sign-in";r=0;t=20'
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert (refused.headers["retry-after"], refused.headers["ratelimit"]) == ("20", '"sign-in";r=0;t=20')
    assert refused.headers["ratelimit-policy"] == policy
    assert refused.headers["x-log-position"]


async def test_parts_of_the_system_are_not_limited(redis_server: RedisServer) -> None:
    """The write service asks the read service about every tweet that is answered."""
    async with limited(redis_server.url, trusted_proxies="127.0.0.1") as client:
        assert set(await statuses(client)) == {200}
        assert "ratelimit" not in (await client.get("/notes/1")).headers


def test_two_readers_limit_a_client_as_one_does(redis_server: RedisServer, tmp_path: Path) -> None:
    """Real processes; they need nothing but Redis for that. The quota is 100; a window may end meanwhile."""
    own = {"REPLICA_DIR": str(tmp_path / "replica"), "LOG_FORMAT": "json"}
    environment = {"REDIS_URL": redis_server.url, "ADDRESS_REQUESTS_PER_SECOND": "10", **own}
    readers = [ServiceProcess(f"reader-{number}", "services.read", tmp_path, environment) for number in (1, 2)]
    try:
        for reader in readers:
            reader.start()
        for reader in readers:
            eventually(lambda: '"listening"' in reader.log)  # noqa: B023 - called at once
        answered = [readers[turn % 2].http.get("/").status_code for turn in range(400)]
    finally:
        for reader in readers:
            reader.close()
    assert 100 <= answered.count(200) <= 2 * (100 + 2 * 10)
    assert answered.count(200) + answered.count(429) == 400
