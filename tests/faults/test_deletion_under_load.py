"""Tweets deleted while they are written, liked, answered and read: none is served after its position."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import Connection, text

from tests.support.databases import connected
from tests.support.system import System

pytestmark = pytest.mark.anyio

CLIENTS = 8
TURNS = 25
SETTLE_SECONDS = 20

MISCOUNTED = """
SELECT id FROM tweets WHERE likes <> (SELECT count(*) FROM likes WHERE tweet_id = tweets.id)
    OR retweets <> (SELECT count(*) FROM retweets WHERE tweet_id = tweets.id)
    OR reply_count <> (SELECT count(*) FROM tweets AS r WHERE r.in_reply_to_id = tweets.id AND NOT r.deleted)
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """Two readers and two writers."""
    with System(tmp_path, readers=2, writers=2) as running:
        yield running


@dataclass
class Load:
    """What clients did and saw. ``alive`` maps tweets to authors; ``seen`` are (tweet, position of the answer)."""

    system: System
    http: httpx.AsyncClient
    chance: random.Random
    users: list[int]
    alive: dict[int, int] = field(default_factory=dict)
    deleted_at: dict[int, int] = field(default_factory=dict)
    seen: list[tuple[int, int]] = field(default_factory=list)

    async def write(self, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
        """A write that is asked for until it is done; 404 and 403 are final answers too."""
        with anyio.fail_after(SETTLE_SECONDS):
            while True:
                url = self.chance.choice(self.system.writers).url
                answer = await self.http.request(method, f"{url}{path}", json=body)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return answer
                await anyio.sleep(0.05)  # asked to try again later

    async def read(self, path: str, min_position: int | None = None) -> httpx.Response:
        """A read from either reader; what it shows is noted."""
        url = self.chance.choice(self.system.readers).url
        headers = {} if min_position is None else {"X-Min-Position": str(min_position)}
        answer = await self.http.get(f"{url}{path}", headers=headers)
        if answer.is_success:
            shown = answer.json() if isinstance(answer.json(), list) else [answer.json()]
            self.seen += [(tweet["id"], int(answer.headers["X-Log-Position"])) for tweet in shown]
        return answer

    async def turn(self) -> None:
        """One client: a new tweet, something done to another one, a deletion, and looks before and after."""
        author = self.chance.choice(self.users)
        parent = {"in_reply_to_id": self.chance.choice(list(self.alive))} if self.alive else {}
        created = await self.write("POST", "/tweets", {"content": "brief", "user_id": author, **parent})
        if created.status_code == httpx.codes.NOT_FOUND:  # its parent has gone
            return
        tweet_id = created.json()["id"]
        self.alive[tweet_id] = author
        await self.react(self.chance.choice(list(self.alive)))
        await self.read(f"/tweets/{tweet_id}")
        if self.chance.random() < 0.6:
            await self.delete(self.chance.choice([tweet_id, *self.alive]))
        await self.read(f"/tweets/{self.chance.choice([*self.alive, *self.deleted_at])}")
        await self.read(f"/users/{author}/{self.chance.choice(['tweets', 'home'])}?limit=100")

    async def react(self, tweet_id: int) -> None:
        """Like or unlike, retweet or take that back."""
        path = f"/tweets/{tweet_id}/{self.chance.choice(['like', 'retweet'])}"
        body = {"user_id": self.chance.choice(self.users)}
        await self.write(self.chance.choice(["POST", "POST", "DELETE"]), path, body)

    async def delete(self, tweet_id: int) -> None:
        """Delete a tweet, and find it nowhere at the position of the answer."""
        author = self.alive.pop(tweet_id, None)
        if author is None:
            return
        answer = await self.write("DELETE", f"/tweets/{tweet_id}", {"user_id": author})
        assert answer.status_code == httpx.codes.OK, answer.text
        at = self.deleted_at[tweet_id] = int(answer.headers["X-Log-Position"])
        for path in (f"/tweets/{tweet_id}", f"/tweets/{tweet_id}/replies"):
            while (gone := await self.read(path, at)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
                assert gone.json()["code"] == "position_not_reached"
            assert gone.status_code == httpx.codes.NOT_FOUND


@pytest.mark.timeout(180)
async def test_no_reader_serves_a_deleted_tweet_after_its_position(system: System) -> None:
    """Neither by its id nor in a list, marked with whatever position; and all counters equal their rows."""
    users = [system.create_user(f"user_{number}").json()["id"] for number in range(5)]
    async with httpx.AsyncClient(timeout=10) as http:
        load = Load(system, http, random.Random(20261122), users)

        async def client() -> None:
            for _ in range(TURNS):
                await load.turn()

        async with anyio.create_task_group() as clients:
            for _ in range(CLIENTS):
                clients.start_soon(client)
    assert len(load.deleted_at) > CLIENTS * TURNS / 4
    late = [(tweet, at) for tweet, at in load.seen if at >= load.deleted_at.get(tweet, at + 1)]
    assert not late
    system.wait_until_applied(max(load.deleted_at.values()))
    replicas = [next(system.directory.glob(f"{reader.name}/replica/*/replica-*.db")) for reader in system.readers]
    for path in (system.database, *replicas):
        with connected(path) as connection:
            _check_tables(connection, load)


def _check_tables(connection: Connection, load: Load) -> None:
    assert connection.execute(text(MISCOUNTED)).all() == []
    rows = connection.execute(text("SELECT id, deleted, content FROM tweets")).all()
    assert {row[0] for row in rows if row[1]} == set(load.deleted_at)
    assert {row[0] for row in rows if not row[1]} == set(load.alive)
    assert {(bool(row[1]), row[2]) for row in rows} == {(True, ""), (False, "brief")}
