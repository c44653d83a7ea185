"""The projection again, slow and simple: dictionaries, one event at a time. The oracle for the real one."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Engine, select

from services.common import events
from services.common.events import (
    AccountDeleted,
    DeadLetterDropped,
    DeadLetterReplayed,
    Malformed,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    TweetRetweeted,
    TweetUnliked,
    TweetUnretweeted,
    UserCreated,
    UserFollowed,
    UserUnfollowed,
    UserUpdated,
)
from services.common.log.entry import Entry
from services.common.models import Applied, Public

Row = tuple[object, ...]


@dataclass
class Model:
    """The public tables as sets of rows; ``applied`` only by its position and epoch."""

    users: dict[int, tuple[str, int]] = field(default_factory=dict)
    profiles: dict[int, dict[str, str]] = field(default_factory=dict)
    tweets: dict[int, tuple[int, str, int | None, int | None, int]] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    likes: dict[tuple[int, int], int] = field(default_factory=dict)
    retweets: dict[tuple[int, int], int] = field(default_factory=dict)
    follows: dict[tuple[int, int], int] = field(default_factory=dict)
    dead: dict[int, tuple[str, bytes, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: list[Entry]) -> dict[str, set[Row]]:
        """The tables that these entries must give."""
        model = cls()
        for entry in entries:
            model._apply(entry)
        return model._tables()

    @staticmethod
    def read(engine: Engine) -> dict[str, set[Row]]:
        """The tables that a real copy holds."""
        with engine.begin() as connection:
            return {
                table.name: {tuple(row) for row in connection.execute(select(table))}
                for table in Public.metadata.sorted_tables
                if table.name != Applied.__tablename__
            }

    def _apply(self, entry: Entry) -> None:
        try:
            event = events.decode(entry.name, entry.payload)
        except Malformed as malformed:
            self.dead[entry.position] = (entry.name, entry.payload, malformed.reason)
            return
        at = entry.position
        match event:
            case DeadLetterReplayed(position=position) if position in self.dead:
                name, payload, _ = self.dead.pop(position)
                if name == UserCreated.name:
                    self.dead[position] = (name, payload, "given_back")
                else:
                    self._apply(Entry(position, -1, name, 1, payload))
            case DeadLetterDropped(position=position):
                self.dead.pop(position, None)
            case UserCreated(username=name, id=fixture):
                user_id = fixture or at
                if user_id in self.users:
                    self.dead[at] = (entry.name, entry.payload, "user_exists")
                elif name.lower() in {known.lower() for known, _ in self.users.values()}:
                    self.dead[at] = (entry.name, entry.payload, "username_taken")
                else:
                    self.users[user_id] = (name, at)
                    self.profiles[user_id] = {"display_name": "", "bio": ""}
            case UserUpdated(user_id=user) if user in self.users:
                given = {"display_name": event.display_name, "bio": event.bio}
                self.profiles[user] |= {name: text for name, text in given.items() if text is not None}
            case AccountDeleted(user_id=user) if user in self.users:
                del self.users[user]
                self.follows = {pair: since for pair, since in self.follows.items() if user not in pair}
                self.deleted |= {tweet_id for tweet_id, row in self.tweets.items() if row[0] == user}
            case TweetCreated(user_id=author, content=content, id=fixture, in_reply_to_id=parent, quote_of_id=quoted):
                if (fixture or at) in self.tweets:
                    self.dead[at] = (entry.name, entry.payload, "tweet_exists")
                elif author in self.users:
                    known = [each if each in self.tweets else None for each in (parent, quoted)]
                    self.tweets[fixture or at] = (author, content, known[0], known[1], at)
            case TweetDeleted(tweet_id=tweet, user_id=user):
                if tweet in self.tweets and self.tweets[tweet][0] == user:
                    self.deleted.add(tweet)
            case TweetLiked(tweet_id=tweet, user_id=user):
                self._react(self.likes, tweet, user, at)
            case TweetRetweeted(tweet_id=tweet, user_id=user):
                self._react(self.retweets, tweet, user, at)
            case TweetUnliked(tweet_id=tweet, user_id=user) if user in self.users:
                self.likes.pop((tweet, user), None)
            case TweetUnretweeted(tweet_id=tweet, user_id=user) if user in self.users:
                self.retweets.pop((tweet, user), None)
            case UserFollowed(follower_id=one, followee_id=other):
                if one != other and one in self.users and other in self.users:
                    self.follows.setdefault((one, other), at)
            case UserUnfollowed(follower_id=one, followee_id=other):
                self.follows.pop((one, other), None)

    def _react(self, rows: dict[tuple[int, int], int], tweet: int, user: int | None, at: int) -> None:
        if tweet in self.tweets and tweet not in self.deleted and (user is None or user in self.users):
            rows.setdefault((tweet, at if user is None else user), at)

    def _tables(self) -> dict[str, set[Row]]:
        def count(rows: dict[tuple[int, int], int], place: int, key: int) -> int:
            return sum(1 for pair in rows if pair[place] == key)

        return {
            "users": {
                (
                    user_id,
                    name,
                    name.lower(),
                    *self.profiles[user_id].values(),
                    count(self.follows, 1, user_id),
                    count(self.follows, 0, user_id),
                    at,
                )
                for user_id, (name, at) in self.users.items()
            },
            "tweets": {
                (
                    tweet_id,
                    author,
                    "" if tweet_id in self.deleted else content,
                    count(self.likes, 0, tweet_id),
                    count(self.retweets, 0, tweet_id),
                    sum(1 for other, row in self.tweets.items() if row[2] == tweet_id and other not in self.deleted),
                    parent,
                    quoted,
                    tweet_id in self.deleted,
                    at,
                )
                for tweet_id, (author, content, parent, quoted, at) in self.tweets.items()
            },
            "likes": {(*pair, at) for pair, at in self.likes.items()},
            "retweets": {(*pair, at) for pair, at in self.retweets.items()},
            "follows": {(*pair, at) for pair, at in self.follows.items()},
            "dead_letters": {(at, name, 1, payload, reason) for at, (name, payload, reason) in self.dead.items()},
        }
