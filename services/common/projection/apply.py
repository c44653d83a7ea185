"""Turning entries into rows. No clock, no randomness, no network: the same log gives the same tables everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, bindparam, update
from sqlmodel import col

from services.common import events
from services.common.database import driver_errors
from services.common.events import (
    AccountDeleted,
    DeadLetterDropped,
    DeadLetterReplayed,
    EpochStarted,
    Event,
    Malformed,
    UserCreated,
)
from services.common.log.entry import Entry
from services.common.models import Applied
from services.common.projection.dead_letters import take_dead_letter
from services.common.projection.deletion import delete_account
from services.common.projection.handlers import HANDLERS, WANTS, DeadLettered, Ignored
from services.common.projection.rows import Rows, Wanted
from services.common.projection.statements import change

_ALONE: Final = frozenset({AccountDeleted, DeadLetterReplayed, DeadLetterDropped})
"""What is applied by the database, between the entries before it and those after it; a batch is applied in parts."""
# Made once: to make a statement takes several times as long as to run it.
_ADVANCE: Final = update(Applied).values(
    position=bindparam("to_position"), entries=col(Applied.entries) + bindparam("more")
)
_BEGIN_EPOCH: Final = update(Applied).values(epoch=bindparam("new_epoch"))


@dataclass(slots=True)
class Touched:
    """What a batch changed, for caches.

    ``tweets`` and ``users`` were created or deleted, or have other counters or another profile; of ``authors`` the
    list of tweets, or a counter in it, changed. ``users_created`` are those whose names were taken. Of those
    ``appearing`` there may be a tweet or retweet more or less than before: what home timelines are made of.
    """

    tweets: set[int] = field(default_factory=set)
    users: set[int] = field(default_factory=set)
    authors: set[int] = field(default_factory=set)
    users_created: set[int] = field(default_factory=set)
    appearing: set[int] = field(default_factory=set)


@dataclass(slots=True)
class AppliedBatch:
    """What applying a batch did.

    ``by_type`` counts its entries and the dead letters replayed, ``ignored`` those without effect by reason.
    ``dead_letters`` are entries refused, also again; ``dead_letters_taken`` counts those replayed or dropped.
    """

    position: int
    entries: int
    touched: Touched = field(default_factory=Touched)
    dead_letters: list[tuple[Entry, str]] = field(default_factory=list)
    dead_letters_taken: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)


def apply(connection: Connection, entries: Sequence[Entry]) -> AppliedBatch:
    """Apply consecutive entries and the new position inside the caller's transaction.

    The caller has checked that they continue from the applied position (check_chain). Any database error is a
    bug or a fault of the environment, never a decision: roll back, and stop or retry.
    """
    pairs = [(entry, decoded(entry)) for entry in entries]
    batch = AppliedBatch(position=entries[-1].position, entries=len(entries))
    with driver_errors(connection):
        for is_alone, part in groupby(pairs, _is_alone):
            if is_alone:
                for _, event in part:
                    _apply_alone(connection, batch, event)
            else:
                _apply_part(connection, batch, list(part))
        _advance(connection, batch, [event.epoch for _, event in pairs if isinstance(event, EpochStarted)])
    return batch


def _is_alone(pair: tuple[Entry, Event | Malformed]) -> bool:
    return type(pair[1]) in _ALONE


def _apply_part(connection: Connection, batch: AppliedBatch, part: list[tuple[Entry, Event | Malformed]]) -> None:
    wanted = Wanted()
    for entry, event in part:
        WANTS[event.name](wanted, event, entry.position)
    rows = Rows(connection, wanted)
    for entry, event in part:
        try:
            HANDLERS[event.name](rows, event, entry.position)
        except Ignored as ignored:
            batch.ignored[ignored.reason] += 1
        except DeadLettered as refused:
            _refuse(rows, batch, entry, refused.reason)
    batch.by_type.update([event.name for _, event in part])
    rows.write(connection)
    _summarise(rows, wanted, batch)


def _apply_alone(connection: Connection, batch: AppliedBatch, event: Event | Malformed) -> None:
    match event:
        case AccountDeleted():
            _delete_account(connection, batch, event)
        case DeadLetterReplayed():
            _replay_dead_letter(connection, batch, event)
        case DeadLetterDropped():
            batch.by_type[event.name] += 1
            _take_dead_letter(connection, batch, event.position)


def _replay_dead_letter(connection: Connection, batch: AppliedBatch, event: DeadLetterReplayed) -> None:
    """Apply the entry as if it came now, under its own position; refused again, it is back with the new reason."""
    batch.by_type[event.name] += 1
    entry = _take_dead_letter(connection, batch, event.position)
    if entry is None:
        return
    replayed = decoded(entry)
    if entry.name == UserCreated.name:
        replayed = Malformed("given_back")  # the name, the e-mail and the credentials: somebody else may have them
    if type(replayed) in _ALONE:
        _apply_alone(connection, batch, replayed)
    else:
        _apply_part(connection, batch, [(entry, replayed)])


def _take_dead_letter(connection: Connection, batch: AppliedBatch, position: int) -> Entry | None:
    entry = take_dead_letter(connection, position)
    if entry is None:
        batch.ignored["no_such_dead_letter"] += 1
    else:
        batch.dead_letters_taken += 1
    return entry


def _delete_account(connection: Connection, batch: AppliedBatch, event: AccountDeleted) -> None:
    batch.by_type[event.name] += 1
    bereft = delete_account(connection, event.user_id)
    if bereft is None:
        batch.ignored["no_such_user"] += 1
        return
    batch.touched.users |= {event.user_id} | bereft.users
    batch.touched.tweets |= bereft.tweets
    batch.touched.authors |= {event.user_id} | bereft.authors
    batch.touched.appearing.add(event.user_id)


def decoded(entry: Entry) -> Event | Malformed:
    """The event of an entry, or what is wrong with it."""
    try:
        return events.decode(entry.name, entry.payload)
    except Malformed as malformed:
        return malformed


def _refuse(rows: Rows, batch: AppliedBatch, entry: Entry, reason: str) -> None:
    batch.dead_letters.append((entry, reason))
    rows.dead_letters.append(
        {
            "position": entry.position,
            "name": entry.name,
            "version": entry.version,
            "payload": entry.payload,
            "reason": reason,
        }
    )


def _summarise(rows: Rows, wanted: Wanted, batch: AppliedBatch) -> None:
    touched, by_id = batch.touched, rows.tweets.by_id
    tweets = rows.tweets.added | rows.tweets.changed
    touched.tweets |= tweets
    touched.users |= rows.users.added | rows.users.changed
    touched.authors |= {by_id[tweet_id].user_id for tweet_id in tweets}
    touched.users_created |= rows.users.added
    touched.appearing |= {by_id[tweet_id].user_id for tweet_id in rows.tweets.added}
    touched.appearing |= {by_id[tweet_id].user_id for tweet_id in rows.tweets.changed if by_id[tweet_id].deleted}
    touched.appearing |= {user_id for _, user_id in wanted.retweets}


def _advance(connection: Connection, batch: AppliedBatch, epochs: list[int]) -> None:
    change(connection, _ADVANCE, to_position=batch.position, more=batch.entries)
    if epochs:
        change(connection, _BEGIN_EPOCH, new_epoch=epochs[-1])
