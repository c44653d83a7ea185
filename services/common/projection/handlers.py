"""One handler an event: what it makes of the rows, and what it decides that the log could not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from services.common.events import (
    EpochStarted,
    Event,
    Malformed,
    TokensRevoked,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    TweetRetweeted,
    TweetUnliked,
    TweetUnretweeted,
    UserCreated,
    UserFollowed,
    UserReinstated,
    UserSuspended,
    UserUnfollowed,
    UserUpdated,
)
from services.common.projection.rows import Pair, PairRows, Rows, TweetRow, UserRow, Wanted

Reaction = TweetLiked | TweetUnliked | TweetRetweeted | TweetUnretweeted


class Ignored(Exception):
    """A valid event without effect: a second like, a tweet of nobody. Every copy ignores it alike."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DeadLettered(Exception):
    """An event that contradicts the rows in a way that append.lua rules out: kept aside with its reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _refuse(_rows: Rows, malformed: Malformed, _position: int) -> None:
    raise DeadLettered(malformed.reason)


def _start_epoch(_rows: Rows, _event: EpochStarted, _position: int) -> None:
    """The new epoch is recorded with the applied position."""


def _create_user(rows: Rows, event: UserCreated, position: int) -> None:
    user_id, name = event.id or position, event.username.lower()
    if user_id in rows.users.by_id:
        raise DeadLettered("user_exists")
    if name in rows.names:
        raise DeadLettered("username_taken")
    rows.names.add(name)
    rows.users.add(UserRow(user_id, username=event.username, username_lower=name, position=position))


def _update_user(rows: Rows, event: UserUpdated, _position: int) -> None:
    _require_user(rows, event.user_id)
    given = {"display_name": event.display_name, "bio": event.bio}
    rows.users.change(event.user_id, {name: text for name, text in given.items() if text is not None})


def _touch_nothing(_rows: Rows, _event: TokensRevoked | UserSuspended | UserReinstated, _position: int) -> None:
    """Who may act is decided by what Redis keeps beside the log (ADR 8, ADR 16); no row says anything about it."""


def _create_tweet(rows: Rows, event: TweetCreated, position: int) -> None:
    tweet_id = event.id or position
    if tweet_id in rows.tweets.by_id:
        raise DeadLettered("tweet_exists")
    _require_user(rows, event.user_id)
    in_reply_to_id = _known_tweet(rows, event.in_reply_to_id)
    if in_reply_to_id is not None:
        rows.tweets.count(in_reply_to_id, "reply_count", +1)
    rows.tweets.add(
        TweetRow(
            tweet_id,
            event.user_id,
            in_reply_to_id=in_reply_to_id,
            content=event.content,
            quote_of_id=_known_tweet(rows, event.quote_of_id),
            position=position,
        )
    )


def _known_tweet(rows: Rows, tweet_id: int | None) -> int | None:
    """The tweet that a new one refers to, also a deleted one; None for what never was: the new tweet stands alone."""
    return tweet_id if tweet_id in rows.tweets.by_id else None


def _delete_tweet(rows: Rows, event: TweetDeleted, _position: int) -> None:
    tweet = _require_tweet(rows, event.tweet_id)
    if tweet.user_id != event.user_id:
        raise Ignored("not_the_author")
    rows.bury_tweet(event.tweet_id)
    if tweet.in_reply_to_id is not None:
        rows.tweets.count(tweet.in_reply_to_id, "reply_count", -1)


def _like(rows: Rows, event: TweetLiked, position: int) -> None:
    _react(rows, event, position, rows.likes, "likes")


def _retweet(rows: Rows, event: TweetRetweeted, position: int) -> None:
    _react(rows, event, position, rows.retweets, "retweets")


def _react(rows: Rows, event: TweetLiked | TweetRetweeted, position: int, pairs: PairRows, counter: str) -> None:
    _require_tweet(rows, event.tweet_id)
    if event.user_id is not None:
        _require_user(rows, event.user_id)
    key = _reaction_key(event, position)
    if key in pairs.positions:
        raise Ignored("repeated")
    pairs.positions[key] = position
    rows.tweets.count(event.tweet_id, counter, +1)


def _unlike(rows: Rows, event: TweetUnliked, _position: int) -> None:
    _take_back(rows, event, rows.likes, "likes")


def _unretweet(rows: Rows, event: TweetUnretweeted, _position: int) -> None:
    _take_back(rows, event, rows.retweets, "retweets")


def _take_back(rows: Rows, event: TweetUnliked | TweetUnretweeted, pairs: PairRows, counter: str) -> None:
    """Only as a user: else whoever names the position of an anonymous reaction would take that back."""
    _require_user(rows, event.user_id)
    if pairs.positions.pop((event.tweet_id, event.user_id), None) is None:
        raise Ignored("nothing_to_undo")
    rows.tweets.count(event.tweet_id, counter, -1)


def _follow(rows: Rows, event: UserFollowed, position: int) -> None:
    key = (event.follower_id, event.followee_id)
    if event.follower_id == event.followee_id:
        raise Ignored("follows_self")
    _require_user(rows, event.follower_id)
    _require_user(rows, event.followee_id)
    if key in rows.follows.positions:
        raise Ignored("repeated")
    rows.follows.positions[key] = position
    _count_follow(rows, key, +1)


def _unfollow(rows: Rows, event: UserUnfollowed, _position: int) -> None:
    key = (event.follower_id, event.followee_id)
    if rows.follows.positions.pop(key, None) is None:
        raise Ignored("not_following")
    _count_follow(rows, key, -1)


def _count_follow(rows: Rows, key: tuple[int, int], change: int) -> None:
    follower_id, followee_id = key
    rows.users.count(follower_id, "following_count", change)
    rows.users.count(followee_id, "followers_count", change)


def _require_user(rows: Rows, user_id: int) -> None:
    if user_id not in rows.users.by_id:
        raise Ignored("no_such_user")


def _require_tweet(rows: Rows, tweet_id: int) -> TweetRow:
    tweet = rows.tweets.by_id.get(tweet_id)
    if tweet is None or tweet.deleted:
        raise Ignored("no_such_tweet")
    return tweet


def _reaction_key(event: Reaction, position: int) -> tuple[int, int]:
    """An anonymous reaction is keyed by its own position, so that it counts each time."""
    return (event.tweet_id, event.user_id if event.user_id is not None else position)


def _want_user(wanted: Wanted, event: UserCreated, _position: int) -> None:
    if event.id is not None:
        wanted.users.add(event.id)
    wanted.names.add(event.username.lower())


def _want_updated(wanted: Wanted, event: UserUpdated, _position: int) -> None:
    wanted.users.add(event.user_id)


def _want_tweet(wanted: Wanted, event: TweetCreated, _position: int) -> None:
    for tweet_id in (event.id, event.in_reply_to_id, event.quote_of_id):
        if tweet_id is not None:
            wanted.tweets.add(tweet_id)
    wanted.users.add(event.user_id)


def _want_deleted(wanted: Wanted, event: TweetDeleted, _position: int) -> None:
    wanted.tweets.add(event.tweet_id)
    wanted.parents_of.add(event.tweet_id)


def _want_like(wanted: Wanted, event: TweetLiked | TweetUnliked, _position: int) -> None:
    _want_reaction(wanted, event, wanted.likes)


def _want_retweet(wanted: Wanted, event: TweetRetweeted | TweetUnretweeted, _position: int) -> None:
    _want_reaction(wanted, event, wanted.retweets)


def _want_reaction(wanted: Wanted, event: Reaction, pairs: set[Pair]) -> None:
    wanted.tweets.add(event.tweet_id)
    if event.user_id is not None:
        wanted.users.add(event.user_id)
        pairs.add((event.tweet_id, event.user_id))


def _want_follow(wanted: Wanted, event: UserFollowed | UserUnfollowed, _position: int) -> None:
    wanted.users.update((event.follower_id, event.followee_id))
    wanted.follows.add((event.follower_id, event.followee_id))


def _want_nothing(_wanted: Wanted, _event: Event | Malformed, _position: int) -> None:
    """These touch no row."""


WANTS: Final[dict[str, Callable[[Wanted, Any, int], None]]] = {
    Malformed.name: _want_nothing,
    EpochStarted.name: _want_nothing,
    UserCreated.name: _want_user,
    TweetCreated.name: _want_tweet,
    TweetDeleted.name: _want_deleted,
    TweetLiked.name: _want_like,
    TweetUnliked.name: _want_like,
    TweetRetweeted.name: _want_retweet,
    TweetUnretweeted.name: _want_retweet,
    UserFollowed.name: _want_follow,
    UserUnfollowed.name: _want_follow,
    UserUpdated.name: _want_updated,
    TokensRevoked.name: _want_nothing,
    UserSuspended.name: _want_nothing,
    UserReinstated.name: _want_nothing,
}
"""Which rows an event may read or change, by type."""

HANDLERS: Final[dict[str, Callable[[Rows, Any, int], None]]] = {
    Malformed.name: _refuse,
    EpochStarted.name: _start_epoch,
    UserCreated.name: _create_user,
    TweetCreated.name: _create_tweet,
    TweetDeleted.name: _delete_tweet,
    TweetLiked.name: _like,
    TweetUnliked.name: _unlike,
    TweetRetweeted.name: _retweet,
    TweetUnretweeted.name: _unretweet,
    UserFollowed.name: _follow,
    UserUnfollowed.name: _unfollow,
    UserUpdated.name: _update_user,
    TokensRevoked.name: _touch_nothing,
    UserSuspended.name: _touch_nothing,
    UserReinstated.name: _touch_nothing,
}
"""What an event does to the rows, by type."""
