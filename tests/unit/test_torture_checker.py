"""The checker of `make torture` on small histories: the good one has no violation, each bad one its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.torture.check import judge
from tests.torture.checker import Violation, check
from tests.torture.history import (
    Copy,
    Fault,
    History,
    HistoryFile,
    Incomplete,
    LogEntry,
    Names,
    Operation,
    Record,
    Run,
    read_records,
)

ROWS = {"users": 2, "tweets": 2, "likes": 1, "retweets": 1, "follows": 1}


def write(kind: str, at: float, position: int, **more: object) -> Operation:
    """A write that was acknowledged half a second after it was sent."""
    identity = {"id": position} if kind in ("user_created", "tweet_created") else {}
    return Operation("c1", "writer#1", kind, at, at + 0.5, "ok", status=200, position=position, **identity, **more)  # type: ignore[arg-type]


def read(kind: str, at: float, position: int, seen: dict[str, Any] | None, **more: object) -> Operation:
    """A read that was answered at once."""
    more = {"target": 30, "process": "reader#1", **more}
    return Operation("c1", kind=kind, invoked=at, ended=at, outcome="ok", position=position, seen=seen, **more)  # type: ignore[arg-type]


def entry(position: int, prev: int, name: str, **event: object) -> LogEntry:
    """An entry of the log."""
    return LogEntry(position, prev, name, event)


ADA = {"id": 10, "followers": 0, "following": 1}
TWEET = {"likes": 1, "retweets": 0, "replies": 0, "content": "first", "author": ADA}
LIKE = write("tweet_liked", 4, 40, target=30, user=20, key="k1")
REPLY = write("tweet_created", 7, 70, target=30, user=20, content="reply", key="k2")
DELETION = write("tweet_deleted", 9, 80, target=70, user=20)
COPY = Copy("owner", 80, {"tweets": "h"}, ROWS, [])

GOOD: list[Record] = [
    Run(1, 10, "by hand"),
    write("user_created", 1, 10, content="Ada"),
    write("user_created", 2, 20, content="bob"),
    write("user_followed", 2.6, 25, target=20, user=10),
    write("tweet_created", 3, 30, user=10, content="first"),
    replace(LIKE, invoked=3.6, ended=3.9, outcome="unknown", status=503, code="outcome_unknown", position=0),
    LIKE,
    read("read_tweet", 5, 40, TWEET, min_position=40),
    write("tweet_retweeted", 6, 60, target=30),
    replace(REPLY, outcome="refused", status=503, code="halted", position=0, id=0),
    replace(REPLY, invoked=7.6, ended=7.9),
    read("read_list", 8, 70, {"ids": [30]}, target=10),
    read("read_list", 8, 70, {"ids": [70]}, target=20),
    DELETION,
    replace(DELETION, invoked=9.6, ended=9.9),
    read("read_tweet", 10, 80, None, target=70),
    Operation("c1", "writer#1", "tweet_liked", 10, 10.1, "unknown", target=30, user=10),
    Fault("kill", "reader-1", 4.0, 5.0),
    entry(1, 0, "epoch_started", epoch=1),
    entry(10, 1, "user_created", username="Ada"),
    entry(20, 10, "user_created", username="bob"),
    entry(25, 20, "user_followed", follower_id=10, followee_id=20),
    entry(30, 25, "tweet_created", user_id=10, content="first"),
    entry(40, 30, "tweet_liked", tweet_id=30, user_id=20),
    entry(60, 40, "tweet_retweeted", tweet_id=30),
    entry(70, 60, "tweet_created", user_id=20, content="reply", in_reply_to_id=30),
    entry(80, 70, "tweet_deleted", tweet_id=70, user_id=20),
    COPY,
    replace(COPY, holder="reader-1"),
    Names({"ada": 10, "bob": 20}),
]


def violations(records: list[Record]) -> list[Violation]:
    """What the checker says."""
    return check(History.of(records))


def without(position: int) -> Callable[[list[Record]], list[Record]]:
    """The log lacks an entry; the one after it says so of course not."""

    def change(records: list[Record]) -> list[Record]:
        kept = [one for one in records if not (isinstance(one, LogEntry) and one.position == position)]
        gone = next(one for one in records if isinstance(one, LogEntry) and one.position == position)
        return [
            replace(one, prev=gone.prev) if isinstance(one, LogEntry) and one.prev == position else one for one in kept
        ]

    return change


def with_more(*more: Record) -> Callable[[list[Record]], list[Record]]:
    """Something else has happened, too; entries lie at the end of the log."""
    return lambda records: [*records, *more]


def instead(old: Record, new: Record) -> Callable[[list[Record]], list[Record]]:
    """Something else has happened instead."""
    return lambda records: [new if one == old else one for one in records]


REFUSED = Operation("c1", "writer#1", "tweet_retweeted", 11, 11.1, "refused", target=30, user=20)

BAD: list[tuple[str, str, Callable[[list[Record]], list[Record]]]] = [
    ("an acknowledged like is in no log", "lost", without(40)),
    (
        "two likes were acknowledged at the same position",
        "lost",
        with_more(replace(LIKE, key="another")),
    ),
    (
        "one key made two entries",
        "doubled",
        with_more(entry(90, 80, "tweet_liked", tweet_id=30, user_id=20)),
    ),
    ("one key was answered with two positions", "doubled", with_more(replace(LIKE, position=60))),
    (
        "an attempt without an answer made two entries",
        "doubled",
        with_more(
            entry(90, 80, "tweet_liked", tweet_id=30, user_id=10),
            entry(91, 90, "tweet_liked", tweet_id=30, user_id=10),
        ),
    ),
    (
        "what was refused is in the log",
        "unexplained",
        with_more(REFUSED, entry(90, 80, "tweet_retweeted", tweet_id=30, user_id=20)),
    ),
    (
        "nobody asked for an entry",
        "unexplained",
        with_more(entry(90, 80, "user_unfollowed", follower_id=9, followee_id=8)),
    ),
    ("the chain is broken", "order", with_more(entry(90, 70, "epoch_started", epoch=2))),
    (
        "a later request got a smaller id",
        "order",
        instead(GOOD[3], replace(write("user_followed", 12, 25, target=20, user=10))),
    ),
    ("an id is not its position", "order", instead(GOOD[4], replace(GOOD[4], id=31))),
    ("a process went back", "backwards", with_more(read("read_user", 11, 70, ADA, target=10))),
    (
        "an answer is below the position asked for",
        "backwards",
        with_more(read("read_user", 11, 80, ADA, target=10, min_position=81)),
    ),
    (
        "a like that was acknowledged is not counted",
        "wrong_read",
        with_more(read("read_tweet", 11, 80, {**TWEET, "retweets": 1, "likes": 0})),
    ),
    ("a tweet is not found", "wrong_read", with_more(read("read_tweet", 11, 80, None))),
    (
        "a deleted tweet is shown",
        "wrong_read",
        with_more(
            read(
                "read_tweet",
                11,
                80,
                {"likes": 0, "retweets": 0, "replies": 0, "content": "reply", "author": ADA},
                target=70,
            )
        ),
    ),
    (
        "a text is another",
        "wrong_read",
        with_more(read("read_tweet", 11, 80, {**TWEET, "retweets": 1, "content": "second"})),
    ),
    (
        "a reply that is deleted is counted",
        "wrong_read",
        with_more(read("read_tweet", 11, 80, {**TWEET, "retweets": 1, "replies": 1})),
    ),
    (
        "an author has a follower too many",
        "wrong_read",
        with_more(read("read_user", 11, 80, {**ADA, "followers": 1}, target=10)),
    ),
    ("an account is not found", "wrong_read", with_more(read("read_user", 11, 80, None, target=10))),
    ("a list lacks a tweet", "wrong_read", with_more(read("read_list", 11, 80, {"ids": []}, target=10))),
    ("a list has a deleted tweet", "wrong_read", with_more(read("read_list", 11, 80, {"ids": [70]}, target=20))),
    ("a list has a stranger's tweet", "wrong_read", with_more(read("read_list", 11, 80, {"ids": [30]}, target=20))),
    ("a list is the wrong way round", "wrong_read", with_more(read("read_list", 8, 70, {"ids": [30, 70]}, target=10))),
    (
        "what was only asked for later is shown",
        "wrong_read",
        with_more(read("read_tweet", 5.5, 40, {**TWEET, "retweets": 1})),
    ),
    ("a counter does not equal its rows", "miscounted", instead(COPY, replace(COPY, miscounted=["likes of 30"]))),
    ("a row is missing in every copy", "miscounted", instead(COPY, replace(COPY, rows={**ROWS, "likes": 0}))),
    ("a reader differs", "copies_differ", instead(COPY, replace(COPY, hashes={"tweets": "another"}))),
    ("a name is held for nobody", "half_applied", with_more(Names({"ada": 10, "bob": 20, "cyd": 30}))),
    ("an account lacks its name", "half_applied", with_more(Names({"ada": 10}))),
    ("a part did not recover", "failed", with_more(Fault("kill", "owner", 1.0, 2.0, recovered=False))),
    ("the end cannot be looked at", "failed", with_more(Incomplete("the archive is damaged"))),
    ("a request met a bug", "failed", with_more(replace(REFUSED, outcome="unknown", status=500))),
    ("a key was taken for another's", "failed", with_more(replace(REFUSED, code="idempotency_mismatch"))),
]


def test_good_history_has_no_violation() -> None:
    """Attempts that are repeated, refused or in doubt, and a deletion of what is gone included."""
    assert violations(GOOD) == []


@pytest.mark.parametrize(("kind", "change"), [pytest.param(*bad[1:], id=bad[0]) for bad in BAD])
def test_bad_history_has_its_violation(kind: str, change: Callable[[list[Record]], list[Record]]) -> None:
    """Each differs in one thing from the good one; what follows from that, like a missing row, may be found too."""
    assert kind in {violation.kind for violation in violations(change(GOOD))}


def test_nobody_need_have_asked_for_what_was_there_before() -> None:
    """Ada and bob were, when this run began; what came later needs its request."""
    began = Run(1, 10, "by hand", after_position=20)
    assert violations([began, *GOOD[3:]]) == []
    assert {violation.kind for violation in violations([GOOD[0], *GOOD[3:]])} == {"unexplained"}


def test_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """All kinds of records."""
    with HistoryFile(tmp_path / "history.ndjson") as file:
        for record in [*GOOD, Incomplete("x")]:
            file.add(record)
    assert list(read_records(tmp_path / "history.ndjson")) == [*GOOD, Incomplete("x")]


def test_figures_of_a_history_are_put_into_a_page(tmp_path: Path) -> None:
    """In place of those of the run before, and the rest of the page stays."""
    history, page = tmp_path / "history.ndjson", tmp_path / "page.md"
    with HistoryFile(history) as file:
        for record in [*GOOD, Fault("kill", "owner", 1.0, 3.5)]:
            file.add(record)
    page.write_text("before\n<!-- torture -->\nold\n<!-- end -->\nafter\n")
    assert judge(history, page) == 0
    shown = page.read_text()
    assert "old" not in shown
    assert shown.startswith("before\n<!-- torture -->\n| what | figure |\n")
    assert shown.endswith("<!-- end -->\nafter\n")
    assert "| owner serves again after kill | p50 2.50 s, p99 2.50 s (1 times) |" in shown
    assert "| lost, doubled, shown wrong, or anything else broken | none |" in shown
