"""Clients that write and read as real ones do, and note everything that they asked for and were told."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol

import msgspec

from tests.torture.checker import LIST_LENGTH
from tests.torture.history import HistoryFile, Operation, Outcome
from tests.torture.http import Answer, Connection, NotSent, Unanswered

REPEAT_SECONDS_MAX: Final = 30.0
"""How long a client repeats a request under its key."""
PAUSE_SECONDS: Final = 0.05
RECENT_TWEETS: Final = 2_000
RECENT_USERS: Final = 500
NAME_CHARS: Final = "abcdefghijklmnopqrstuvwxyz"

UNDECIDED: Final = ("outcome_unknown", "answer_unavailable")
"""The codes of a 503 that do not say that nothing was written."""


class Server(Protocol):
    """Where a service is reached."""

    @property
    def port(self) -> int:
        """Where it listens."""

    @property
    def process(self) -> str:
        """Its name, and how often it was started."""


@dataclass(frozen=True, slots=True)
class Author:
    """An account, and a token of hers if there are any."""

    id: int
    token: str


@dataclass
class World:
    """What the clients know to exist: the newest accounts and tweets, shared by all of them."""

    users: deque[Author] = field(default_factory=lambda: deque(maxlen=RECENT_USERS))
    tweets: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=RECENT_TWEETS))
    acknowledged: int = 0
    unknown: int = 0
    write_acknowledged_at: float = 0.0
    """When the newest write was sent that has been acknowledged."""
    tokens: dict[int, str] = field(default_factory=dict)
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A write: the event that it asks for, and the request for that."""

    kind: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    target: int = 0
    user: int = 0
    content: str = ""
    token: str = ""


class Client:
    """One client: one request at a time, to any writer or reader, until the world is over.

    It remembers the greatest position it was told, and mostly asks readers for it. Between requests it waits about
    ``idle_seconds``: who does not takes from the services the processor that they need to start. Where every write
    ``needs_tokens``, it sends that of the account that acts.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        world: World,
        history: HistoryFile,
        *,
        writers: Sequence[Server],
        readers: Sequence[Server],
        host: str = "127.0.0.1",
        needs_tokens: bool = False,
        idle_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._random = Random(f"{seed} {name}")
        self._world = world
        self._history = history
        self._writers = [(server, Connection(host, server.port)) for server in writers]
        self._readers = [(server, Connection(host, server.port)) for server in readers]
        self._needs_tokens = needs_tokens
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._position = 0
        self._count = 0

    async def run(self) -> None:
        """Ask until the world is over."""
        turns = [self._read_tweet, self._read_user, self._read_list, self._write]
        try:
            while not self._world.is_over:
                (turn,) = self._random.choices(turns, [16, 4, 5, 75])
                await turn()
                if self._idle_seconds:
                    await asyncio.sleep(self._idle_seconds * 2 * self._random.random())
        finally:
            self.close()

    def close(self) -> None:
        """Close its connections."""
        for _, connection in [*self._writers, *self._readers]:
            connection.close()

    async def _write(self) -> None:
        wanted = self._next_write()
        key = f"{self._name}-{self._count}-{self._random.getrandbits(64):016x}"
        is_keyed = wanted.method == "POST" and self._random.random() < 0.6
        give_up_at = self._clock() + REPEAT_SECONDS_MAX
        while True:
            answer, outcome = await self._send(wanted, key if is_keyed else "")
            if outcome == "ok" and answer is not None:
                self._learn(wanted, answer)
                return
            is_undecided = answer is None or answer.status == 503
            if is_undecided:
                await asyncio.sleep(PAUSE_SECONDS * (1 + self._random.random()))
            if not is_keyed or not is_undecided or self._clock() > give_up_at:
                return

    async def _send(self, wanted: Wanted, key: str) -> tuple[Answer | None, Outcome]:
        server, connection = self._random.choice(self._writers)
        headers = {"Idempotency-Key": key} if key else {}
        token = self._world.tokens[wanted.user] if self._needs_tokens and wanted.user else wanted.token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        body = None if wanted.body is None else msgspec.json.encode(wanted.body)
        process, invoked = server.process, self._clock()
        answer: Answer | None = None
        outcome: Outcome = "unknown"
        try:
            answer = await connection.request(wanted.method, wanted.path, headers, body)
            outcome = _outcome(answer)
        except NotSent:
            outcome = "refused"
        except Unanswered:
            pass
        self._count += 1
        self._world.acknowledged += outcome == "ok"
        self._world.unknown += outcome == "unknown"
        operation = Operation(
            client=self._name,
            process=process if process == server.process else "",
            kind=wanted.kind,
            invoked=invoked,
            ended=self._clock(),
            outcome=outcome,
            key=key,
            target=wanted.target,
            user=wanted.user,
            content=wanted.content,
            **_told(answer),
        )
        self._history.add(operation)
        if outcome == "ok":
            self._position = max(self._position, operation.position)
            self._world.write_acknowledged_at = max(self._world.write_acknowledged_at, invoked)
        return answer, outcome

    def _next_write(self) -> Wanted:
        chance, world = self._random, self._world
        if len(world.users) < 8 or chance.random() < 0.02:
            return self._account()
        user = chance.choice(world.users)
        if not world.tweets or chance.random() < 0.45:
            parent = chance.choice(world.tweets)[0] if world.tweets and chance.random() < 0.2 else 0
            return self._tweet(user.id, parent)
        tweet_id, author = chance.choice(world.tweets)
        roll = chance.random()
        if roll < 0.08:
            body = {"user_id": author}
            return Wanted("tweet_deleted", "DELETE", f"/tweets/{tweet_id}", body, target=tweet_id, user=author)
        if roll < 0.70:
            return self._reaction(tweet_id, user.id)
        if roll < 0.995 or not user.token:
            return self._following(user.id, chance.choice(world.users).id)
        return Wanted("account_deleted", "DELETE", "/users/me", user=user.id, token=user.token)

    def _account(self) -> Wanted:
        name = f"{self._name}_{self._count}_{''.join(self._random.choices(NAME_CHARS, k=6))}"
        body = {"username": name, "email": f"{name}@example.com"}
        return Wanted("user_created", "POST", "/users", body, content=name)

    def _tweet(self, user_id: int, parent: int) -> Wanted:
        content = f"{self._name} {self._count} {self._random.getrandbits(40):x}"
        body = {"content": content, "user_id": user_id} | ({"in_reply_to_id": parent} if parent else {})
        return Wanted("tweet_created", "POST", "/tweets", body, target=parent, user=user_id, content=content)

    def _reaction(self, tweet_id: int, user_id: int) -> Wanted:
        noun, done, undone = self._random.choice(
            [("like", "tweet_liked", "tweet_unliked"), ("retweet", "tweet_retweeted", "tweet_unretweeted")]
        )
        path = f"/tweets/{tweet_id}/{noun}"
        roll = self._random.random()
        if roll < 0.2 and not self._needs_tokens:
            return Wanted(done, "POST", path, target=tweet_id)
        body = {"user_id": user_id}
        if roll < 0.8:
            return Wanted(done, "POST", path, body, target=tweet_id, user=user_id)
        return Wanted(undone, "DELETE", path, body, target=tweet_id, user=user_id)

    def _following(self, follower: int, followee: int) -> Wanted:
        path, body = f"/users/{followee}/follow", {"user_id": follower}
        if self._random.random() < 0.7:
            return Wanted("user_followed", "POST", path, body, target=followee, user=follower)
        return Wanted("user_unfollowed", "DELETE", path, body, target=followee, user=follower)

    def _learn(self, wanted: Wanted, answer: Answer) -> None:
        if wanted.kind == "user_created":
            author = Author(answer.body["id"], answer.body.get("access_token") or "")
            self._world.users.append(author)
            self._world.tokens[author.id] = author.token
        elif wanted.kind == "tweet_created":
            self._world.tweets.append((answer.body["id"], wanted.user))

    async def _read_tweet(self) -> None:
        if self._world.tweets:
            tweet_id, _ = self._random.choice(self._world.tweets)
            await self._read("read_tweet", f"/tweets/{tweet_id}", tweet_id, _seen_tweet)

    async def _read_user(self) -> None:
        if self._world.users:
            user_id = self._random.choice(self._world.users).id
            await self._read("read_user", f"/users/{user_id}", user_id, _seen_user)

    async def _read_list(self) -> None:
        if self._world.users:
            user_id = self._random.choice(self._world.users).id
            await self._read("read_list", f"/users/{user_id}/tweets?limit={LIST_LENGTH}", user_id, _seen_list)

    async def _read(self, kind: str, path: str, target: int, view: Callable[[Any], dict[str, Any]]) -> None:
        server, connection = self._random.choice(self._readers)
        min_position = self._position if self._random.random() < 0.7 else 0
        headers = {"X-Min-Position": str(min_position)} if min_position else {}
        process, invoked = server.process, self._clock()
        answer: Answer | None = None
        outcome: Outcome = "unknown"
        try:
            answer = await connection.request("GET", path, headers)
            outcome = "ok" if answer.status in (200, 404) else "refused"
        except (NotSent, Unanswered):
            pass
        self._count += 1
        self._world.acknowledged += outcome == "ok"
        operation = Operation(
            client=self._name,
            process=process if process == server.process else "",
            kind=kind,
            invoked=invoked,
            ended=self._clock(),
            outcome=outcome,
            target=target,
            min_position=min_position,
            seen=view(answer.body) if answer is not None and answer.status == 200 else None,
            **_told(answer),
        )
        self._history.add(operation)
        if outcome == "ok":
            self._position = max(self._position, operation.position)
        else:
            await asyncio.sleep(PAUSE_SECONDS)


def _outcome(answer: Answer) -> Outcome:
    if 200 <= answer.status < 300:
        return "ok"
    is_undecided = answer.status >= 500 and (answer.status != 503 or answer.body["code"] in UNDECIDED)
    return "unknown" if is_undecided else "refused"


def _told(answer: Answer | None) -> dict[str, Any]:
    """What of an answer is kept with every operation."""
    if answer is None:
        return {}
    body = answer.body if isinstance(answer.body, dict) else {}
    return {
        "status": answer.status,
        "code": body.get("code", ""),
        "id": body.get("id", 0) if answer.status == 201 else 0,
        "position": int(answer.headers.get("x-log-position", 0)),
    }


def _seen_user(user: dict[str, Any]) -> dict[str, Any]:
    return {"id": user["id"], "followers": user["followers_count"], "following": user["following_count"]}


def _seen_tweet(tweet: dict[str, Any]) -> dict[str, Any]:
    counters = {"likes": tweet["likes"], "retweets": tweet["retweets"], "replies": tweet["reply_count"]}
    return {**counters, "content": tweet["content"], "author": _seen_user(tweet["user"])}


def _seen_list(tweets: list[dict[str, Any]]) -> dict[str, Any]:
    return {"ids": [tweet["id"] for tweet in tweets]}
