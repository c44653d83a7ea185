"""Events after those of a society, mixed as people write them: what followers are given to catch up with."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.data import Society, chunks, sentence
from services.common.events import Event, TweetCreated, TweetLiked, TweetRetweeted, UserFollowed
from services.common.log.append import AppendItem
from services.common.log.client import EventLog

BATCH: Final = 1_000

Written = tuple[int, Event]
"""A position and its event."""


@dataclass(slots=True)
class Backlog:
    """Half tweets, a quarter likes, a tenth retweets, the rest follows; each has an effect."""

    society: Society
    seed: int = 1
    _chance: random.Random = field(init=False)
    _seen: set[tuple[type[Event], int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def events(self, count: int) -> list[Event]:
        """So many more, other ones at each call."""
        return [self._event(self._chance.random()) for _ in range(count)]

    def append(self, log: EventLog, count: int) -> list[Written]:
        """Put so many more into the log, past the write service."""
        return [written for some in chunks(self.events(count), BATCH) for written in append(log, some)]

    def _event(self, roll: float) -> Event:
        user = self._user()
        if roll < 0.5:
            return TweetCreated(user, sentence(self._chance))
        if roll < 0.75:
            return TweetLiked(*self._unseen(TweetLiked, self._tweet, user))
        if roll < 0.85:
            return TweetRetweeted(*self._unseen(TweetRetweeted, self._tweet, user))
        return UserFollowed(*self._unseen(UserFollowed, self._user, user)[::-1])

    def _unseen(self, kind: type[Event], draw: Callable[[], int], user: int) -> tuple[int, int]:
        """Something drawn and the user, who has not done this to it before."""
        while (key := (kind, draw(), user)) in self._seen or key[1] == user:
            user = self._user()
        self._seen.add(key)
        return key[1:]

    def _user(self) -> int:
        """Any of the second half, none of whom follows anybody yet."""
        return self.society.user_id(self._chance.randrange(self.society.users // 2, self.society.users))

    def _tweet(self) -> int:
        """Any that nobody has liked yet."""
        return self.society.tweet_id(self._chance.randrange(self.society.tweets // 10) * 10 + 1)


def append(log: EventLog, events: Sequence[Event]) -> Iterator[Written]:
    """Append events in one call, as the write service does for requests that arrive together."""
    for result, event in zip(log.append([AppendItem(event) for event in events]).results, events, strict=True):
        assert isinstance(result, int), f"{event} was refused: {result}"
        yield result, event
