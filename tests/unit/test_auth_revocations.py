"""A verifier remembers a revocation for as long as a token from before it can live, and never more than it may."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from services.common.auth import Revocations
from services.common.auth.revocations import KEPT_SECONDS
from services.common.auth.tokens import LEEWAY_SECONDS, LIFE_SECONDS


class Clock:
    """A time that stands still."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """The time of the test's world."""
    return Clock()


def test_of_several_revocations_the_latest_counts(clock: Clock) -> None:
    """Also when an entry is seen again, or an older one after a newer one."""
    revocations = Revocations(clock)
    for position in (10, 30, 20, 10):
        revocations.note(1, position)
    assert [revocations.revoked_position(user_id) for user_id in (1, 2)] == [30, 0]


def test_a_revocation_outlives_the_tokens_it_ends(clock: Clock) -> None:
    """It is forgotten only when the last of them has expired everywhere."""
    assert LIFE_SECONDS["access"] + 2 * LEEWAY_SECONDS < KEPT_SECONDS
    revocations = Revocations(clock)
    revocations.note(1, 10)
    clock.seconds = KEPT_SECONDS
    revocations.note(2, 20)
    assert revocations.revoked_position(1) == 10
    clock.seconds += 1
    revocations.note(3, 30)
    assert [revocations.revoked_position(user_id) for user_id in (1, 2, 3)] == [0, 20, 30]


def test_a_second_revocation_is_remembered_as_long_as_a_first(clock: Clock) -> None:
    """The user's place in the queue is that of the last revocation."""
    revocations = Revocations(clock)
    revocations.note(1, 10)
    clock.seconds = KEPT_SECONDS
    revocations.note(1, 20)
    clock.seconds = 2 * KEPT_SECONDS
    revocations.note(2, 30)
    assert revocations.revoked_position(1) == 20


def test_the_user_who_is_forgotten_early_is_the_one_revoked_first(clock: Clock) -> None:
    """So that no more tokens are refused than must be."""
    revocations = Revocations(clock, users_max=2)
    for user_id, position in ((1, 10), (2, 20), (1, 30), (3, 40)):
        revocations.note(user_id, position)
    assert [revocations.revoked_position(user_id) for user_id in (1, 2, 3, 4)] == [30, 20, 40, 20]


def test_an_old_entry_seen_again_does_not_lift_what_was_forgotten_early(clock: Clock) -> None:
    """A follower may read an entry twice; the later revocation of the same user still counts."""
    revocations = Revocations(clock, users_max=1)
    for user_id, position in ((1, 20), (2, 30), (1, 10)):
        revocations.note(user_id, position)
    assert revocations.revoked_position(1) >= 20


def test_a_jump_of_the_logs_clock_forgets_nothing(clock: Clock) -> None:
    """Positions may be an hour ahead of the truth (ADR 2); time is what has passed here."""
    revocations = Revocations(clock)
    revocations.note(1, 10)
    revocations.note(2, 10 + 3_600_000 * 4096)
    assert revocations.revoked_position(1) == 10


def test_a_full_memory_refuses_too_much_rather_than_too_little(clock: Clock) -> None:
    """Who is forgotten early stays revoked, with everybody whose token is as old; said once."""
    revocations = Revocations(clock, users_max=2)
    with capture_logs() as logs:
        for user_id in (1, 2, 3, 4):
            revocations.note(user_id, user_id * 10)
    assert [revocations.revoked_position(user_id) for user_id in (1, 2, 3, 4, 5)] == [20, 20, 30, 40, 20]
    assert len(revocations._noted) == 2
    assert [entry["event"] for entry in logs] == ["revocations_full"]
