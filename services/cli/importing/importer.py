"""Applies rows through the API, each once, and writes down in the journal what became of it.

Users come first, then follows, then tweets, because each refers to those before it. A user is applied once because
its name is unique, a follow because following twice is following once. A tweet is the hard case: see ``_tweet``.
"""

from __future__ import annotations

import threading
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import msgspec

from services.cli.errors import UNAVAILABLE, CommandFailed
from services.cli.importing.api import Answer, Api
from services.cli.importing.journal import Journal, Refusal
from services.cli.importing.lanes import Lanes
from services.cli.importing.rows import KINDS, BadRow, FollowRow, Kind, SourceRow, TweetRow, UserRow
from services.common.errors import OutcomeUnknown

CONCURRENCY: Final = 32
ATTEMPTS_MAX: Final = 5  # to send one tweet of which nobody can say what became
PRIVATE: Final = ("email", "password")
SENT_TOGETHER_MAX: Final = 256  # tweets that one fsync of the journal announces

RowsOf = Callable[[], Iterable[SourceRow]]
"""All rows of the import, from the first, each time it is called."""


@dataclass(slots=True)
class Tally:
    """What this run did, by kind of row: ``applied`` now, ``existed`` already, ``earlier`` in a run before, refused."""

    applied: Counter[str] = field(default_factory=Counter)
    existed: Counter[str] = field(default_factory=Counter)
    earlier: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Importer:
    """One import. ``on_row`` is called for every row that is settled, from several threads."""

    def __init__(
        self,
        api: Api,
        journal: Journal,
        on_row: Callable[[Kind | None], None],
        concurrency: int = CONCURRENCY,
    ) -> None:
        self.tally = Tally()
        self._api = api
        self._journal = journal
        self._on_row = on_row
        self._concurrency = concurrency
        self._looked_up: dict[str, int | None] = {}
        self._lock = threading.Lock()
        self._in_doubt = journal.unsettled()

    def run(self, rows_of: RowsOf, seconds_since_last_run: float) -> None:
        """Apply every row that is not settled yet. Raises CommandFailed; what was done until then stays done."""
        self._api.learn_position()
        self._check_same_system()
        if self._in_doubt:
            self._api.settle(passed_seconds=seconds_since_last_run)
        self._refuse_bad(row for row in rows_of() if row.kind is None)
        for kind in KINDS:
            self._apply(kind, (row for row in rows_of() if row.kind == kind))

    def _check_same_system(self) -> None:
        """Raise CommandFailed when the journal tells of what this system does not have."""
        user_id = max(self._journal.user_ids.values(), default=0)
        if user_id and self._api.read(f"/users/{user_id}").status == 404:
            raise CommandFailed(
                f"{self._journal.path} tells of user {user_id}, whom {self._api.read_url} does not know: "
                "it is the journal of another system; give another --journal, or move it away to import anew"
            )

    def _apply(self, kind: Kind, rows: Iterator[SourceRow]) -> None:
        apply = {"user": self._user, "follow": self._follow, "tweet": self._tweet}[kind]
        due = self._not_settled(rows)
        with Lanes(self._concurrency, apply, self._api.stopping) as lanes:
            for row in self._announced(due) if kind == "tweet" else due:
                lanes.put(_lane_of(row), row)

    def _not_settled(self, rows: Iterable[SourceRow]) -> Iterator[SourceRow]:
        for row in rows:
            if row.number in self._journal.settled:
                self._count(self.tally.earlier, row)
            else:
                yield row

    def _announced(self, rows: Iterator[SourceRow]) -> Iterator[SourceRow]:
        """The same rows, each written down as sent before it is."""
        while together := list(islice(rows, SENT_TOGETHER_MAX)):
            numbers = [row.number for row in together if row.number not in self._in_doubt]
            self._journal.record_sent(numbers, self._api.position)
            yield from together

    def _refuse_bad(self, rows: Iterable[SourceRow]) -> None:
        for row in self._not_settled(rows):
            reason = row.row.reason if isinstance(row.row, BadRow) else ""
            self._refuse(row, 0, "bad_row", reason)

    def _user(self, source: SourceRow) -> None:
        row = source.row
        assert isinstance(row, UserRow)  # noqa: S101 - the phase picked it
        body = {"username": row.username, "email": row.email or f"{row.username}@example.com"}
        answer = self._api.write_repeatably("/users", body | ({"password": row.password} if row.password else {}))
        if answer.status == 201:
            self._journal.record_user(source.number, row.username, answer.body["id"])
            return self._count(self.tally.applied, source)
        known_id = self._api.user_id(row.username) if answer.code == "username_taken" else None
        if known_id is None:
            return self._refuse_as_told(source, answer)
        self._journal.record_user(source.number, row.username, known_id)
        return self._count(self.tally.existed, source)

    def _follow(self, source: SourceRow) -> None:
        row = source.row
        assert isinstance(row, FollowRow)  # noqa: S101 - the phase picked it
        follower_id, followee_id = self._id_of(row.follower), self._id_of(row.followee)
        if follower_id is None or followee_id is None:
            missing = row.follower if follower_id is None else row.followee
            return self._refuse(source, 0, "unknown_user", f"there is no user {missing!r}")
        answer = self._api.write_repeatably(f"/users/{followee_id}/follow", {"user_id": follower_id})
        if answer.status != 200:
            return self._refuse_as_told(source, answer)
        self._journal.record_done(source.number)
        return self._count(self.tally.applied, source)

    def _tweet(self, source: SourceRow) -> None:
        """Send a tweet once.

        It was written down as sent before, with a position below any it can have. When nobody knows what became
        of it, in an earlier run or in this one, its author's tweets above that position are read first: one with
        the same text that no other row explains is this row's. Its author's other rows wait in the same lane.
        """
        row = source.row
        assert isinstance(row, TweetRow)  # noqa: S101 - the phase picked it
        author_id = row.user_id if row.username is None else self._id_of(row.username)
        if author_id is None:
            return self._refuse(source, 0, "unknown_user", f"there is no user {row.username!r}")
        is_in_doubt = source.number in self._in_doubt
        for _ in range(ATTEMPTS_MAX):
            if is_in_doubt and (tweet_id := self._find(source.number, author_id, row.content)):
                break
            try:
                answer = self._api.write("/tweets", {"content": row.content, "user_id": author_id})
            except OutcomeUnknown:
                self._api.settle()
                is_in_doubt = True
                continue
            if answer.status != 201:
                return self._refuse_as_told(source, answer)
            tweet_id = answer.body["id"]
            break
        else:
            raise CommandFailed(
                f"nobody can say whether the tweet in {source.file}:{source.line} was taken: look into the log of the "
                "write service; the same command goes on here",
                UNAVAILABLE,
            )
        self._journal.record_done(source.number, tweet_id)
        return self._count(self.tally.applied, source)

    def _find(self, number: int, author_id: int, content: str) -> int | None:
        """The tweet that this row made, if it made one."""
        normal = unicodedata.normalize("NFC", content)
        candidates = self._api.tweets_after(author_id, self._journal.sent[number])
        explained = set(self._journal.tweet_ids.values())
        return next((tweet_id for tweet_id, found in candidates if found == normal and tweet_id not in explained), None)

    def _id_of(self, username: str) -> int | None:
        """The id of a user of this import, else of one that existed before."""
        name = username.lower()
        known = self._journal.user_ids.get(name)
        if known is not None:
            return known
        if name not in self._looked_up:
            self._looked_up[name] = self._api.user_id(username)
        return self._looked_up[name]

    def _refuse_as_told(self, source: SourceRow, answer: Answer) -> None:
        self._refuse(source, answer.status, answer.code, answer.detail)

    def _refuse(self, source: SourceRow, status: int, code: str, detail: Any) -> None:
        row = {name: value for name, value in _fields_of(source).items() if name not in PRIVATE}
        self._journal.record_refused(source.number, Refusal(source.file, source.line, status, code, detail, row))
        self._count(self.tally.refused, source)

    def _count(self, counter: Counter[str], source: SourceRow) -> None:
        with self._lock:
            counter[source.kind or "bad"] += 1
        self._on_row(source.kind)


def _fields_of(source: SourceRow) -> dict[str, Any]:
    return {} if isinstance(source.row, BadRow) else msgspec.structs.asdict(source.row)


def _lane_of(source: SourceRow) -> int:
    """Tweets of one author share a lane and so keep their order; other rows go anywhere."""
    row = source.row
    if isinstance(row, TweetRow):
        return zlib.crc32(str(row.user_id if row.username is None else row.username.lower()).encode())
    return source.number
