"""PostgreSQL stops and comes back: the owner and readers that share it wait, and go on by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from services.common.database import database_of
from services.common.errors import StoreUnavailable
from services.common.events import UserCreated
from services.common.log.client import EventLog
from tests.support import owner as owners
from tests.support.databases import database_in, use_postgresql
from tests.support.owner import archived, following, rebuilt_hashes, table_hashes
from tests.support.postgresql_server import PostgresqlServer, find_binaries
from tests.support.reading import Owner, append, body, reading
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog

PROMPT_SECONDS = 1.5


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL of the test's own."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed here (on Debian: apt install postgresql)")
    with closing(PostgresqlServer(binaries)) as own:
        own.start()
        yield own


def test_the_owner_waits_for_its_server_and_goes_on(
    server: PostgresqlServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Nothing is lost or applied twice; the lock of its session is taken again with the next one."""
    directory = tmp_path / "owner"
    use_postgresql(directory, server)
    with closing(EventLog(redis_server.url)) as log, following(directory, redis_server.url) as owner:
        owner.wait_until_ready()
        server.stop()
        ada, last = owners.append(log, owners.user("ada"), owners.tweet(1))
        owner.wait_until_refused("volume_unavailable")
        server.start()
        owner.wait_until_applied(last)
        owner.wait_until_ready()
        assert owner.volume.applied.entries == 3
        assert owners.credentials(directory) == {ada: "ada@example.com"}
    assert table_hashes(database_in(directory)) == rebuilt_hashes(archived(directory), tmp_path / "rebuilt.db")


@pytest.mark.anyio
async def test_a_server_that_is_down_is_a_503_within_a_second(
    server: PostgresqlServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """What is cached is answered, all else is refused in time; nothing has to be restarted."""
    log = ScriptedLog(redis_server.url)
    log.start()
    with closing(Owner(EventLog(log.url), database_of(server.new_database()))) as owner:
        (ada,) = append(log, UserCreated(username="ada"))
        owner.catch_up()
        async with reading("shared", owner, log.url, tmp_path / "unused") as process:
            await process.lookups.user(ada)
            server.stop()
            with anyio.fail_after(PROMPT_SECONDS), pytest.raises(StoreUnavailable):
                await process.lookups.user_by_username("ada")
            assert (await process.lookups.user(ada)).status == 200
            server.start()
            assert body(await process.lookups.user_by_username("ada"))["id"] == ada
            (bob,) = append(log, UserCreated(username="bob"))
            owner.engine.dispose()  # its session is gone
            owner.catch_up()
            await process.lookups.reach(bob)
            assert body(await process.lookups.user(bob))["username"] == "bob"


@pytest.mark.anyio
async def test_a_server_that_is_stalled_is_a_503_within_a_second(
    server: PostgresqlServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Its machine answers for it, so no connection is ever lost: nobody waits for that, however many ask."""
    log = ScriptedLog(redis_server.url)
    log.start()
    with closing(Owner(EventLog(log.url), database_of(server.new_database()))) as owner:
        (ada,) = append(log, UserCreated(username="ada"))
        owner.catch_up()
        async with reading("shared", owner, log.url, tmp_path / "unused") as process:
            await process.lookups.user_by_username("ada")
            server.pause()
            try:
                for name in ("bob", "cyd", "dan", "eve"):
                    with anyio.fail_after(PROMPT_SECONDS), pytest.raises(StoreUnavailable):
                        await process.lookups.user_by_username(name)
            finally:
                server.resume()
            assert body(await process.lookups.user_by_username("ada"))["id"] == ada
            (bob,) = append(log, UserCreated(username="bob"))
            owner.catch_up()
            await process.lookups.reach(bob)
            assert body(await process.lookups.user(bob))["username"] == "bob"


def test_an_owner_whose_server_is_stalled_goes_on_when_it_does(
    server: PostgresqlServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """What it was about to commit is there once."""
    directory = tmp_path / "owner"
    use_postgresql(directory, server)
    with closing(EventLog(redis_server.url)) as log, following(directory, redis_server.url) as owner:
        owner.wait_until_ready()
        server.pause()
        try:
            (last,) = owners.append(log, owners.user("ada"))
        finally:
            server.resume()
        owner.wait_until_applied(last)
        assert owner.volume.applied.entries == 2
