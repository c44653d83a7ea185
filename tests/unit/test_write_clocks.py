"""The clock nobody can turn back, and Redis's clock as seen from here."""

from __future__ import annotations

from services.write.clocks import LogView, TrustedClock, elapsed_ms


class Clocks:
    """A wall clock and an elapsed-time clock that the test sets."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000_000
        self.elapsed = 5_000


def test_the_trusted_clock_does_not_follow_a_jump_of_the_wall_clock() -> None:
    """HAZARDS 14: set to 2090 for a minute, it must not become the measure of Redis's TIME."""
    clocks = Clocks()
    clock = TrustedClock(wall_ms=lambda: clocks.wall, elapsed=lambda: clocks.elapsed)
    clocks.wall += 10**12
    clocks.elapsed += 1_234
    assert clock.now_ms() == 1_800_000_001_234


def test_elapsed_time_only_grows() -> None:
    """In milliseconds."""
    first = elapsed_ms()
    assert elapsed_ms() >= first > 0


def test_redis_time_is_reckoned_from_the_middle_of_question_and_answer() -> None:
    """Wrong by half the round trip at most."""
    view = LogView()
    view.observe_time(1_800_000_000_000, asked=100.0, answered=100.2)
    assert view.redis_ms(100.1) == 1_800_000_000_000
    assert view.redis_ms(100.9) == 1_800_000_000_800


def test_the_newest_observation_of_the_time_counts() -> None:
    """After a failover another server answers, with another clock."""
    view = LogView()
    view.observe_time(1_800_000_000_000, asked=100.0, answered=100.0)
    view.observe_time(1_799_999_990_000, asked=101.0, answered=101.0)
    assert view.redis_ms(101.5) == 1_799_999_990_500


def test_the_head_never_goes_back() -> None:
    """HAZARDS 1: that it once was greater is what gives a fork away."""
    view = LogView()
    view.observe_head(15)
    view.observe_head(10)
    assert view.head == 15
