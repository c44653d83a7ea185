"""Every read: from the cache, else from the rows, else, for an id they have not reached, from Redis.

Between the cache and rows that are shared there is one cache more, which is shared too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import msgspec

from services.common import views
from services.common.cache import Doorkeeper, Flights
from services.common.errors import ClientError
from services.common.ids import BEGINNING
from services.common.views import Answer, Existing, HomePage, Page, Reader, TweetView, UserView, Window
from services.common.web import problem_response
from services.read.encoded import Encoded
from services.read.fresh_lookups import FreshLookups
from services.read.generations import ANY_USERNAME, APPEARANCES_OF, TWEET, TWEETS_OF, USER, Name
from services.read.metrics import ReadMetrics
from services.read.paging import link_header
from services.read.shared_cache import SharedCache
from services.read.store import Loaded, Store

T = TypeVar("T")
HomeAnswer = Answer[HomePage | None]

FOLLOWED_NOW_MAX: Final = 1_000
"""Who follows no more has her home timeline made at once: in less than a millisecond, or in 5 where nobody she follows
has written for long. A thread would hold the interpreter's lock as long, and take twice the time."""

_encode: Final = msgspec.json.Encoder().encode


def _not_found(code: str, detail: str) -> Encoded:
    return Encoded(404, bytes(problem_response(404, code, detail).body))


TWEET_NOT_FOUND: Final = _not_found("tweet_not_found", "Tweet not found")
USER_NOT_FOUND: Final = _not_found("user_not_found", "User not found")
NOTHING_YET: Final = Encoded(200, b"[]")


class Lookups:
    """For the thread of the event loop. ``shared_cache`` is for rows that are not this process's own."""

    def __init__(
        self,
        store: Store,
        fresh: FreshLookups,
        metrics: ReadMetrics,
        *,
        min_position_wait_seconds: float,
        shared_cache: SharedCache | None = None,
    ) -> None:
        self._store = store
        self._fresh = fresh
        self._metrics = metrics
        self._min_position_wait_seconds = min_position_wait_seconds
        self._shared_cache = shared_cache
        self._flights = Flights()
        self._doorkeeper = Doorkeeper()

    @property
    def applied_position(self) -> int:
        """Everything up to here is in what is looked up from now on."""
        return self._store.applied.value

    async def reach(self, min_position: int) -> None:
        """Wait until a position is applied. Raises PositionNotReached, or a 400 for one that nobody can have seen."""
        applied = self._store.applied
        if min_position <= applied.value:
            return
        if applied.lies_ahead(min_position):
            raise ClientError(400, "position_in_future", "This position lies in the future")
        with self._metrics.min_position_wait.time():
            await applied.reach(min_position, self._min_position_wait_seconds)

    async def settle(self, read_position: int) -> None:
        """Wait until what was read from a replica counts as applied, too, which it does a moment after its commit.

        Told before, it would be newer than what the next answer, from a cache, is made from. Raises PositionNotReached.
        """
        if self._store.backing.is_own:
            await self._store.applied.reach(read_position, self._min_position_wait_seconds)

    async def tweet(self, tweet_id: int) -> Encoded:
        """The tweet with this id."""
        key = (TWEET, tweet_id)
        if (cached := self._store.cache.get(key)) is not None:
            return cached
        return await self._load(key, lambda: self._read_tweet(key))

    def tweet_now(self, tweet_id: int) -> Encoded | None:
        """The tweet with this id, or that there is none, if this process knows without asking anybody."""
        key = (TWEET, tweet_id)
        if (cached := self._store.cache.find(key)) is not None:
            return cached
        answer = self._store.backing.look_up_now(lambda reader: views.tweet(reader, tweet_id))
        return None if answer is None else self._keep_now(key, _loaded_tweet(key, answer))

    async def _read_tweet(self, key: Name) -> Loaded:
        _, tweet_id = key
        answer = await self._store.backing.look_up(lambda reader: views.tweet(reader, tweet_id))
        if (loaded := _loaded_tweet(key, answer)) is not None:
            return loaded
        fresh = await self._share_fresh(key, lambda: self._fresh.tweet(tweet_id))
        return Loaded(TWEET_NOT_FOUND if fresh is None else _ok(fresh), None)

    async def user(self, user_id: int) -> Encoded:
        """The user with this id."""
        key = (USER, user_id)
        if (cached := self._store.cache.get(key)) is not None:
            return cached
        return await self._load(key, lambda: self._read_user(key))

    async def _read_user(self, key: Name) -> Loaded:
        _, user_id = key
        read_position, found = await self._store.backing.look_up(lambda reader: views.profile(reader, user_id))
        if found is not None:
            return Loaded(_ok(found, read_position), [key])
        if user_id <= read_position:
            return Loaded(replace(USER_NOT_FOUND, read_position=read_position), [key])
        fresh = await self._share_fresh(key, lambda: self._fresh.user(user_id))
        return Loaded(USER_NOT_FOUND if fresh is None else _ok(views.profile_of(fresh)), None)

    async def user_by_username(self, username: str) -> Encoded:
        """The user with this name, as of the applied position: a name says nothing of when it was taken."""
        key = ("username", username.lower())
        if (cached := self._store.cache.get(key)) is not None:
            return cached
        return await self._load(key, lambda: self._read_user_by_username(username))

    async def _read_user_by_username(self, username: str) -> Loaded:
        read_position, found = await self._store.backing.look_up(
            lambda reader: views.profile_by_username(reader, username)
        )
        if found is not None:
            return Loaded(_ok(found, read_position), [(USER, found.id)])
        return Loaded(replace(USER_NOT_FOUND, read_position=read_position), [ANY_USERNAME])

    async def existing(self, tweet_ids: Sequence[int], user_ids: Sequence[int]) -> Existing:
        """Which of these tweets and users there are, by the rows alone: what is newer is not among them."""
        answer = await self._store.backing.look_up(lambda reader: views.existing(reader, tweet_ids, user_ids))
        return answer.value

    async def tweets_by_author(self, user_id: int, window: Window, offset: int) -> Encoded:
        """A page of a user's tweets."""
        return await self._list(
            f"/users/{user_id}/tweets",
            (USER, user_id),
            window,
            lambda reader: views.tweets_by_author(reader, user_id, window, offset),
            lambda _: [(TWEETS_OF, user_id)],
            offset=offset,
        )

    def tweets_by_author_now(self, user_id: int, window: Window, offset: int) -> Encoded | None:
        """A page of a user's tweets, if this process knows it without asking anybody."""
        path = f"/users/{user_id}/tweets"
        key = (path, window, offset)
        if (cached := self._store.cache.find(key)) is not None:
            return cached
        answer = self._store.backing.look_up_now(lambda reader: views.tweets_by_author(reader, user_id, window, offset))
        if answer is None or answer.value is None:
            return None
        encoded = _page(path, answer.value, window, answer.read_position)
        return self._keep_now(key, Loaded(encoded, [(USER, user_id), (TWEETS_OF, user_id)]))

    async def replies(self, tweet_id: int, window: Window) -> Encoded:
        """A page of the replies to a tweet, whose counter changes whenever there is one more or less."""
        return await self._list(
            f"/tweets/{tweet_id}/replies",
            (TWEET, tweet_id),
            window,
            lambda reader: views.replies(reader, tweet_id, window),
            _tweets,
        )

    async def likers(self, tweet_id: int, window: Window) -> Encoded:
        """A page of who liked a tweet."""
        path, subject = f"/tweets/{tweet_id}/likes", (TWEET, tweet_id)
        return await self._list(path, subject, window, lambda reader: views.likers(reader, tweet_id, window), _users)

    async def retweeters(self, tweet_id: int, window: Window) -> Encoded:
        """A page of who retweeted a tweet."""
        path, subject = f"/tweets/{tweet_id}/retweets", (TWEET, tweet_id)
        return await self._list(
            path, subject, window, lambda reader: views.retweeters(reader, tweet_id, window), _users
        )

    async def followers(self, user_id: int, window: Window) -> Encoded:
        """A page of who follows a user."""
        path, subject = f"/users/{user_id}/followers", (USER, user_id)
        return await self._list(path, subject, window, lambda reader: views.followers(reader, user_id, window), _users)

    async def following(self, user_id: int, window: Window) -> Encoded:
        """A page of whom a user follows."""
        path, subject = f"/users/{user_id}/following", (USER, user_id)
        return await self._list(path, subject, window, lambda reader: views.following(reader, user_id, window), _users)

    async def home(self, user_id: int, window: Window) -> Encoded:
        """A page of a user's home timeline, which may take long to make."""
        path = f"/users/{user_id}/home"
        key = (path, window)
        if (cached := self._store.cache.get(key)) is not None:
            return cached
        applied_position = self._store.applied.value
        is_kept = self._shared_cache is not None or self._doorkeeper.has_seen(key)

        def load() -> Awaitable[HomeAnswer]:
            return self._store.backing.run(lambda reader: views.home(reader, user_id, window, with_authors=is_kept))

        def is_new_enough(answer: HomeAnswer) -> bool:
            return answer.read_position >= applied_position

        async def read() -> Loaded:
            answer = await self._flights.share(key, load, is_good_enough=is_new_enough)
            if answer.value is None:
                return Loaded(await self._list_of_nothing((USER, user_id)), None)
            return _loaded_home(path, user_id, answer.value, window, answer.read_position)

        return await self._load(key, read)

    def home_now(self, user_id: int, window: Window) -> Encoded | None:
        """A page of a user's home timeline, if this process knows it without asking anybody, or makes it soon."""
        path = f"/users/{user_id}/home"
        key = (path, window)
        if (cached := self._store.cache.find(key)) is not None:
            return cached

        def view(reader: Reader) -> HomeAnswer:
            read_position, me = views.user(reader, user_id)
            if me is None or me.following_count > FOLLOWED_NOW_MAX:
                return Answer(read_position, None)
            return views.home(reader, user_id, window, with_authors=self._doorkeeper.has_seen(key))

        answer = self._store.backing.look_up_now(view)
        if answer is None or answer.value is None:
            return None
        self._store.cache.misses += 1
        loaded = _loaded_home(path, user_id, answer.value, window, answer.read_position)
        self._store.keep(key, loaded)
        return loaded.encoded

    async def _list(
        self,
        path: str,
        subject: Name,
        window: Window,
        view: Callable[[Reader], Answer[Page[T] | None]],
        also_made_from: Callable[[Page[T]], list[Name]],
        *,
        offset: int = 0,
    ) -> Encoded:
        key = (path, window, offset)
        if (cached := self._store.cache.get(key)) is not None:
            return cached

        async def read() -> Loaded:
            read_position, page = await self._store.backing.look_up(view)
            if page is None:
                return Loaded(await self._list_of_nothing(subject), None)
            return Loaded(_page(path, page, window, read_position), [subject, *also_made_from(page)])

        return await self._load(key, read)

    async def _list_of_nothing(self, subject: Name) -> Encoded:
        """The answer for a list of what the rows do not have: it may be too new to have anything in it."""
        kind, subject_id = subject
        found = await (self.tweet(subject_id) if kind == TWEET else self.user(subject_id))
        return found if found.status == 404 else NOTHING_YET

    def _keep_now(self, key: Hashable, loaded: Loaded | None) -> Encoded | None:
        """An answer read at once, kept from the second time on: to keep it takes as long as to read it again."""
        if loaded is None:
            return None
        self._store.cache.misses += 1
        if self._doorkeeper.has_seen(key):
            self._store.keep(key, loaded)
        return loaded.encoded

    async def _share_fresh(self, key: Name, load: Callable[[], Awaitable[T | None]]) -> T | None:
        if self._store.applied.lies_ahead(key[1]):
            return None
        # A look that began before this request knows nothing of what was created or deleted since, and may embed an
        # author as of a position before.
        return await self._flights.share(key, load, is_good_enough=lambda _: False)

    async def _load(self, key: Hashable, read: Callable[[], Awaitable[Loaded]]) -> Encoded:
        """What the cache does not have, from the rows."""
        shared_cache = self._shared_cache
        if shared_cache is None:
            loaded = await read()
            self._store.keep(key, loaded)
            return loaded.encoded
        applied_position = self._store.applied.value
        return await self._flights.share(
            ("load", key),
            lambda: self._load_shared(shared_cache, key, read),
            is_good_enough=lambda encoded: encoded.read_position >= applied_position,
        )

    async def _load_shared(
        self, shared_cache: SharedCache, key: Hashable, read: Callable[[], Awaitable[Loaded]]
    ) -> Encoded:
        """From the cache that is shared, if what is there is good, else from the rows."""
        found = await shared_cache.get(key)
        if found is not None and self._store.keep(key, found):
            return found.encoded
        loaded = await read()
        self._store.keep(key, loaded)
        await shared_cache.put(key, loaded)
        return loaded.encoded


def _loaded_tweet(key: Name, answer: Answer[TweetView | None]) -> Loaded | None:
    """What the rows say of a tweet, None if it is too new for them."""
    read_position, found = answer
    if found is not None:
        return Loaded(_ok(found, read_position), [key, (USER, found.user_id)])
    if key[1] <= read_position:
        return Loaded(replace(TWEET_NOT_FOUND, read_position=read_position), [key])
    return None


def _ok(found: TweetView | UserView, read_position: int = BEGINNING) -> Encoded:
    return Encoded(200, _encode(found), read_position=read_position)


def _page(path: str, page: Page[Any], window: Window, read_position: int) -> Encoded:
    return Encoded(200, _encode(page.items), link_header(path, page, window), read_position)


def _loaded_home(path: str, user_id: int, page: HomePage, window: Window, read_position: int) -> Loaded:
    """A page, and what it was made from where it is to be kept.

    Any tweet or retweet of those it is made of may have a place on it, or take one away from another. By whom that is,
    and whom of them she follows, changes with herself.
    """
    encoded = _page(path, page, window, read_position)
    if page.authors is None:
        return Loaded(encoded, None)
    retweeters = [(USER, item.retweeted_by.id) for item in page.made_from if item.retweeted_by is not None]
    appearances = [(APPEARANCES_OF, author_id) for author_id in page.authors]
    return Loaded(encoded, [(USER, user_id), *_tweets(page), *retweeters, *appearances])


def _tweets(page: Page[Any]) -> list[Name]:
    return [name for listed in page.made_from for name in ((TWEET, listed.id), (USER, listed.user_id))]


def _users(page: Page[UserView]) -> list[Name]:
    return [(USER, listed.id) for listed in page.made_from]
