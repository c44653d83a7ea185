"""The whole system on real processes: what is acknowledged is there once, and readable at once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import Connection, func, select
from sqlmodel import col

from services.common import events
from services.common.events import TweetCreated, TweetLiked, TweetRetweeted, UserCreated, UserFollowed
from services.common.log.client import EventLog
from services.common.log.entry import Entry
from services.common.models import Follow, Like, Retweet, Tweet, User
from tests.support import burst
from tests.support.databases import READ_STORE, connected
from tests.support.system import System
from tests.support.wait import PATIENCE_SECONDS, PROMPT_SECONDS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two readers and two writers, so that nobody can be right by being alone."""
    with System(tmp_path_factory.mktemp("system"), readers=2, writers=2) as running:
        yield running


@pytest.fixture
def system(shared: System) -> System:
    """All of it running and ready, whatever the test before did to it."""
    for part in (shared.redis, shared.owner, *shared.readers, *shared.writers):
        if not part.is_running:
            part.start()
    for service in (shared.owner, *shared.readers, *shared.writers):
        service.wait_ready()
    return shared


@dataclass
class Acknowledged:
    """What clients were told has happened, and the positions at which it did."""

    users: dict[int, str] = field(default_factory=dict)
    tweets: dict[int, str] = field(default_factory=dict)
    likes: Counter[tuple[int, int | None]] = field(default_factory=Counter)
    retweets: Counter[tuple[int, int | None]] = field(default_factory=Counter)
    follows: set[tuple[int, int]] = field(default_factory=set)
    positions: list[int] = field(default_factory=list)
    unknown: int = 0

    def note(self, request: Request, answer: burst.Answer) -> None:
        """Take a final answer into the account."""
        if answer.status == 503:
            self.unknown += 1
            return
        assert answer.status in {200, 201}, answer
        self.positions.append(int(answer.headers["x-log-position"]))
        match request.kind:
            case "user":
                self.users[answer.body["id"]] = request.text
            case "tweet":
                self.tweets[answer.body["id"]] = request.text
            case "follow":
                self.follows.add((request.actor or 0, request.target))
            case "like":
                self.likes[request.target, request.actor] += 1
            case "retweet":
                self.retweets[request.target, request.actor] += 1

    def learn(self, entry: Entry) -> None:
        """Note what the log says of a request whose outcome its client does not know."""
        match events.decode(entry.name, entry.payload):
            case UserCreated(username=name):
                self.users[entry.position] = name
            case TweetCreated(content=content):
                self.tweets[entry.position] = content
            case UserFollowed(follower_id=follower, followee_id=followee):
                self.follows.add((follower, followee))
            case TweetLiked(tweet_id=tweet, user_id=actor):
                self.likes[tweet, actor] += 1
            case TweetRetweeted(tweet_id=tweet, user_id=actor):
                self.retweets[tweet, actor] += 1


@dataclass(frozen=True)
class Request:
    """One write. ``target`` is the tweet or user it is about, ``actor`` None for an anonymous reaction."""

    kind: str
    text: str = ""
    target: int = 0
    actor: int | None = None

    async def settle(self, writer_url: str) -> burst.Answer:
        """Ask until the answer is final: a 503 other than outcome_unknown promises that nothing was written."""
        while (answer := await self.send(writer_url)).status == 503 and answer.body["code"] != "outcome_unknown":
            await anyio.sleep(int(answer.headers["retry-after"]) / 2)
        return answer

    async def send(self, writer_url: str) -> burst.Answer:
        """Make the request."""
        acting = {} if self.actor is None else {"user_id": self.actor}
        match self.kind:
            case "user":
                body = {"username": self.text, "email": f"{self.text}@example.com"}
                return await burst.post(writer_url, "/users", body)
            case "tweet":
                return await burst.post(writer_url, "/tweets", {"content": self.text, **acting})
            case "follow":
                return await burst.post(writer_url, f"/users/{self.target}/follow", acting)
            case _:
                return await burst.post(writer_url, f"/tweets/{self.target}/{self.kind}", acting or None)


def random_request(number: int, users: list[int], tweets: list[int], chance: random.Random) -> Request:
    """A write by and about somebody who exists."""
    kind = chance.choice(["user", "tweet", "tweet", "like", "like", "retweet", "follow"])
    actor, other = chance.sample(users, 2)
    match kind:
        case "user":
            return Request(kind, text=f"user_{number}")
        case "tweet":
            return Request(kind, text=f"tweet number {number}", actor=actor)
        case "follow":
            return Request(kind, target=other, actor=actor)
        case _:
            return Request(kind, target=chance.choice(tweets), actor=chance.choice([actor, actor, None]))


@pytest.mark.timeout(120)
async def test_two_thousand_concurrent_requests_are_in_the_database_once(system: System) -> None:
    """Every 2xx once, no id twice, ids ascending in log order, counters equal rows."""
    done, chance = Acknowledged(), random.Random(20261122)
    log = EventLog(system.redis.url)
    before = log.head()

    async def send(request: Request) -> None:
        done.note(request, await request.settle(chance.choice(system.writers).url))

    for number in range(20):
        await send(Request("user", text=f"first_{number}"))
        await send(Request("tweet", text=f"first tweet {number}", actor=max(done.users)))
    users, tweets = list(done.users), list(done.tweets)
    async with anyio.create_task_group() as requests:
        for number in range(2_000):
            requests.start_soon(send, random_request(number, users, tweets, chance))

    assert len(done.positions) + done.unknown == 2_040
    system.wait_until_applied(max(done.positions))
    entries = log.read(before, entries_max=10_000)
    assert all(one.position == other.prev < other.position for one, other in pairwise(entries))
    unacknowledged = {entry.position: entry for entry in entries}
    for position in done.positions:
        del unacknowledged[position]
    assert len(unacknowledged) <= done.unknown
    for entry in unacknowledged.values():
        done.learn(entry)
    with connected(system.database) as connection:
        _check_rows(connection, done, before)


def _check_rows(connection: Connection, done: Acknowledged, after_position: int) -> None:
    def mapping(*columns: Any) -> dict[int, Any]:
        rows = connection.execute(select(*columns).where(columns[0] > after_position))
        return {row[0]: row[1] for row in rows}

    assert mapping(User.id, User.username) == done.users
    assert mapping(Tweet.id, Tweet.content) == done.tweets
    follows = connection.execute(
        select(col(Follow.follower_id), col(Follow.followee_id)).where(col(Follow.position) > after_position)
    )
    assert {(row[0], row[1]) for row in follows} == done.follows
    for reacted_to, counter, reactions in (
        (col(Like.tweet_id), col(Tweet.likes), done.likes),
        (col(Retweet.tweet_id), col(Tweet.retweets), done.retweets),
    ):
        expected: Counter[int] = Counter()
        for (tweet, actor), times in reactions.items():
            expected[tweet] += times if actor is None else 1  # by the same user counts once
        rows = connection.execute(
            select(reacted_to, func.count()).where(reacted_to > after_position).group_by(reacted_to)
        )
        assert {row[0]: row[1] for row in rows} == expected
        assert {tweet: count for tweet, count in mapping(Tweet.id, counter).items() if count} == expected


async def test_a_write_is_read_at_its_position_on_every_reader(system: System) -> None:
    """Never an older state: at the position of a write, every reader knows the write."""
    user_id = system.create_user("reader_of_own_writes").json()["id"]
    async with httpx.AsyncClient(timeout=10) as http:
        for number in range(30):
            created = system.create_tweet(user_id, f"tweet {number}")
            token = {"X-Min-Position": created.headers["X-Log-Position"]}
            for reader in system.readers:
                tweet = await http.get(f"{reader.url}/tweets/{created.json()['id']}", headers=token)
                page = await http.get(f"{reader.url}/users/{user_id}/tweets?limit=1", headers=token)
                for response in (tweet, page):
                    assert response.status_code == 200
                    assert int(response.headers["X-Log-Position"]) >= int(token["X-Min-Position"])
                assert tweet.json()["content"] == page.json()[0]["content"] == f"tweet {number}"


async def test_a_position_that_is_not_reached_in_time_is_503(system: System) -> None:
    """A bounded wait, then an honest answer; the newest state is never passed off as the one asked for."""
    created = system.create_user("waiter")
    beyond = int(created.headers["X-Log-Position"]) + 1
    response = system.read.get(f"/users/{created.json()['id']}", headers={"X-Min-Position": str(beyond)})
    assert response.status_code == 503
    assert response.json()["code"] == "position_not_reached"
    assert int(response.headers["Retry-After"]) >= 1


async def test_a_fresh_tweet_is_found_by_its_id_before_it_is_applied(system: System) -> None:
    """A reader that is behind finds the tweet where it is for sure: in the log."""
    author = system.create_user("fresh_author").json()["id"]
    for reader in system.readers:
        reader.wait_ready()
    created = system.create_tweet(author, "just now")
    found = system.readers[1].http.get(f"/tweets/{created.json()['id']}")
    assert found.status_code == 200
    assert found.json() == created.json()


async def test_writes_and_fresh_reads_go_on_without_the_owner(system: System) -> None:
    """The owner is needed to start a reader, not to read; readers that share its database do not get on, but look."""
    user_id = system.create_user("orphan").json()["id"]
    system.owner.kill()
    created = system.create_tweet(user_id, "nobody owns me")
    token = {"X-Min-Position": created.headers["X-Log-Position"]} if READ_STORE == "replica" else {}
    for reader in system.readers:
        assert reader.http.get(f"/tweets/{created.json()['id']}", headers=token).json()["content"] == "nobody owns me"
    system.owner.start()
    system.owner.wait_ready()
    system.wait_until_applied(int(created.headers["X-Log-Position"]))


async def test_a_dead_redis_stops_writes_within_a_second_and_no_read(system: System) -> None:
    """Writes say 503 with Retry-After, reads go on and say how old they are, and all recovers without a restart."""
    created = system.create_tweet(system.create_user("outlasting").json()["id"], "before")
    tweet_url = f"/tweets/{created.json()['id']}"
    system.wait_until_applied(int(created.headers["X-Log-Position"]))
    system.redis.kill()
    refused = system.write.post(
        "/tweets", json={"user_id": created.json()["user_id"], "content": "during"}, timeout=PROMPT_SECONDS
    )
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    with anyio.fail_after(PATIENCE_SECONDS):
        while "X-Stale-Seconds" not in (read := system.read.get(tweet_url)).headers:
            assert read.json()["content"] == "before"
            await anyio.sleep(0.05)
    system.redis.start()
    with anyio.fail_after(PATIENCE_SECONDS):
        while not (again := system.write.post("/tweets", json=_tweet_of(created))).is_success:
            assert again.status_code == 503
            await anyio.sleep(0.05)
    system.wait_until_applied(int(again.headers["X-Log-Position"]))
    assert "X-Stale-Seconds" not in system.read.get(tweet_url).headers


async def test_a_paused_redis_is_a_503_in_time(system: System) -> None:
    """A server that accepts and never answers must not hold a request for ever."""
    created = system.create_user("paused")
    system.redis.pause()
    try:
        refused = system.write.post(
            "/tweets", json={"user_id": created.json()["id"], "content": "x"}, timeout=PROMPT_SECONDS
        )
    finally:
        system.redis.resume()
    assert refused.status_code == 503
    assert refused.json()["code"] in {"outcome_unknown", "log_unavailable"}
    assert "Retry-After" in refused.headers


async def test_a_second_owner_refuses_to_start(system: System) -> None:
    """Exactly one process may write the database; the message says who holds it."""
    second = system.new_owner("second-owner")
    second.start()
    assert second.wait(timeout_seconds=40) != 0
    assert str(system.owner.pid) in second.log


def _tweet_of(created: httpx.Response) -> dict[str, object]:
    return {"user_id": created.json()["user_id"], "content": "after"}
