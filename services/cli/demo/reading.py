"""Reads everything the demo wrote back through the read service, and says where it is not what it must be."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from services.cli.demo.society import Society, skewed
from services.cli.importing.api import Api
from services.cli.importing.lanes import Lanes

CONCURRENCY: Final = 16
HOME_LIMIT: Final = 20
POPULAR_READS_PER_TWEET: Final = 3

Check = Callable[[], str | None]
"""Reads one thing; None if it is right, else what is wrong."""


class Reader:
    """Every check of a society against the read service."""

    def __init__(self, api: Api, society: Society) -> None:
        self._api = api
        self._society = society

    def checks(self) -> list[Check]:
        """One for each user, each home timeline and each tweet."""
        return [
            *(self._checker(self.check_user, user_id) for user_id in self._society.usernames),
            *(self._checker(self.check_home, user_id) for user_id in self._society.usernames),
            *(self._checker(self.check_tweet, tweet_id) for tweet_id in self._society.tweets),
        ]

    def popular(self, chance: random.Random) -> list[Check]:
        """The same tweets again, as people read: a few of them most of the time."""
        tweet_ids = list(self._society.tweets)
        count = len(tweet_ids) * POPULAR_READS_PER_TWEET
        return [self._checker(self.check_tweet, tweet_ids[skewed(chance, len(tweet_ids))]) for _ in range(count)]

    def check_user(self, user_id: int) -> str | None:
        """Name and both counts."""
        user = self._get(f"/users/{user_id}")
        expected = (
            self._society.usernames[user_id],
            len(self._society.followers[user_id]),
            len(self._society.following[user_id]),
        )
        found = (user["username"].lower(), user["followers_count"], user["following_count"])
        return None if found == expected else f"user {user_id} is {found}, must be {expected}"

    def check_tweet(self, tweet_id: int) -> str | None:
        """Author, text and both counters."""
        tweet, model = self._get(f"/tweets/{tweet_id}"), self._society.tweets[tweet_id]
        expected = (model.author_id, model.content, len(model.likers), len(model.retweeters))
        found = (tweet["user_id"], tweet["content"], tweet["likes"], tweet["retweets"])
        return None if found == expected else f"tweet {tweet_id} is {found}, must be {expected}"

    def check_home(self, user_id: int) -> str | None:
        """Each tweet once, and each by somebody whom the user follows, or retweeted by such a one."""
        seen = self._society.following[user_id] | {user_id}
        tweet_ids = [tweet["id"] for tweet in self._get(f"/users/{user_id}/home?limit={HOME_LIMIT}")]
        if len(set(tweet_ids)) < len(tweet_ids):
            return f"home of {user_id} shows a tweet twice: {tweet_ids}"
        for tweet_id in tweet_ids:
            tweet = self._society.tweets.get(tweet_id)
            if tweet is not None and tweet.author_id not in seen and not tweet.retweeters & seen:
                return f"home of {user_id} shows {tweet_id}, which nobody there wrote or retweeted"
        return None

    def _get(self, path: str) -> Any:
        return self._api.read(path).body

    @staticmethod
    def _checker(check: Callable[[int], str | None], checked_id: int) -> Check:
        return lambda: check(checked_id)


def run_checks(checks: list[Check], stopping: threading.Event, on_done: Callable[[], None]) -> list[str]:
    """Run them a few at a time; what is wrong, in the order in which it was found."""
    wrong: list[str] = []

    def run(check: Check) -> None:
        problem = check()
        if problem is not None:
            wrong.append(problem)
        on_done()

    with Lanes(CONCURRENCY, run, stopping) as lanes:
        for lane, check in _numbered(checks):
            lanes.put(lane, check)
    return wrong


def _numbered(checks: list[Check]) -> Iterator[tuple[int, Check]]:
    return iter(enumerate(checks))
