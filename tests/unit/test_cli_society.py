"""The demo's simple model of what must be true."""

from __future__ import annotations

import random

from services.cli.demo.society import Society, Tweet, skewed


def _society() -> Society:
    return Society(
        usernames={user: f"user_{user}" for user in range(1, 11)},
        tweets={tweet: Tweet(author_id=1, content=f"tweet {tweet}") for tweet in range(100, 200)},
    )


def test_the_same_seed_gives_the_same_acts() -> None:
    """A demo that disagrees once can be repeated."""
    assert _society().act(random.Random(1)) == _society().act(random.Random(1))
    assert _society().act(random.Random(1)) != _society().act(random.Random(2))


def test_an_act_that_falls_twice_counts_once() -> None:
    """The model holds sets, as the system holds rows with a key."""
    society = _society()
    likes = [act for act in society.act(random.Random(1)) if act.kind == "like"]
    counted = sum(len(tweet.likers) for tweet in society.tweets.values())
    assert len(likes) == 200
    assert counted == len({(act.user_id, act.tweet_id) for act in likes}) < len(likes)


def test_a_few_tweets_are_popular() -> None:
    """As in life; the cache of a reader lives on it."""
    chance = random.Random(1)
    chosen = [skewed(chance, 100) for _ in range(1_000)]
    assert 0 <= min(chosen) <= max(chosen) < 100
    assert sum(index < 10 for index in chosen) > 400
