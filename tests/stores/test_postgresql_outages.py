"""PostgreSQL stops and comes back: the owner and readers that share it wait, and go on by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from services.common.database import database_of
from services.common.errors import StoreUnavailable
from services.common.events import UserCreated
from services.common.log.client import EventLog
from services.read.lookups import Lookups
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


@dataclass(frozen=True)
class Shared:
    """A reader that shares the owner's PostgreSQL, and a user whom both have."""

    log: ScriptedLog
    owner: Owner
    lookups: Lookups
    ada: int

    async def check_refused(self, username: str) -> None:
        """To look somebody up is refused in time."""
        with anyio.fail_after(PROMPT_SECONDS), pytest.raises(StoreUnavailable):
            await self.lookups.user_by_username(username)

    async def check_whole(self) -> None:
        """What was there is found, and what is new comes to the reader."""
        assert body(await self.lookups.user_by_username("ada"))["id"] == self.ada
        (bob,) = append(self.log, UserCreated(username="bob"))
        self.owner.catch_up()
        await self.lookups.reach(bob)
        assert body(await self.lookups.user(bob))["username"] == "bob"


@pytest.fixture
async def shared(server: PostgresqlServer, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Shared]:
    """An owner and a reader on that server."""
    log = ScriptedLog(redis_server.url)
    log.start()
    with closing(Owner(EventLog(log.url), database_of(server.new_database()))) as owner:
        (ada,) = append(log, UserCreated(username="ada"))
        owner.catch_up()
        async with reading("shared", owner, log.url, tmp_path / "unused") as process:
            yield Shared(log, owner, process.lookups, ada)


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
async def test_a_server_that_is_down_is_a_503_within_a_second(server: PostgresqlServer, shared: Shared) -> None:
    """What is cached is answered, all else is refused in time; nothing has to be restarted."""
    await shared.lookups.user(shared.ada)
    server.stop()
    await shared.check_refused("ada")
    assert (await shared.lookups.user(shared.ada)).status == 200
    server.start()
    shared.owner.engine.dispose()  # its session is gone
    await shared.check_whole()


@pytest.mark.anyio
async def test_a_server_that_is_stalled_is_a_503_within_a_second(server: PostgresqlServer, shared: Shared) -> None:
    """Its machine answers for it, so no connection is ever lost: nobody waits for that, however many ask."""
    await shared.lookups.user_by_username("ada")
    server.pause()
    try:
        for name in ("bob", "cyd", "dan", "eve"):
            await shared.check_refused(name)
    finally:
        server.resume()
    await shared.check_whole()


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
