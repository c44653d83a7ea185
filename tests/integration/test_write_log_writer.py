"""One append call over a network that loses it: written once, or known not to be, or honestly unknown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from services.common import keys
from services.common.errors import LogUnavailable, OutcomeUnknown, WritesRefused
from services.common.events import TweetCreated, UserCreated
from services.common.log.append import SCRIPT, AppendItem, CredentialClaim, Repeated, Result
from services.common.log.client import EventLog
from services.common.log.idempotency import IdempotencyClaim
from services.common.log.redis_url import connection_to
from services.write.clocks import LogView, TrustedClock
from services.write.log_writer import LogWriter
from tests.support.faulty_network import Fault, FaultyNetwork
from tests.support.redis_server import RedisServer
from tests.support.wait import PROMPT_SECONDS, eventually

pytestmark = pytest.mark.anyio

BUDGET_SECONDS = 0.85


def start_log(url: str) -> int:
    """Start the log as an owner does; returns its head."""
    log = EventLog(url)
    try:
        return log.start_epoch(1, log.raise_fence(0), 0)
    finally:
        log.close()


def contents(url: str) -> list[bytes]:
    """The payloads of the log, without the start of its epoch."""
    log = EventLog(url)
    try:
        return [entry.payload for entry in log.read(0)][1:]
    finally:
        log.close()


def tweet(content: str = "hello") -> AppendItem:
    """A tweet; the log does not ask whether its author exists."""
    return AppendItem(TweetCreated(user_id=1, content=content))


@asynccontextmanager
async def writer_to(url: str, view: LogView | None = None, *, idle_seconds: float = 0) -> AsyncIterator[LogWriter]:
    """A writer over a connection of its own; each call tries it out first, however little time has passed."""
    writer = LogWriter(connection_to(url), view or LogView(), TrustedClock(), idle_seconds=idle_seconds)
    try:
        yield writer
    finally:
        await writer.aclose()


async def append(writer: LogWriter, *items: AppendItem, seconds: float = 5) -> Sequence[Result]:
    """Append within some time; generous, where a test is not about the time that a request has."""
    return await writer(items, asyncio.get_running_loop().time() + seconds)


@pytest.fixture
def started(redis_server: RedisServer) -> RedisServer:
    """A Redis whose log has been started, and which knows the script."""
    start_log(redis_server.url)
    with redis_server.client() as redis:
        redis.script_load(SCRIPT)
    return redis_server


async def test_a_call_returns_the_position_of_each_entry(started: RedisServer) -> None:
    """And the writer knows the head from then on. The script is loaded when Redis does not know it."""
    view = LogView()
    async with writer_to(started.url, view) as writer:
        first = await append(writer, tweet("a"))
        with started.client() as redis:
            redis.script_flush()
        second = await append(writer, tweet("b"), tweet("c"))
    positions = [entry.position for entry in EventLog(started.url).read(0)]
    assert [*first, *second] == positions[1:]
    assert view.head == positions[-1]


@pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.WITHHOLD_ANSWER])
async def test_a_call_whose_answer_is_lost_gets_its_first_answer_and_is_written_once(
    started: RedisServer, fault: Fault
) -> None:
    """HAZARDS 2: the client of redis-py would either write twice or report a failure."""
    async with FaultyNetwork(started.port) as network, writer_to(network.url) as writer:
        network.faults.append(fault)
        (position,) = await append(writer, tweet("once"))
        assert network.appends >= 2
    assert contents(started.url) == [b'{"user_id":1,"content":"once"}']
    assert EventLog(started.url).status().head == position


async def test_a_call_that_is_lost_on_its_way_is_written_once(started: RedisServer) -> None:
    """The same resend serves here; nobody could tell the two cases apart."""
    async with FaultyNetwork(started.port) as network, writer_to(network.url) as writer:
        network.faults.extend([Fault.LOSE_REQUEST, Fault.LOSE_REQUEST])
        await append(writer, tweet("once"))
    assert contents(started.url) == [b'{"user_id":1,"content":"once"}']


async def test_an_answer_lost_for_good_is_an_unknown_outcome_within_a_second(started: RedisServer) -> None:
    """The write exists, and its client is not told otherwise."""
    async with FaultyNetwork(started.port) as network, writer_to(network.url) as writer:
        network.faults.extend([Fault.LOSE_ANSWER] * 1000)
        before = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            await append(writer, tweet("once"), seconds=BUDGET_SECONDS)
        assert time.monotonic() - before < PROMPT_SECONDS
    assert contents(started.url) == [b'{"user_id":1,"content":"once"}']


async def test_a_network_that_fails_after_the_call_leaves_its_outcome_unknown(started: RedisServer) -> None:
    """Refused afterwards, so that nobody can be asked: never a plain refusal."""
    async with FaultyNetwork(started.port) as network, writer_to(network.url) as writer:
        network.faults.append(Fault.WITHHOLD_ANSWER)
        call = asyncio.create_task(append(writer, tweet("once"), seconds=BUDGET_SECONDS))
        await asyncio.to_thread(eventually, lambda: contents(started.url) or call.done())
        await network.close()
        with pytest.raises(OutcomeUnknown):
            await call


async def test_a_refused_connection_is_known_at_once_to_have_written_nothing(started: RedisServer) -> None:
    """And when Redis is back the same writer goes on, whatever became of its connection meanwhile."""
    async with FaultyNetwork(started.port) as network, writer_to(network.url) as writer:
        await append(writer, tweet("before"))
        await network.close()
        sent = network.appends
        before = time.monotonic()
        with pytest.raises(LogUnavailable):
            await append(writer, tweet("refused"))
        assert time.monotonic() - before < PROMPT_SECONDS
        assert network.appends == sent
        await network.open()
        await append(writer, tweet("after"))
    assert contents(started.url) == [b'{"user_id":1,"content":"before"}', b'{"user_id":1,"content":"after"}']


async def test_an_idle_connection_that_died_unnoticed_is_replaced_before_anything_is_sent(
    started: RedisServer,
) -> None:
    """Its other end is gone without a word, as after the loss of a machine."""
    async with FaultyNetwork(started.port) as network, writer_to(network.url) as writer:
        await append(writer, tweet("before"))
        network.mute_connections()
        await append(writer, tweet("after"))
        assert network.appends == 2
    assert len(contents(started.url)) == 2


async def test_a_call_that_a_stalled_redis_meets_after_its_deadline_never_runs(fresh_redis: RedisServer) -> None:
    """HAZARDS 2: Redis stalls with the call in its buffer, and goes on after the client was told."""
    start_log(fresh_redis.url)
    async with FaultyNetwork(fresh_redis.port) as network, writer_to(network.url) as writer:
        await append(writer, tweet("before"))
        network.on_append = fresh_redis.pause
        before = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            await append(writer, tweet("late"), seconds=BUDGET_SECONDS)
        assert time.monotonic() - before < PROMPT_SECONDS
        fresh_redis.resume()
        network.on_append = None
        await append(writer, tweet("after"))
    assert contents(fresh_redis.url) == [b'{"user_id":1,"content":"before"}', b'{"user_id":1,"content":"after"}']


@pytest.mark.parametrize("error_ms", [-60_000, 60_000])
async def test_a_wrong_idea_of_the_clock_of_redis_corrects_itself(started: RedisServer, error_ms: int) -> None:
    """Its host's clock has stepped since the last answer: the deadline is refused, asked anew, and the call goes on."""
    view = LogView()
    async with writer_to(started.url, view, idle_seconds=60) as writer:
        await append(writer, tweet("before"))
        now = asyncio.get_running_loop().time()
        view.observe_time(time.time_ns() // 1_000_000 + error_ms, now, now)
        await append(writer, tweet("after"))
    assert len(contents(started.url)) == 2


async def test_a_log_that_lost_what_it_acknowledged_is_halted_by_the_next_write(started: RedisServer) -> None:
    """HAZARDS 1: Redis came back from an older file; this writer has seen a later position."""
    view = LogView()
    async with writer_to(started.url, view) as writer:
        (acknowledged,) = await append(writer, tweet("lost"))
        started.flush()
        start_log(started.url)
        view.observe_head(int(acknowledged) + 4096 * 60_000)
        with pytest.raises(WritesRefused) as refusal:
            await append(writer, tweet("after"))
        assert refusal.value.code == "log_forked"
        with pytest.raises(WritesRefused) as refusal:
            await append(writer, tweet("later"))
        assert refusal.value.code == "halted"
    assert contents(started.url) == []
    assert EventLog(started.url).status().halt is not None


async def test_a_call_that_is_sent_again_tells_what_was_seen_since(started: RedisServer) -> None:
    """The simulation's seed 7539: another connection had an answer, Redis lost that, and only this call could tell."""
    view = LogView()
    async with FaultyNetwork(started.port) as network, writer_to(network.url, view) as writer:
        await append(writer, tweet("before"))
        acknowledged = view.head + 4096 * 60_000
        network.faults.append(Fault.LOSE_REQUEST)
        network.on_append = lambda: view.observe_head(acknowledged)
        with pytest.raises(OutcomeUnknown):
            await append(writer, tweet("sent again"), seconds=BUDGET_SECONDS)
    status = EventLog(started.url).status()
    assert (status.halt is not None, status.reported) == (True, acknowledged)
    assert contents(started.url) == [b'{"user_id":1,"content":"before"}']


async def test_a_log_without_an_owner_refuses_writes(redis_server: RedisServer) -> None:
    """Until an owner has once started it, nobody would apply them."""
    async with writer_to(redis_server.url) as writer:
        with pytest.raises(WritesRefused) as refusal:
            await append(writer, tweet())
    assert refusal.value.code == "not_started"


async def test_a_full_redis_refuses_the_whole_call(fresh_redis: RedisServer) -> None:
    """HAZARDS 11 and 12: no entry, and no name taken by a user who was not created."""
    start_log(fresh_redis.url)
    claim = CredentialClaim("ada@example.org", "hmac", None)
    with fresh_redis.client() as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", "1")
        async with writer_to(fresh_redis.url) as writer:
            items = tweet(), AppendItem(UserCreated("ada"), credential=claim)
            assert await append(writer, *items) == ["log_full", "log_full"]
        assert not redis.exists(keys.NAME_PREFIX + "ada")
        redis.config_set("maxmemory", "0")
    assert contents(fresh_redis.url) == []


async def test_a_call_to_a_full_redis_tells_what_was_done_before(fresh_redis: RedisServer) -> None:
    """Nothing is appended with it, whichever of the two comes first."""
    start_log(fresh_redis.url)
    before = msgspec.structs.replace(tweet("before"), claim=IdempotencyClaim(b"s" * 16, b"f" * 16))
    async with writer_to(fresh_redis.url) as writer:
        (position,) = await append(writer, before)
        with fresh_redis.client() as redis:
            redis.config_set("maxmemory", "1")
        results = await append(writer, tweet("new"), before, tweet("new"))
    assert results == ["log_full", Repeated(int(position)), "log_full"]
    assert len(contents(fresh_redis.url)) == 1


async def test_a_demoted_redis_refuses_and_the_writer_connects_anew(fresh_redis: RedisServer) -> None:
    """After a failover the old server is a replica; its address may lead to the new one with the next connection."""
    start_log(fresh_redis.url)
    with fresh_redis.client() as redis:
        async with writer_to(fresh_redis.url) as writer:
            await append(writer, tweet("before"))
            redis.replicaof("127.0.0.1", "1")
            with pytest.raises(LogUnavailable):
                await append(writer, tweet("refused"))
            redis.replicaof("NO", "ONE")
            await append(writer, tweet("after"))
    assert len(contents(fresh_redis.url)) == 2


async def test_a_killed_redis_that_comes_back_is_written_to_without_doubt(fresh_redis: RedisServer) -> None:
    """The writer sees that its old connection is dead before it sends anything on it."""
    start_log(fresh_redis.url)
    async with writer_to(fresh_redis.url) as writer:
        await append(writer, tweet("before"))
        fresh_redis.kill()
        fresh_redis.start()
        await asyncio.sleep(0)
        await append(writer, tweet("after"))
    assert len(contents(fresh_redis.url)) == 2


async def test_no_url_makes_the_connection_retry_by_itself(started: RedisServer) -> None:
    """redis-py lets the query of a URL override what the program asks for."""
    connection = connection_to(f"{started.url}?retry_on_timeout=true&health_check_interval=1")
    assert connection.retry.get_retries() == 0
