"""Judges a history: every promise of the system that a run can show broken. Pure functions of the records.

==================  =================================================================================================
violation           what it says
==================  =================================================================================================
``lost``            a write was acknowledged at a position, and the log does not hold it there
``doubled``         one request, or one idempotency key, made more than one entry
``unexplained``     an entry that nobody asked for, or only by requests that were answered with "nothing was written"
``order``           the log is no unbroken chain, or ids do not ascend with the time of the requests
``backwards``       a process, or a client that sent its greatest position, was shown an older state
``wrong_read``      a read showed a state that the log never had between the read's position and its end
``miscounted``      a counter does not equal its rows, or a table does not have the rows that the log makes
``copies_differ``   readers, owner and a rebuild do not hold the same
``half_applied``    Redis holds a name for nobody, or not that of an account
``failed``          a 500, a part that did not recover, or an end that could not be looked at
==================  =================================================================================================
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Final, Literal

from tests.torture.history import History, LogEntry, Operation
from tests.torture.model import FOREVER, Model

Kind = Literal[
    "lost",
    "doubled",
    "unexplained",
    "order",
    "backwards",
    "wrong_read",
    "miscounted",
    "copies_differ",
    "half_applied",
    "failed",
]

READS: Final = ("read_tweet", "read_user", "read_list")
DELETION: Final = "tweet_deleted"
LIST_LENGTH: Final = 10
"""How many tweets a ``read_list`` asks for."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, and what shows it."""

    kind: Kind
    text: str


Subject = tuple[str, int, int, str]
"""What a write is about: kind, target, user and content. Equal ones cannot be told apart in the log."""


@dataclass(slots=True)
class Request:
    """What a client wanted once: all attempts under one idempotency key, or a single one without."""

    subject: Subject
    attempts: list[Operation] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Operation]:
        """The attempts that were answered with success."""
        return [attempt for attempt in self.attempts if attempt.outcome == "ok"]

    @property
    def may_have_happened(self) -> bool:
        """Whether any attempt was not provably without effect."""
        return any(attempt.outcome != "refused" for attempt in self.attempts)


def check(history: History) -> list[Violation]:
    """All violations, those of the log itself first."""
    requests = requests_of(history.operations)
    model = Model.of(history.entries)
    checks: tuple[Callable[[], Iterator[Violation]], ...] = (
        lambda: check_end(history),
        lambda: check_chain(history.entries),
        lambda: check_requests(requests, history.own_entries, model),
        lambda: check_ids_ascend(requests, history.entries),
        lambda: check_monotonic(history.operations),
        lambda: check_reads(history.operations, requests, model),
        lambda: check_copies(history, model),
        lambda: check_names(history, model),
    )
    return [violation for each in checks for violation in each()]


def requests_of(operations: Iterable[Operation]) -> list[Request]:
    """The writes of a history, attempts under one key together."""
    keyed: dict[str, Request] = {}
    requests = []
    for operation in operations:
        if operation.kind in READS:
            continue
        request = keyed.get(operation.key) if operation.key else None
        if request is None:
            request = Request((operation.kind, operation.target, operation.user, operation.content))
            requests.append(request)
            if operation.key:
                keyed[operation.key] = request
        request.attempts.append(operation)
    return requests


def subject_of(entry: LogEntry) -> Subject:
    """What an entry is about, as the request for it would say it."""
    event = entry.event
    match entry.name:
        case "user_created":
            return entry.name, 0, 0, event["username"]
        case "tweet_created":
            return entry.name, event.get("in_reply_to_id") or 0, event["user_id"], event["content"]
        case "user_followed" | "user_unfollowed":
            return entry.name, event["followee_id"], event["follower_id"], ""
        case _:
            return entry.name, event.get("tweet_id", 0), event.get("user_id") or 0, ""


def check_chain(entries: Sequence[LogEntry]) -> Iterator[Violation]:
    """Positions ascend, and each entry names the one before it."""
    for before, entry in pairwise(entries):
        if entry.position <= before.position or entry.prev != before.position:
            yield Violation(
                "order", f"entry {entry.position} continues after {entry.prev}, it follows {before.position}"
            )


def check_requests(requests: Sequence[Request], entries: Sequence[LogEntry], model: Model) -> Iterator[Violation]:
    """Each acknowledged write has an entry of its own, and each entry a request that may have made it."""
    by_position = {entry.position: entry for entry in entries}
    pinned: dict[int, Request] = {}
    for request in requests:
        yield from _check_acknowledged(request, by_position, pinned, model)
    spare: Counter[Subject] = Counter()
    asked: Counter[Subject] = Counter()
    for request in requests:
        asked[request.subject] += 1
        if request.may_have_happened and not request.acknowledged:
            spare[request.subject] += 1
    happened = {request.subject for request in requests if request.may_have_happened}
    for entry in entries:
        if entry.position in pinned or entry.name == "epoch_started":
            continue
        subject = subject_of(entry)
        if spare[subject] > 0:
            spare[subject] -= 1
        elif subject in happened:
            yield Violation("doubled", f"{entry.position} {subject}: more entries than requests that may have made one")
        else:
            why = "all requests for it were refused" if asked[subject] else "nobody asked for it"
            yield Violation("unexplained", f"{entry.position} {subject}: {why}")


def _check_acknowledged(
    request: Request, by_position: dict[int, LogEntry], pinned: dict[int, Request], model: Model
) -> Iterator[Violation]:
    positions = sorted({attempt.position for attempt in request.acknowledged})
    if not positions:
        return
    if len(positions) > 1:
        yield Violation("doubled", f"{request.subject}: one request was answered with the positions {positions}")
    for position in positions:
        entry = by_position.get(position)
        is_there = entry is not None and subject_of(entry) == request.subject
        if is_there and position not in pinned:
            pinned[position] = request
            if request.subject[0] == "tweet_created" and position not in model.authors:
                yield Violation("lost", f"{request.subject}: acknowledged at {position}, and never shown to anybody")
        elif not _was_gone(request, position, model):
            other = pinned[position].subject if is_there else entry
            yield Violation("lost", f"{request.subject}: acknowledged at {position}, where the log has {other}")
    for attempt in request.acknowledged:
        if attempt.id and attempt.id != attempt.position:
            yield Violation("order", f"{request.subject}: id {attempt.id} at position {attempt.position}")


def _was_gone(request: Request, position: int, model: Model) -> bool:
    """Whether this deletes a tweet that was not there any more: a success that needs no entry."""
    kind, tweet_id, _, _ = request.subject
    return kind == DELETION and None in model.tweets[tweet_id].between(0, position)[-1:]


def check_ids_ascend(requests: Sequence[Request], entries: Sequence[LogEntry]) -> Iterator[Violation]:
    """What was acknowledged before another request was sent lies before it in the log."""
    known = {entry.position for entry in entries}
    spans = [
        (min(attempt.invoked for attempt in request.attempts), attempt.ended, attempt.position)
        for request in requests
        for attempt in request.acknowledged[:1]
        if request.subject[0] != DELETION and attempt.position in known
    ]
    for invoked, position, earlier in _greatest_before(spans):
        if position <= earlier:
            yield Violation(
                "order", f"{position}, asked for at {invoked:.6f}, is not above {earlier}, acknowledged before"
            )


def _greatest_before(spans: Sequence[tuple[float, float, int]]) -> Iterator[tuple[float, int, int]]:
    """For each (invoked, ended, position): time and position, and the greatest position that had ended by then."""
    by_end = sorted((ended, position) for _, ended, position in spans)
    ends = [ended for ended, _ in by_end]
    greatest = list(accumulate((position for _, position in by_end), max))
    for invoked, _, position in spans:
        before = bisect_left(ends, invoked)
        if before:
            yield invoked, position, greatest[before - 1]


def check_monotonic(operations: Iterable[Operation]) -> Iterator[Violation]:
    """No reading process goes back, and no answer is below the position that the request asked for."""
    by_process: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for operation in operations:
        if operation.kind not in READS or operation.outcome != "ok":
            continue
        if operation.position < operation.min_position:
            yield Violation("backwards", f"{_shown(operation)}: below the position asked for")
        if operation.process:
            by_process[operation.process].append((operation.invoked, operation.ended, operation.position))
    for process, spans in by_process.items():
        for invoked, position, earlier in _greatest_before(spans):
            if position < earlier:
                yield Violation(
                    "backwards", f"{process} was at {earlier}, and at {position} when asked at {invoked:.6f}"
                )


def check_reads(operations: Iterable[Operation], requests: Sequence[Request], model: Model) -> Iterator[Violation]:
    """What a read shows was so at a position from its own on, and before anything that was asked for later."""
    asked = sorted(
        (min(attempt.invoked for attempt in request.attempts), attempt.position)
        for request in requests
        for attempt in request.acknowledged[:1]
        if request.subject[0] != DELETION
    )
    times = [invoked for invoked, _ in asked]
    least = list(accumulate((position for _, position in reversed(asked)), min))[::-1]
    for operation in operations:
        if operation.kind in READS and operation.outcome == "ok":
            later = bisect_left(times, operation.ended)
            up_to = least[later] - 1 if later < len(least) else FOREVER
            for why in _contradictions(operation, max(up_to, operation.position), model):
                yield Violation("wrong_read", f"{_shown(operation)}: {why}")


def _contradictions(read: Operation, up_to: int, model: Model) -> Iterator[str]:
    seen = read.seen
    if read.kind == "read_tweet":
        timeline = model.tweets[read.target]
        state = None if seen is None else (seen["likes"], seen["retweets"], seen["replies"])
        if not timeline.is_ever(state, read.position, up_to):
            yield f"{state} instead of one of {timeline.between(read.position, up_to)[:9]}"
        if seen is not None:
            if seen["content"] != model.contents.get(read.target):
                yield f"the text is {model.contents.get(read.target)!r}"
            yield from _wrong_user(seen["author"], read.position, up_to, model)
    elif read.kind == "read_user":
        if seen is not None:
            yield from _wrong_user(seen, read.position, up_to, model)
        elif model.users[read.target].is_always_there(read.position, up_to):
            yield "the user was there all the time"
    elif seen is not None:
        yield from _wrong_list(read.target, seen["ids"], read.position, up_to, model)


def _wrong_user(seen: dict[str, Any], position: int, up_to: int, model: Model) -> Iterator[str]:
    timeline = model.users[seen["id"]]
    state = (seen["followers"], seen["following"])
    if not timeline.is_ever(state, position, up_to):
        yield f"user {seen['id']}: {state} instead of one of {timeline.between(position, up_to)[:9]}"


def _wrong_list(author: int, ids: Sequence[int], position: int, up_to: int, model: Model) -> Iterator[str]:
    """A page of an author's newest tweets lacks none that was there all the time, and has none that never was."""
    if list(ids) != sorted(ids, reverse=True):
        yield f"not newest first: {ids}"
    for tweet_id in ids:
        if model.authors.get(tweet_id) != author:
            yield f"{tweet_id} is not hers"
        elif all(state is None for state in model.tweets[tweet_id].between(position, up_to)):
            yield f"{tweet_id} was not there"
    own = model.tweets_of.get(author, [])
    for tweet_id in reversed(own):
        if len(ids) >= LIST_LENGTH and tweet_id < ids[-1]:
            break
        if tweet_id not in ids and model.tweets[tweet_id].is_always_there(position, up_to):
            yield f"{tweet_id} is missing"


def check_copies(history: History, model: Model) -> Iterator[Violation]:
    """Every copy holds the same, each counter equals its rows, and there are as many rows as the log makes."""
    expected = model.row_counts()
    for copy in history.copies:
        for row in copy.miscounted:
            yield Violation("miscounted", f"{copy.holder}: {row}")
        for table, count in expected.items():
            if copy.rows.get(table) != count:
                yield Violation("miscounted", f"{copy.holder}: {copy.rows.get(table)} {table} instead of {count}")
    for one, other in pairwise(history.copies):
        for table in one.hashes:
            if one.hashes[table] != other.hashes.get(table):
                yield Violation(
                    "copies_differ", f"{table}: {one.holder} at {one.position}, {other.holder} at {other.position}"
                )


def check_names(history: History, model: Model) -> Iterator[Violation]:
    """Redis holds the names of the accounts, and no other."""
    expected = {
        name.lower(): user_id for user_id, name in model.names.items() if model.users[user_id].latest is not None
    }
    for names in history.names:
        for name, user_id in names.holders.items() - expected.items():
            yield Violation("half_applied", f"the name {name} is held by {user_id}, which the log does not know")
        for name, user_id in expected.items() - names.holders.items():
            yield Violation("half_applied", f"user {user_id} does not hold the name {name}")


def check_end(history: History) -> Iterator[Violation]:
    """The run came to an end that could be looked at, and nothing met a bug on the way."""
    for incomplete in history.incomplete:
        yield Violation("failed", incomplete.reason)
    for fault in history.faults:
        if not fault.recovered:
            yield Violation("failed", f"{fault.victim} did not recover from {fault.kind}: {fault.detail}")
    for operation in history.operations:
        if operation.status == 500 or operation.code == "idempotency_mismatch":
            yield Violation("failed", f"{_shown(operation)} was answered {operation.status} {operation.code}")


def _shown(operation: Operation) -> str:
    return (
        f"{operation.kind} {operation.target or operation.content} of {operation.client} at {operation.invoked:.6f} "
        f"by {operation.process} at position {operation.position} (asked for {operation.min_position})"
    )
