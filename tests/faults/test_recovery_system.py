"""Recovery on real processes under load: Redis comes back with less than it had acknowledged, and all goes on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from sqlalchemy import select
from sqlmodel import col

from services.common import keys
from services.common.log.client import EventLog
from services.common.models import Tweet, User
from tests.support import burst
from tests.support.databases import connected
from tests.support.owner import append, archived, rebuilt_hashes, reported, table_hashes, tweet, user
from tests.support.process import ServiceProcess
from tests.support.system import System
from tests.support.wait import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(150)]

WORKERS = 6


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """Two readers and two writers over one log and one owner."""
    with System(tmp_path, readers=2, writers=2) as running:
        yield running


@dataclass
class Load:
    """Writes from several clients until told to stop: what was acknowledged, by id, and why the others were not."""

    system: System
    author: int
    tweets: dict[int, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    is_over: bool = False

    async def run(self, worker: int) -> None:
        """One client, which writes again and again."""
        writer = self.system.writers[worker % len(self.system.writers)]
        for number in itertools.count():
            if self.is_over:
                return
            content = f"{number} of worker {worker}"
            answer = await burst.post(writer.url, "/tweets", {"user_id": self.author, "content": content})
            if answer.status == 201:
                self.tweets[answer.body["id"]] = content
            else:
                assert answer.status == 503, answer
                self.refused[content] = answer.body["code"]
                await anyio.sleep(0.05)

    async def more_than(self, tweets: int) -> None:
        """Wait until more have been acknowledged."""
        with anyio.fail_after(60):
            while len(self.tweets) <= tweets:
                await anyio.sleep(0.02)


@pytest.mark.parametrize("comes_back", ["emptied", "older", "older_and_goes_on"])
async def test_redis_comes_back_with_less_than_it_had_acknowledged(
    system: System, tmp_path: Path, comes_back: str
) -> None:
    """Nothing the owner had applied is lost, the rest is counted, every copy is equal, and no service restarts."""
    ada = system.create_user("ada").json()["id"]
    system.wait_until_applied(int(system.create_tweet(ada, "before the copy").headers["X-Log-Position"]))
    system.redis.copy_data(tmp_path / "older")
    bob = system.create_user("bob").json()["id"]
    system.wait_until_applied(int(system.create_tweet(bob, "after the copy").headers["X-Log-Position"]))
    services = [system.owner, *system.readers, *system.writers]
    pids = [service.pid for service in services]
    load = Load(system, bob)
    fork: list[int] = []

    async with anyio.create_task_group() as workers:
        for worker in range(WORKERS):
            workers.start_soon(load.run, worker)
        await load.more_than(100)
        system.redis.kill()
        applied = system.positions()["owner"]
        if comes_back == "older_and_goes_on":
            fork = go_on_unnoticed(system, services, tmp_path / "older")
        else:
            system.redis.come_back_with(tmp_path / "older" if comes_back == "older" else None)
        await load.more_than(len(load.tweets) + 50)
        load.is_over = True

    last = system.create_tweet(ada, "after it all")
    system.wait_until_applied(int(last.headers["X-Log-Position"]), timeout_seconds=30)
    assert [service.pid for service in services] == pids

    recovery = system.owner.http.get("/internal/position").json()["last_recovery"]
    *discarded, summary = reported(system.owner_directory)
    assert summary == recovery
    assert recovery["base_position"] >= applied
    assert [entry["position"] for entry in discarded][: len(fork)] == fork
    assert fork or not discarded
    with connected(system.database) as connection:
        tweets = {row[0]: row[1] for row in connection.execute(select(col(Tweet.id), col(Tweet.content)))}
        users = {row[0]: row[1] for row in connection.execute(select(col(User.id), col(User.username)))}
    missing = {tweet_id for tweet_id in load.tweets if tweets.get(tweet_id) != load.tweets[tweet_id]}
    missing -= {entry["position"] for entry in discarded}
    bound = max(recovery["reported_position"], recovery["log_head"])
    assert all(recovery["base_position"] < tweet_id <= bound for tweet_id in missing)
    unwritten = {content for content, code in load.refused.items() if code != "outcome_unknown"}
    assert not unwritten & set(tweets.values())
    assert users == {ada: "ada", bob: "bob"}

    hashes = table_hashes(system.database)
    assert hashes == rebuilt_hashes(archived(system.owner_directory), tmp_path / "rebuilt.db")
    for reader in system.readers:
        assert replica_hashes(reader) == hashes
    check_names(system, users)


def go_on_unnoticed(system: System, services: list[ServiceProcess], older: Path) -> list[int]:
    """Redis is back with the older file, and a writer that knows no better appends before anybody else looks."""
    for service in services:
        service.pause()
    system.redis.come_back_with(older)
    with closing(EventLog(system.redis.url)) as log:
        (eve,) = append(log, user("eve"))
        fork = [eve, *append(log, tweet(eve, "who am I?"), user("Bob"))]
    for service in services:
        service.resume()
    return fork


def replica_hashes(reader: ServiceProcess) -> dict[str, str]:
    """The hashes of the replica in service, which is the only one once the one before it has been removed."""

    def in_service() -> list[Path]:
        return list(reader.directory.glob("replica/reader-*/replica-*.db"))

    eventually(lambda: len(in_service()) == 1, describe=in_service)
    return table_hashes(in_service()[0])


def check_names(system: System, users: dict[int, str]) -> None:
    """Redis holds the names of those who exist, and nobody else's; a name is taken once."""
    with system.redis.client() as redis:
        names = {key: redis.get(key) for key in redis.keys(f"{keys.NAME_PREFIX}*")}
        credentials = set(redis.keys(f"{keys.CREDENTIAL_PREFIX}*"))
        emails = {redis.get(key) for key in redis.keys(f"{keys.EMAIL_PREFIX}*")}
    assert names == {f"name:{name.lower()}".encode(): str(user_id).encode() for user_id, name in users.items()}
    assert credentials == {keys.credential(user_id).encode() for user_id in users}
    assert emails == {str(user_id).encode() for user_id in users}
    taken = system.write.post("/users", json={"username": "BOB", "email": "other@example.com"})
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    taken = system.write.post("/users", json={"username": "other", "email": "bob@example.com"})
    assert (taken.status_code, taken.json()["code"]) == (409, "email_taken")
    system.create_user("eve", "eve@example.com")
