"""What must be true after the demo: who follows whom, who wrote, liked and retweeted what. No I/O."""

from __future__ import annotations

import random
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from services.cli.importing.journal import Journal
from services.cli.importing.rows import FollowRow, SourceRow, TweetRow

LIKES_PER_TWEET: Final = 2.0
RETWEETS_PER_TWEET: Final = 0.5
# The share of all choices that falls on the first tenth of the tweets grows with it: 0.1 ** (1 / 3) = 46 %.
POPULARITY_EXPONENT: Final = 3


class Act(NamedTuple):
    """A like or a retweet."""

    kind: Literal["like", "retweet"]
    user_id: int
    tweet_id: int


@dataclass(frozen=True, slots=True)
class Tweet:
    """A tweet as it was imported, and who must have liked and retweeted it."""

    author_id: int
    content: str
    likers: set[int] = field(default_factory=set)
    retweeters: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Society:
    """A simple model of everything the demo writes, by id."""

    usernames: dict[int, str] = field(default_factory=dict)
    followers: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    following: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    tweets: dict[int, Tweet] = field(default_factory=dict)

    @classmethod
    def imported(cls, rows: Iterable[SourceRow], journal: Journal) -> Society:
        """What the rows that were not refused must have made."""
        society = cls(usernames={user_id: name for name, user_id in journal.user_ids.items()})
        for source in rows:
            if source.number in journal.refusals:
                continue
            row = source.row
            if isinstance(row, FollowRow):
                follower, followee = (journal.user_ids[name.lower()] for name in (row.follower, row.followee))
                society.following[follower].add(followee)
                society.followers[followee].add(follower)
            elif isinstance(row, TweetRow):
                normal = unicodedata.normalize("NFC", row.content)
                author_id = row.user_id or journal.user_ids[(row.username or "").lower()]
                society.tweets[journal.tweet_ids[source.number]] = Tweet(author_id, normal)
        return society

    def act(self, chance: random.Random) -> list[Act]:
        """Choose who likes and retweets what, the same for the same seed, and note what comes of it.

        A few tweets are popular; the same choice may fall twice, and then counts once.
        """
        tweet_ids, user_ids = list(self.tweets), list(self.usernames)
        acts = []
        for kind, count in self._act_counts():
            for _ in range(count):
                tweet_id = tweet_ids[skewed(chance, len(tweet_ids))]
                user_id = chance.choice(user_ids)
                tweet = self.tweets[tweet_id]
                (tweet.likers if kind == "like" else tweet.retweeters).add(user_id)
                acts.append(Act(kind, user_id, tweet_id))
        return acts

    def _act_counts(self) -> list[tuple[Literal["like", "retweet"], int]]:
        count = len(self.tweets)
        return [("like", round(count * LIKES_PER_TWEET)), ("retweet", round(count * RETWEETS_PER_TWEET))]


def skewed(chance: random.Random, count: int) -> int:
    """An index below ``count``, small ones far more often."""
    return int(count * chance.random() ** POPULARITY_EXPONENT)
