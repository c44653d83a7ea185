"""What responses are made from, as the cache knows it, and what of it a batch changes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from services.common.projection import Touched

TWEET: Final = 1
USER: Final = 2
TWEETS_OF: Final = 3

APPEARANCES_OF: Final = 4
"""Which tweets and retweets of an author there are, of which home timelines are made: no like changes that."""

Name = tuple[int, int]

ANY_USERNAME: Final[Name] = (5, 0)
"""Whether a name is still free: raised by every new account, as a batch does not say by which name."""


class Changes(NamedTuple):
    """What is out of date in what was read below a position: ``names``, or for None everything."""

    position: int
    names: Collection[Name] | None


def changed_by(touched: Touched) -> Iterator[Name]:
    """The generations that a batch raises."""
    for tweet_id in touched.tweets:
        yield TWEET, tweet_id
    for user_id in touched.users:
        yield USER, user_id
    for author_id in touched.authors:
        yield TWEETS_OF, author_id
    for author_id in touched.appearing:
        yield APPEARANCES_OF, author_id
    if touched.users_created:
        yield ANY_USERNAME
