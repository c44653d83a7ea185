"""The data that scenarios run on: a society of a given size, as the owner of its log would hold it.

Entries are made here, and then go the way of all entries: the owner's own code applies them to its database and puts
them into its archive. A real db-updater is then started on a copy of that volume with an empty Redis, and starts a new
epoch of the log there (docs/durability.md). The same size gives the same rows, and what was made is kept.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from services.common import events
from services.common.events import Event, TweetCreated, TweetLiked, UserCreated, UserFollowed
from services.common.ids import BEGINNING, position_at
from services.common.log.client import StoredCredential
from services.common.log.entry import Entry
from services.db_updater.volume import Volume
from tests.support.process import REPOSITORY

KEPT: Final = Path(__file__).parent / ".data"
DATABASE: Final = "twitter.db"
ARCHIVE: Final = "archive"

STEP: Final = 400
"""Positions from one entry to the next: about ten entries a millisecond."""
_FIRST: Final = position_at(1_767_225_600_000)  # 2026-01-01
_ENTRIES_PER_BATCH: Final = 10_000
_TEXT: Final = (
    "the log keeps what was said and nobody reads it twice morning coffee rain on the window a train that was late "
    "again who else saw the game last night my cat has opinions ship it on friday they said what could go wrong"
)
_WORDS: Final = _TEXT.split()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Society:
    """How many of what, and with which ids: users first, then follows, tweets and likes.

    A fifth of the tweets is by the first hundredth of the users, the rest by anybody; every tenth tweet is liked once.
    The first ``home_readers`` users follow ``followed`` others each, half of them of that hundredth.
    """

    tweets: int
    users: int
    home_readers: int = 50
    followed: int = 1000

    def user_id(self, number: int) -> int:
        """The id of the user with this number, from 0."""
        return _FIRST + STEP * number

    def tweet_id(self, number: int) -> int:
        """The id of the tweet with this number, from 0."""
        return _FIRST + STEP * (self.users + self.follows + number)

    @property
    def follows(self) -> int:
        """How many follow somebody."""
        return self.home_readers * self.followed

    def followings(self, chance: random.Random) -> Iterator[tuple[int, int]]:
        """Who follows whom, by number."""
        active = range(self.home_readers, self.users // 100)
        others = range(max(self.home_readers, self.users // 100), self.users)
        for reader in range(self.home_readers):
            some = chance.sample(active, min(len(active), self.followed // 2))
            for other in some + chance.sample(others, self.followed - len(some)):
                yield reader, other

    def history(self) -> Iterator[Event]:
        """The events, in order."""
        chance = random.Random(self.tweets)
        yield from (UserCreated(username(number)) for number in range(self.users))
        for follower, followee in self.followings(chance):
            yield UserFollowed(self.user_id(follower), self.user_id(followee))
        for _ in range(self.tweets):
            yield TweetCreated(self.user_id(self._author(chance)), sentence(chance))
        for number in range(0, self.tweets, 10):
            yield TweetLiked(self.tweet_id(number), self.user_id(chance.randrange(self.users)))

    def _author(self, chance: random.Random) -> int:
        return chance.randrange(max(1, self.users // 100) if chance.random() < 0.2 else self.users)


def username(number: int) -> str:
    """The name of the user with this number."""
    return f"user_{number}"


def sentence(chance: random.Random) -> str:
    """The text of a tweet: about 80 characters, no two alike."""
    return f"{' '.join(chance.choices(_WORDS, k=chance.randrange(6, 24)))} {chance.randrange(10**6)}"


def volume_of(society: Society, target: Path) -> None:
    """Copy the owner's volume that holds this society to ``target``, after making it where nobody has before."""
    kept = KEPT / f"{society.tweets}-{society.users}-{_fingerprint(society)}"
    if not kept.exists():
        KEPT.mkdir(exist_ok=True)
        unfinished = kept.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _make(society, unfinished)
        unfinished.rename(kept)
    shutil.copytree(kept, target)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of ``size``, the last perhaps shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def entries_of(history: Iterable[Event], after_position: int = BEGINNING) -> Iterator[Entry]:
    """The events as the log would have them, from the first position on."""
    prev, position = after_position, max(_FIRST, after_position + STEP)
    for event in history:
        yield Entry(position, prev, event.name, event.version, events.encode(event))
        prev, position = position, position + STEP


def _make(society: Society, directory: Path) -> None:
    with closing(Volume(directory / DATABASE, directory, directory / ARCHIVE)) as volume:
        for entries in chunks(entries_of(society.history()), _ENTRIES_PER_BATCH):
            volume.apply(entries, before_commit=lambda: None)
            volume.archive.append(entries)
        for numbers in chunks(range(society.users), _ENTRIES_PER_BATCH):
            volume.private.save({society.user_id(number): _credential(society, number) for number in numbers})


def _credential(society: Society, number: int) -> StoredCredential:
    email = f"{username(number)}@example.org"
    return StoredCredential(
        username(number), email, hashlib.sha256(email.encode()).hexdigest(), None, position=society.user_id(number)
    )


def _fingerprint(society: Society) -> str:
    """Changes when other rows could come of it: with the society, this module, the events, the tables or handlers."""
    common = REPOSITORY / "services" / "common"
    made_by = [
        Path(__file__),
        common / "events.py",
        common / "models.py",
        *sorted((common / "projection").glob("*.py")),
    ]
    digest = hashlib.sha256(repr(society).encode())
    for path in made_by:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
