"""Clients: they write, repeat what they are not sure of, and read, and check what they read."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import msgspec

from services.common import events, views
from services.common.errors import ClientError, OperationalError, OutcomeUnknown
from services.common.events import (
    AccountDeleted,
    Event,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    UserCreated,
    UserFollowed,
    UserUpdated,
)
from services.common.log.append import AppendItem, CredentialChange, CredentialClaim, Repeated, Result
from services.common.log.idempotency import IdempotencyClaim
from services.common.views import Window
from tests.simulation.history import Write
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.nodes import ReaderNode
    from tests.simulation.schedule import Schedule

REQUEST_SECONDS = 0.85
PATIENCE_SECONDS = 2.0
ATTEMPTS_MAX = 4
NAMES = 8


class Workload:
    """All clients together; they know of each other what was acknowledged."""

    def __init__(self, schedule: Schedule, before: Workload | None = None) -> None:
        self._schedule = schedule
        self._world = schedule.world
        self._random = schedule.world.random
        self._users: list[int] = before._users[:] if before else []
        self._tweets: dict[int, bytes] = dict(before._tweets) if before else {}
        self._deleted: set[int] = set(before._deleted) if before else set()
        """Tweets that somebody has tried to delete, with their author's account or alone."""
        self._greatest: int = before._greatest if before else 0
        self._open = 0
        self._probes: int | None = None
        self.reads = 0
        self.hits = 0

    def act(self) -> None:
        """Do something."""
        if self._random.random() < 0.5:
            self._read()
        else:
            self._write(self._some_event())

    def why_not_done(self) -> str | None:
        """What clients still wait for."""
        return f"{self._open} requests are open" if self._open else None

    def probe(self) -> None:
        """Write through every writer and read that from every reader."""
        self._probes = 0
        for writer in self._schedule.writers:
            self._probes += 1
            event = TweetCreated(user_id=1, content=f"probe through {writer.process.name}")
            writer.append(AppendItem(event), REQUEST_SECONDS, self._probed)

    @property
    def is_probed(self) -> bool:
        """Whether all of that is done."""
        return self._probes == 0

    def _probed(self, outcome: Result | Exception) -> None:
        if not isinstance(outcome, int):
            raise Violation(f"a whole system does not take a write: {outcome!r}")
        assert self._probes is not None
        self._probes -= 1

    # Writes

    def _some_event(self) -> tuple[Event, int]:  # noqa: PLR0911 - one of each kind
        """An event, and the id that it refers to."""
        random = self._random
        number = len(self._schedule.history.writes)
        roll = random.random()
        if not self._users or roll < 0.15:
            return UserCreated(username=f"Name{random.randrange(NAMES)}"), 0
        user = random.choice(self._users)
        if not self._tweets or roll < 0.6:
            parent = random.choice(list(self._tweets)) if self._tweets and random.random() < 0.3 else None
            return TweetCreated(user_id=user, content=f"tweet {number}", in_reply_to_id=parent), parent or 0
        tweet = random.choice(list(self._tweets))
        if roll < 0.75:
            return TweetLiked(tweet_id=tweet, user_id=user if random.random() < 0.7 else None), tweet
        if roll < 0.82:
            return UserFollowed(follower_id=user, followee_id=random.choice(self._users)), user
        if roll < 0.9:
            return UserUpdated(user_id=user, bio=f"bio {number}"), user
        if roll < 0.97:
            author = json.loads(self._tweets[tweet])["user_id"]
            self._deleted.add(tweet)
            return TweetDeleted(tweet_id=tweet, user_id=author), tweet
        self._deleted |= {each for each, payload in self._tweets.items() if json.loads(payload)["user_id"] == user}
        self._users.remove(user)
        return AccountDeleted(user_id=user), user

    def _write(self, what: tuple[Event, int]) -> None:
        event, target = what
        number = len(self._schedule.history.writes)
        claim = None
        if self._random.random() < 0.4:
            digests = [hashlib.sha256(f"{part} {number}".encode()).digest()[:16] for part in ("scope", "request")]
            claim = IdempotencyClaim(digests[0], digests[1])
        credential = change = None
        if isinstance(event, UserCreated):
            name = event.username.lower()
            credential = CredentialClaim(f"{name}@example.com", f"hmac-{name}", "hash")
        if isinstance(event, UserUpdated) and self._random.random() < 0.5:
            change = CredentialChange(password_hash=f"hash {number}")
        actor_id = event.user_id if isinstance(event, TweetCreated) else 0
        item = AppendItem(event, target=target, credential=credential, change=change, actor_id=actor_id, claim=claim)
        write = Write(number, item, events.encode(event), is_unique=isinstance(event, TweetCreated | UserUpdated))
        self._schedule.history.writes.append(write)
        self._open += 1
        self._attempt(write)

    def _attempt(self, write: Write) -> None:
        writer = self._random.choice(self._schedule.writers)
        write.attempts += 1
        is_over = False

        def end(outcome: Result | Exception | None) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self._note(write, outcome)

        self._world.note("client", f"write {write.number} through {writer.process.name}", event=write.item.event)
        if writer.process.is_alive and writer.commit is not None:
            writer.append(write.item, REQUEST_SECONDS, end)
        self._world.after(PATIENCE_SECONDS, lambda: end(None))

    def _note(self, write: Write, outcome: Result | Exception | None) -> None:
        self._world.note("client", f"write {write.number}", outcome=repr(outcome))
        match outcome:
            case int() | Repeated():
                write.acknowledged.append(int(outcome))
                self._learn(write.item.event, int(outcome))
            case None | OutcomeUnknown():
                write.is_in_doubt = True
            case Exception() if not isinstance(outcome, OperationalError):
                raise outcome
        is_again = not isinstance(outcome, int | Repeated | str) and write.item.claim is not None
        if is_again and write.attempts < ATTEMPTS_MAX:
            self._world.after(self._random.random() * 2, lambda: self._attempt(write))
        else:
            self._open -= 1

    def _learn(self, event: Event, position: int) -> None:
        self._greatest = max(self._greatest, position)
        if isinstance(event, UserCreated):
            self._users.append(position)
        if isinstance(event, TweetCreated):
            self._tweets[position] = events.encode(event)
            if event.user_id not in self._users:
                self._deleted.add(position)

    # Reads

    def _read(self) -> None:
        nodes = [node for node in self._schedule.readers if node.process.is_alive]
        if nodes:
            node = self._random.choice(nodes)
            node.loop.call_soon(lambda: node.loop.create_task(self._read_from(node)))

    async def _read_from(self, node: ReaderNode) -> None:
        random = self._random
        tweet_id = random.choice(list(self._tweets)) if self._tweets else 1
        user_id = random.choice(self._users) if self._users else 1
        min_position = random.choice((0, tweet_id, self._greatest))
        what = random.choice(("tweet", "tweet", "user", "tweets", "home"))
        try:
            await node.lookups.reach(min_position)
            before = node.lookups.applied_position
            answer: Any
            match what:
                case "tweet":
                    answer = await node.lookups.tweet(tweet_id)
                case "user":
                    answer = await node.lookups.user(user_id)
                case "tweets":
                    answer = await node.lookups.tweets_by_author(user_id, Window(limit=10), 0)
                case _:
                    answer = await node.lookups.home(user_id, Window(limit=10))
        except (OperationalError, ClientError):
            return
        self.reads += 1
        if before < min_position:
            raise Violation(f"{node.process.name} answers at {before}, {min_position} was asked for")
        if what == "tweet":
            self._check_tweet(node, tweet_id, answer, min_position)
            self._check_fresh(node, tweet_id, answer)

    def _check_tweet(self, node: ReaderNode, tweet_id: int, answer: Any, min_position: int) -> None:
        """Who has seen it acknowledged reads it, unless it was deleted or lost."""
        if tweet_id not in self._tweets or min_position < tweet_id or tweet_id in self._deleted:
            return
        if self._schedule.history.lost:
            return  # what is gone, and whose author is, the end will show
        if answer.status != 200:
            raise Violation(f"{node.process.name} does not find the tweet {tweet_id} at {node.position}")

    def _check_fresh(self, node: ReaderNode, tweet_id: int, answer: Any) -> None:
        """What comes from the cache is what comes from the rows at the same position."""
        backing: Any = node.store.backing
        if answer.read_position == 0:
            return  # not from the rows
        rows = backing.reader
        found = views.tweet(rows, tweet_id)
        if found.read_position != node.position:
            return  # the rows are ahead of what is served
        is_equal = (found.value is None) == (answer.status == 404)
        if found.value is not None and is_equal:
            is_equal = json.loads(answer.body) == json.loads(msgspec.json.encode(found.value))
        if not is_equal:
            raise Violation(f"{node.process.name} serves {answer.body!r} at {node.position}: it is {found.value}")
