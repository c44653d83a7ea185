"""``twitter dead-letters`` on a real system: what is decided about a letter, every copy agrees on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import ClassVar

import pytest

from services.common.events import Event
from services.common.log.append import AppendItem
from services.common.log.client import EventLog
from tests.support.commands import twitter, twitter_json
from tests.support.owner import append
from tests.support.system import System


class Nonsense(Event, frozen=True):
    """Malformed within a version that everybody knows."""

    name: ClassVar[str] = "tweet_liked"
    tweet_id: str


class HalfAnAccount(Event, frozen=True):
    """An account without a name."""

    name: ClassVar[str] = "user_created"


@pytest.fixture
def log(system: System) -> Iterator[EventLog]:
    """The log of the shared system."""
    with closing(EventLog(system.redis.url)) as client:
        yield client


def dead_letter(system: System, log: EventLog, event: Event) -> int:
    """The position of an entry that everybody has refused."""
    (position,) = append(log, AppendItem(event))
    system.wait_until_applied(position)
    return position


def listed(system: System, after: int) -> list[int]:
    """The dead letters after a position."""
    return [letter["position"] for letter in twitter_json(system, "dead-letters", "list", "--after", str(after - 1))]


def test_a_letter_is_listed_shown_replayed_and_dropped(system: System, log: EventLog) -> None:
    """Still refused it stays, with exit code 1; dropped it is gone; rebuild says the same."""
    position = dead_letter(system, log, Nonsense(tweet_id="\x1b[2Jnot a number"))
    assert listed(system, position) == [position]
    shown = twitter_json(system, "dead-letters", "show", str(position))
    assert (shown["name"], shown["reason"]) == ("tweet_liked", "malformed_payload")
    assert "not a number" in shown["payload"]
    assert "\x1b" not in twitter(system, "dead-letters", "show", str(position)).output
    replayed = twitter(system, "dead-letters", "replay", str(position))
    assert (replayed.exit_code, replayed.stdout) == (1, f"{position} refused: malformed_payload\n")
    assert listed(system, position) == [position]
    (dropped,) = twitter_json(system, "dead-letters", "drop", str(position))
    assert dropped["outcome"] == "dropped"
    system.wait_until_applied(dropped["event_position"])
    assert listed(system, position) == []
    assert "dead_letters 0.0" in system.owner.metrics()
    assert all(table["is_equal"] for table in twitter_json(system, "verify")["tables"].values())


def test_an_account_is_not_replayed_and_what_is_no_letter_is_not_found(system: System, log: EventLog) -> None:
    """Nothing is appended for either."""
    position = dead_letter(system, log, HalfAnAccount())
    head = log.head()
    refused = twitter(system, "dead-letters", "replay", str(position))
    assert (refused.exit_code, "were given back: drop it" in refused.stderr) == (1, True)
    for command in ("show", "replay", "drop"):
        missing = twitter(system, "dead-letters", command, str(position - 1))
        assert (missing.exit_code, "there is no dead letter" in missing.stderr) == (1, True)
    assert log.head() == head
    twitter_json(system, "dead-letters", "drop", str(position))
