"""What the log says at each position: every state that a tweet or a user was ever in.

Written from the documentation of the API and not from services/common/projection, which it judges.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.torture.history import LogEntry

State = tuple[int, ...] | None
"""The counters, or None while there is no such tweet or user."""

FOREVER: Final = 2**63


@dataclass(slots=True)
class Timeline:
    """The states of one tweet or user, each from a position on."""

    positions: list[int] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def change(self, position: int, state: State) -> None:
        """It is in this state from a position on."""
        self.positions.append(position)
        self.states.append(state)

    @property
    def latest(self) -> State:
        """Its state now."""
        return self.states[-1] if self.states else None

    def between(self, position: int, up_to_position: int) -> list[State]:
        """All states from one position to another, both inclusive."""
        first = bisect_right(self.positions, position) - 1
        last = bisect_right(self.positions, up_to_position)
        absent: list[State] = [None] if first < 0 else []
        return absent + self.states[max(first, 0) : last]

    def is_ever(self, state: State, position: int, up_to_position: int) -> bool:
        """Whether it is in this state anywhere between two positions, both inclusive."""
        return state in self.between(position, up_to_position)

    def is_always_there(self, position: int, up_to_position: int) -> bool:
        """Whether it exists all the time from one position to another."""
        return None not in self.between(position, up_to_position)


@dataclass
class Model:
    """The log, applied entry by entry. Counters of tweets: likes, retweets, replies; of users: followers, following."""

    tweets: dict[int, Timeline] = field(default_factory=lambda: defaultdict(Timeline))
    users: dict[int, Timeline] = field(default_factory=lambda: defaultdict(Timeline))
    authors: dict[int, int] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    contents: dict[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    tweets_of: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    likes: set[tuple[int, int]] = field(default_factory=set)
    retweets: set[tuple[int, int]] = field(default_factory=set)
    followers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    following: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, entries: Iterable[LogEntry]) -> Model:
        """All of these entries applied."""
        model = cls()
        for entry in entries:
            model.apply(entry)
        return model

    def row_counts(self) -> dict[str, int]:
        """How many rows each table must have at the end."""
        return {
            "users": sum(1 for user in self.users.values() if user.latest is not None),
            "tweets": len(self.authors),
            "likes": len(self.likes),
            "retweets": len(self.retweets),
            "follows": sum(map(len, self.followers.values())),
        }

    def apply(self, entry: LogEntry) -> None:
        """Apply one entry."""
        at, event = entry.position, entry.event
        match entry.name:
            case "user_created":
                self.names[at] = event["username"]
                self.users[at].change(at, (0, 0))
            case "account_deleted":
                self._delete_account(event["user_id"], at)
            case "tweet_created":
                self._create(event["user_id"], event["content"], event.get("in_reply_to_id"), at)
            case "tweet_deleted":
                if self.authors.get(event["tweet_id"]) == event["user_id"]:
                    self._bury(event["tweet_id"], at)
            case "tweet_liked":
                self._react(self.likes, 0, event["tweet_id"], event.get("user_id"), at)
            case "tweet_retweeted":
                self._react(self.retweets, 1, event["tweet_id"], event.get("user_id"), at)
            case "tweet_unliked":
                self._take_back(self.likes, 0, event["tweet_id"], event["user_id"], at)
            case "tweet_unretweeted":
                self._take_back(self.retweets, 1, event["tweet_id"], event["user_id"], at)
            case "user_followed":
                self._follow(event["follower_id"], event["followee_id"], at)
            case "user_unfollowed":
                self._unfollow(event["follower_id"], event["followee_id"], at)

    def _is_user(self, user_id: int) -> bool:
        return user_id in self.users and self.users[user_id].latest is not None

    def _is_tweet(self, tweet_id: int) -> bool:
        return tweet_id in self.tweets and self.tweets[tweet_id].latest is not None

    def _create(self, author: int, content: str, parent: int | None, at: int) -> None:
        if not self._is_user(author):
            return
        self.authors[at], self.contents[at] = author, content
        self.tweets_of[author].append(at)
        self.tweets[at].change(at, (0, 0, 0))
        if parent in self.authors:
            self.parents[at] = parent
            self._count(self.tweets, parent, 2, +1, at)

    def _bury(self, tweet_id: int, at: int) -> None:
        if not self._is_tweet(tweet_id):
            return
        self.tweets[tweet_id].change(at, None)
        if tweet_id in self.parents:
            self._count(self.tweets, self.parents[tweet_id], 2, -1, at)

    def _react(self, pairs: set[tuple[int, int]], counter: int, tweet_id: int, user_id: int | None, at: int) -> None:
        pair = (tweet_id, at if user_id is None else user_id)
        if pair in pairs or not self._is_tweet(tweet_id) or (user_id is not None and not self._is_user(user_id)):
            return
        pairs.add(pair)
        self._count(self.tweets, tweet_id, counter, +1, at)

    def _take_back(self, pairs: set[tuple[int, int]], counter: int, tweet_id: int, user_id: int, at: int) -> None:
        if (tweet_id, user_id) in pairs and self._is_user(user_id):
            pairs.remove((tweet_id, user_id))
            self._count(self.tweets, tweet_id, counter, -1, at)

    def _follow(self, follower: int, followee: int, at: int) -> None:
        is_possible = follower != followee and self._is_user(follower) and self._is_user(followee)
        if is_possible and followee not in self.following[follower]:
            self.following[follower].add(followee)
            self.followers[followee].add(follower)
            self._count(self.users, follower, 1, +1, at)
            self._count(self.users, followee, 0, +1, at)

    def _unfollow(self, follower: int, followee: int, at: int) -> None:
        if followee in self.following[follower]:
            self.following[follower].remove(followee)
            self.followers[followee].remove(follower)
            self._count(self.users, follower, 1, -1, at)
            self._count(self.users, followee, 0, -1, at)

    def _delete_account(self, user_id: int, at: int) -> None:
        if not self._is_user(user_id):
            return
        for followee in list(self.following[user_id]):
            self._unfollow(user_id, followee, at)
        for follower in list(self.followers[user_id]):
            self._unfollow(follower, user_id, at)
        for tweet_id in self.tweets_of[user_id]:
            self._bury(tweet_id, at)
        self.users[user_id].change(at, None)

    @staticmethod
    def _count(timelines: dict[int, Timeline], key: int, counter: int, change: int, at: int) -> None:
        counters = timelines[key].latest
        if counters is not None:
            values = list(counters)
            values[counter] += change
            timelines[key].change(at, tuple(values))
